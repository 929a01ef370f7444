"""A study's network in use: any picture, any gallery, an index that is kept, re-ranking."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from analysis import explore, report, retrieve
from analysis.gallery import index as index_module
from analysis.gallery import neighbours, neighbours_figure, pictures, search
from analysis.gallery.index import Index, index_of
from analysis.gallery.networks import Chosen, choices, chosen
from analysis.gallery.pictures import INDEXES, Gallery, distinct, of_files, of_study
from study.results.images import validation_images
from study.results.studies import Study
from study.run.progress import INTERRUPTED
from tests.small_data import SmallData, use
from tests.small_studies import TEST, VALIDATION, trial, write_study
from tests.test_reranking import unit
from trainables.config import TrialConfig
from trainables.data import Split
from trainables.data.fashion_mnist import CLASSES, FashionMnist, as_fashion
from trainables.data.pixels.decode import shown
from trainables.reranking import RERANKINGS
from trainables.train import TrainingRun
from trainables.trained import embed, embed_pixels

EXAMPLES = Path(retrieve.__file__).parent / "examples"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set of every study is a small one."""
    use(monkeypatch, SmallData(VALIDATION, VALIDATION, TEST))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    trials = trial("smooth_ap", 0, [0.6]), trial("triplet", 0, [0.3])
    trials[1].config = trials[1].config.replace(seed=5)  # other weights
    return write_study(tmp_path / "study", *trials)


@pytest.fixture
def network(study: Study) -> Chosen:
    return chosen(study)


def noise(path: Path, seed: int, size: tuple[int, int] = (28, 28)) -> Path:
    """A grey picture on black, which the data set takes as it is."""
    pixels = np.random.default_rng(seed).integers(256, size=size).astype(np.uint8)
    pixels[[0, -1]] = pixels[:, [0, -1]] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of six pictures."""
    for number in range(12):
        noise(tmp_path / "photos" / "ab"[number // 6] / f"{number}.png", number)
    return tmp_path / "photos"


def boot(path: Path, turned: bool) -> Path:
    """A drawing of a boot on white, in colour; turned: as a camera on its side stores it."""
    image = Image.new("RGB", (168, 120), (250, 250, 246))
    draw = ImageDraw.Draw(image)
    draw.polygon([(15, 93), (19, 80), (70, 60), (90, 18), (144, 17), (150, 93)], (120, 72, 40))
    draw.rectangle((14, 93, 150, 101), (45, 30, 25))
    exif = Image.Exif()
    if turned:
        image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
    image.save(path, exif=exif)
    return path


def test_the_drawing_of_a_boot_finds_footwear(real_split: Split) -> None:
    """Coloured, dark on white, on its side by EXIF; the network has seen nothing of the kind."""
    config = TrialConfig(
        loss="normalized_softmax", optimizer="adam", lr=3e-3, epochs=3, schedule="cosine"
    )
    run = TrainingRun(config, real_split)
    for _ in run:
        pass
    with Image.open(EXAMPLES / "boot.jpg") as asks:
        assert asks.size == (300, 420) and asks.getexif()[0x0112] == 6 and asks.mode == "RGB"
    pixels = FashionMnist().picture(EXAMPLES / "boot.jpg")
    network = run.learner.network
    query = embed_pixels(network, torch.from_numpy(pixels[None]))
    found = search.exact(query, embed(network, real_split.validation).numpy(), 20)
    classes = [CLASSES[label] for label in real_split.validation.labels[found.rows[0]]]
    assert sum(name in ("Ankle boot", "Sneaker", "Sandal") for name in classes) >= 18


def test_the_readmes_figure_shows_what_is_said_of_it() -> None:
    table = pd.read_csv(EXAMPLES / "neighbours.csv")
    said = (
        "The twenty nearest of 6,000 validation images to the drawing of a boot, all of them ankle"
    )
    assert said in (EXAMPLES.parents[1] / "README.md").read_text()
    assert table["rank"].tolist() == list(range(1, 21))
    assert set(table["class"]) == {"Ankle boot"} and set(table["query"].map(Path).map(str)) == {
        "analysis/examples/boot.jpg"
    }


def slow_nearest(queries: Sequence[Any], gallery: Sequence[Any], own: Sequence[int]) -> list:
    """By query, (squared distance, row), the nearest first."""
    found = []
    for query, mine in zip(queries, own, strict=True):
        pairs = [
            (sum((a - b) ** 2 for a, b in zip(query, row, strict=True)), place)
            for place, row in enumerate(gallery)
            if place != mine
        ]
        found.append(sorted(pairs))
    return found


def test_a_picture_becomes_what_the_data_has(tmp_path: Path) -> None:
    made = as_fashion(shown(boot(tmp_path / "boot.png", turned=True), "L"))
    upright = as_fashion(shown(boot(tmp_path / "upright.png", turned=False), "L"))
    np.testing.assert_array_equal(made, upright)
    rows, columns = np.flatnonzero((made > 40).any(1)), np.flatnonzero((made > 40).any(0))
    assert made.shape == (28, 28) and made.dtype == np.uint8
    # Its longer side fills the picture, the other is in the middle; light on black.
    assert (columns[0], columns[-1]) == (0, 27)
    assert abs(rows[0] - (27 - rows[-1])) <= 1 and rows[0] > 3
    assert made[0].max() == 0 and made[rows[-1], 14] > 180  # the sole


def test_a_picture_of_the_data_set_stays_as_it_is() -> None:
    for picture in VALIDATION.images[:5, 0]:
        own = picture.copy()
        own[[0, -1]] = own[:, [0, -1]] = 0
        np.testing.assert_array_equal(as_fashion(Image.fromarray(own)), own)


def test_a_picture_of_one_grey_is_black() -> None:
    assert not as_fashion(Image.new("L", (50, 40), 255)).any()


def test_of_several_losses_the_best_is_taken_unless_one_is_named(study: Study) -> None:
    assert list(choices(study)) == ["smooth_ap", "triplet"]
    assert chosen(study).loss == "smooth_ap"
    other = chosen(study, "triplet")
    assert other.choice.trial_id == "triplet-000"
    assert other.fingerprint != chosen(study).fingerprint
    assert other.fingerprint == chosen(study, "triplet").fingerprint


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_exact_search_is_the_slow_ranking(data: st.DataObject) -> None:
    count, asks = data.draw(st.integers(2, 30)), data.draw(st.integers(1, 6))
    seed = data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)  # small whole numbers, so that many distances are equal
    gallery = rng.integers(-2, 3, size=(count, 3)).astype(np.float32)
    queries = torch.from_numpy(rng.integers(-2, 3, size=(asks, 3)).astype(np.float32))
    own = rng.integers(-1, count, size=asks)
    k = data.draw(st.integers(1, count - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "PIECE", data.draw(st.integers(1, 50)))
        patch.setattr(search, "QUERIES", data.draw(st.integers(1, 4)))
        found = search.exact(queries, gallery, k, own)
    slow = slow_nearest(queries.tolist(), gallery.tolist(), own)
    assert found.rows.tolist() == [[row for _, row in pairs[:k]] for pairs in slow]
    assert found.distances.tolist() == [[d for d, _ in pairs[:k]] for pairs in slow]


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call has embedded."""
    counts: list[int] = []

    def count(net: Any, pixels: torch.Tensor) -> torch.Tensor:
        counts.append(len(pixels))
        return embed_pixels(net, pixels)

    monkeypatch.setattr(index_module, "embed_pixels", count)
    return counts


def rows_of(index: Index, gallery: Gallery) -> dict[str, list[float]]:
    """By name of the picture, its embedding."""
    names = [gallery.names[place] for place in index.places]
    return dict(zip(names, np.array(index.embeddings).tolist(), strict=True))


def test_an_index_is_made_once(photos: Path, network: Chosen, embedded: list[int]) -> None:
    gallery = of_files(photos, network.dataset)
    first = index_of(gallery, network)
    assert first.folder == photos / INDEXES / network.fingerprint and "made" in first.news
    again = index_of(of_files(photos, network.dataset), network)
    assert embedded == [12] and "used again" in again.news
    pixels = np.stack([np.array(Image.open(path)) for path in gallery.paths or ()])[:, None]
    wanted = embed_pixels(network.network, torch.from_numpy(pixels))
    np.testing.assert_allclose(again.embeddings, wanted, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(again.embeddings, axis=1), 1, atol=1e-6)


def test_of_a_stale_index_only_what_changed_is_made(
    photos: Path, network: Chosen, embedded: list[int]
) -> None:
    before = of_files(photos, network.dataset)
    old = rows_of(index_of(before, network), before)
    noise(photos / "a" / "0.png", 99)
    noise(photos / "b" / "new.png", 100)
    (photos / "a" / "1.png").unlink()
    after = of_files(photos, network.dataset)
    index = index_of(after, network)
    assert "stale, 2 new or changed, 2 gone" in index.news and embedded == [12, 2]
    new = rows_of(index, after)
    assert set(new) == {*old, "b/new.png"} - {"a/1.png"}
    assert [name for name in old if name in new and new[name] != old[name]] == ["a/0.png"]


def test_the_index_of_another_network_is_left_alone(
    photos: Path, study: Study, network: Chosen, embedded: list[int]
) -> None:
    gallery = of_files(photos, network.dataset)
    index_of(gallery, network)
    other = index_of(gallery, chosen(study, "triplet"))
    assert f"beside it lie those of other networks, {network.fingerprint}" in other.news
    assert "used again" in index_of(gallery, network).news and embedded == [12, 12]


def test_an_interrupted_pass_keeps_what_it_has(
    photos: Path, network: Chosen, embedded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = of_files(photos, network.dataset)
    monkeypatch.setattr(index_module, "BLOCK", 5)
    counted = index_module.embed_pixels

    def interrupted(net: Any, pixels: torch.Tensor) -> torch.Tensor:
        if len(embedded) == 2:
            raise KeyboardInterrupt
        return counted(net, pixels)

    monkeypatch.setattr(index_module, "embed_pixels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index_of(gallery, network)
    monkeypatch.setattr(index_module, "embed_pixels", counted)
    index = index_of(gallery, network)
    assert "completed, of which 10 were there" in index.news and embedded == [5, 5, 2]
    assert list(index.places) == list(range(12))
    assert [one.name for one in index.folder.parent.iterdir()] == [network.fingerprint]


def test_what_cannot_be_read_is_left_out_and_named(photos: Path, network: Chosen) -> None:
    (photos / "a" / "broken.png").write_bytes(b"none")
    (photos / "b" / "empty.png").touch()
    for _ in range(2):
        found = neighbours.find(
            [photos / "a" / "0.png"], of_files(photos, network.dataset), network, k=20
        )
        assert found.ranked == 11 and found.places.shape == (1, 11)
        said = "left out, as they cannot be read: 2 (a/broken.png: is no picture of a known"
        assert any(said in line and "b/empty.png: is empty" in line for line in found.news)
        assert any("k is 20; the gallery has 11" in line for line in found.news)


def test_where_no_index_can_be_kept_it_goes_elsewhere(
    photos: Path, network: Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    (photos / INDEXES).write_text("a file where the folder would be")
    gallery = of_files(photos, network.dataset)
    assert index_of(gallery, network).folder.is_relative_to(tmp_path / "temporary")
    assert "used again" in index_of(gallery, network).news


@pytest.mark.parametrize("damage", ["embeddings.npy", "about.json", "states.json"])
def test_a_damaged_index_is_made_anew(
    photos: Path, network: Chosen, embedded: list[int], damage: str
) -> None:
    gallery = of_files(photos, network.dataset)
    folder = index_of(gallery, network).folder
    content = (folder / damage).read_bytes()
    (folder / damage).write_bytes(content[: len(content) // 2])
    assert "made" in index_of(gallery, network).news and embedded == [12, 12]


def test_a_picture_of_the_gallery_is_left_out_of_its_own_ranking(
    photos: Path, network: Chosen
) -> None:
    gallery = of_files(photos, network.dataset)
    asks = [photos / "a" / "3.png", photos / "b" / "7.png"]
    found = neighbours.find(asks, gallery, network, k=11)
    table = found.table()
    assert found.query_labels == ("a", "b")
    for ask, rows in table.groupby("query"):
        assert len(rows) == 11 and Path(str(ask)).name not in {
            Path(p).name for p in rows["picture"]
        }
    right = table["class"] == table["query"].map(lambda query: Path(query).parent.name)
    np.testing.assert_array_equal(found.right.ravel(), right)


def test_two_boxes_of_a_file_are_two_pictures(
    study: Study, network: Chosen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the study's own gallery the name alone is known, and it is the same."""
    assert distinct(["a", "b", "a", "a"]) == ("a", "b", "a #2", "a #3")
    images = validation_images(study)
    named = images._replace(names=("street.jpg",) * 60)
    monkeypatch.setattr(pictures, "validation_images", lambda *_: named)
    for _ in ("made", "read again"):
        gallery = of_study(study)
        found = neighbours.find([noise(tmp_path / "q.png", 1)], gallery, network, k=60)
        assert sorted(found.places[0]) == list(range(60))


def test_an_equal_picture_elsewhere_is_the_nearest_at_no_distance(
    photos: Path, network: Chosen, tmp_path: Path
) -> None:
    ask = tmp_path / "mine.png"
    ask.write_bytes((photos / "b" / "8.png").read_bytes())
    found = neighbours.find([ask], of_files(photos, network.dataset), network, k=3, label="a")
    first = found.table().iloc[0]
    assert first["picture"] == "b/8.png" and first["squared_distance"] == pytest.approx(0, abs=1e-5)
    assert found.right[0, 0] == 0 and found.query_labels == ("a",)


def test_a_gallery_without_classes(photos: Path, network: Chosen, tmp_path: Path) -> None:
    noise(photos / "loose.png", 50)
    (tmp_path / "list.csv").write_text("path\nphotos/a/0.png\nphotos/b/7.png\n")
    for path, count in ((photos, 13), (tmp_path / "list.csv", 2)):
        gallery = of_files(path, network.dataset)
        assert len(gallery) == count and gallery.labels is None
        found = neighbours.find([noise(tmp_path / "q.png", 1)], gallery, network, k=2, label="a")
        assert (found.right == -1).all() and "class" not in found.table()


def test_retrieve_writes_what_it_prints(
    study: Study, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = boot(tmp_path / "boot.png", turned=True)
    words = [str(study.folder), str(ask), str(photos / "a" / "2.png"), "--gallery", str(photos)]
    assert retrieve.main([*words, "-k", "4", "--label", "a"]) == 0
    out, folder = capsys.readouterr().out, study.folder / "retrieved"
    table = pd.read_csv(folder / "neighbours.csv")
    nested = json.loads((folder / "neighbours.json").read_text())
    assert [one["query"] for one in nested] == [str(ask), str(photos / "a" / "2.png")]
    flat = [row | {"query": one["query"]} for one in nested for row in one["neighbours"]]
    pd.testing.assert_frame_equal(pd.DataFrame(flat)[table.columns.tolist()], table)
    assert table["rank"].tolist() == [1, 2, 3, 4] * 2
    assert all(
        rows["squared_distance"].is_monotonic_increasing for _, rows in table.groupby("query")
    )
    for name in ("png", "svg"):
        assert (folder / f"neighbours.{name}").stat().st_size > 1_000
    assert "Smooth-AP, smooth_ap-000" in out and f"written: {folder}" in out
    assert all(picture in out for picture in table["picture"])


def test_the_own_gallery_is_the_validation_images(study: Study, tmp_path: Path) -> None:
    ask = noise(tmp_path / "q.png", 3)
    assert retrieve.main([str(study.folder), str(ask), "-k", "99", "--loss", "triplet"]) == 0
    table = pd.read_csv(study.folder / "retrieved" / "neighbours.csv")
    assert sorted(table["picture"]) == sorted(f"validation image {n}" for n in range(60))
    mine = chosen(study, "triplet").network
    pixels = torch.from_numpy(np.array(Image.open(ask))[None, None])
    query, gallery = (
        embed_pixels(mine, pixels),
        embed_pixels(mine, torch.from_numpy(VALIDATION.images)),
    )
    wanted = np.sort(((gallery - query) ** 2).sum(1).numpy())
    np.testing.assert_allclose(table["squared_distance"], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "law"),
    [
        (["STUDY", "none.png"], "a query must be a picture that can be read; none.png: no such"),
        (["STUDY", "broken.png"], "broken.png: is no picture of a known format"),
        (["STUDY", "q.png", "-k", "0"], "k must be at least 1; got 0"),
        (["STUDY", "q.png", "--loss", "tripplet"], "smooth_ap, triplet; got tripplet; did you"),
        (["STUDY", "q.png", "--gallery", "nowhere"], "nowhere does not exist"),
        (["STUDY", "q.png", "--gallery", "empty"], "empty must hold pictures; got none"),
        (["STUDY", "q.png", "--gallery", "bad"], "of 1 none can: broken.png: is no picture of"),
        (["STUDY", "q.png", "--gallery", "alone"], "a picture that is not the query; got none"),
        (["STUDY", "q.png", "--gallery", "q.png"], "a file .csv or .tsv; got"),
        (["empty", "q.png"], "empty is not a study"),
        (["STUDY", "q.png", "--label", "Coatt"], "got 'Coatt'; did you mean Coat?"),
        (["STUDY", "q.png", "--output", "q.png"], "--output must be a folder; q.png is a file"),
    ],
)
def test_wrong_inputs_are_one_line(
    words: list[str],
    law: str,
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "q.png", 1)
    for name in ("broken.png", "bad/broken.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"none")
    (tmp_path / "empty").mkdir()
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "q.png").symlink_to(tmp_path / "q.png")
    assert retrieve.main([str(study.folder) if word == "STUDY" else word for word in words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and law in captured.err
    assert captured.err.count("\n") == 1 and not captured.out


def test_a_record_has_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = str(EXAMPLES.parents[1] / "study" / "records" / "2026-11-26-emoji-fold-0")
    for words in ([record, str(noise(tmp_path / "q.png", 1))], [record]):
        program = retrieve if len(words) > 1 else explore
        assert program.main(words) == 2
        assert "a published record has no weights" in capsys.readouterr().err


def test_a_study_without_its_weights_says_so(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (study.folder / "tune" / "smooth_ap-000" / "best.pt").unlink()
    assert retrieve.main([str(study.folder), str(noise(tmp_path / "q.png", 1))]) == 2
    assert "the checkpoint of trial smooth_ap-000 is missing" in capsys.readouterr().err


def test_of_many_a_figure_shows_the_first_and_the_table_all(
    study: Study, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours_figure, "QUERIES", 2)
    monkeypatch.setattr(neighbours_figure, "NEAREST", 3)
    asks = [str(photos / "a" / f"{number}.png") for number in range(4)]
    assert retrieve.main([str(study.folder), *asks, "--gallery", str(photos), "-k", "9"]) == 0
    assert len(pd.read_csv(study.folder / "retrieved" / "neighbours.csv")) == 36
    drawn = []
    monkeypatch.setattr(neighbours_figure, "draw_retrieval", lambda *a, **k: drawn.append(a[1]))
    assert retrieve.main([str(study.folder), *asks, "--gallery", str(photos), "-k", "9"]) == 0
    assert drawn[0].neighbours.shape == (2, 3)


def test_interrupted_by_its_user(
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(neighbours, "index_of", interrupt)
    assert retrieve.main([str(study.folder), str(noise(tmp_path / "q.png", 1))]) == INTERRUPTED
    assert "what was embedded is kept" in capsys.readouterr().err


def test_re_ranking_changes_the_order_of_the_nearest_alone(
    photos: Path, network: Chosen, tmp_path: Path
) -> None:
    gallery, ask = of_files(photos, network.dataset), [noise(tmp_path / "q.png", 77)]
    plain = neighbours.find(ask, gallery, network, k=12)
    for name in RERANKINGS:
        other = neighbours.find(ask, gallery, network, k=12, rerank=name)
        both = [dict(zip(one.places[0], one.distances[0], strict=True)) for one in (plain, other)]
        assert both[0] == both[1]
        x = torch.cat(
            [
                embed_pixels(network.network, torch.from_numpy(plain.pixels)),
                torch.from_numpy(np.array(index_of(gallery, network).embeddings)),
            ]
        )
        both = x[[0, *(1 + plain.places[0])]]
        distances = RERANKINGS[name](both, 1, np.arange(1, 13), None)[0, 1:]
        assert list(other.places[0]) == list(plain.places[0][np.argsort(distances, kind="stable")])


def test_approximate_search_says_its_recall(tmp_path: Path) -> None:
    gallery = unit(3_000, 8).numpy()
    lists = search.Approximate.beside(tmp_path, gallery)
    queries = torch.from_numpy(gallery[:20])
    wanted, found = search.exact(queries, gallery, 10), lists.nearest(queries, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(wanted.rows, found.rows, strict=True)]
    assert 0.95 <= lists.recall <= 1 and lists.sample == 100 and sum(shared) / 200 > 0.9
    again = search.Approximate.beside(tmp_path, gallery)
    np.testing.assert_array_equal(again.nearest(queries, 10).rows, found.rows)
    own = lists.nearest(queries, 5, np.arange(20))
    assert not (own.rows == np.arange(20)[:, None]).any()
    np.testing.assert_allclose(found.distances[:, 1:6], own.distances, atol=1e-6)


def test_approximate_search_finds_as_many_as_it_is_asked(
    photos: Path, network: Chosen, tmp_path: Path
) -> None:
    gallery = unit(2_000, 8).numpy()
    lists = search.Approximate.beside(tmp_path, gallery)
    found = lists.nearest(torch.from_numpy(gallery[:2]), 1_999, np.array([0, 1]))
    assert np.isfinite(found.distances).all() and found.rows.shape == (2, 1_999)
    assert all(sorted({*row, mine}) == list(range(2_000)) for mine, row in enumerate(found.rows))
    (tmp_path / search.APPROXIMATE).write_bytes(b"damaged")
    again = search.Approximate.beside(tmp_path, gallery)
    np.testing.assert_array_equal(
        again.nearest(torch.from_numpy(gallery[:2]), 3).rows[:, 0], [0, 1]
    )
    asks, files = [photos / "a" / "0.png"], of_files(photos, network.dataset)
    few = neighbours.find(asks, files, network, k=99, approximate=True)
    assert few.places.shape == (1, 11) and np.isfinite(few.distances).all()


def coloured(path: Path, grey: int) -> Path:
    """A bright square in one corner, by its place; all files have one size and one time."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[grey : grey + 8, 4:12] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "BMP")
    os.utime(path, ns=(10**18, 10**18))
    return path


def test_other_pictures_of_the_same_names_are_other_pictures(
    network: Chosen, tmp_path: Path
) -> None:
    found = {}
    for name, grey in (("one", 2), ("two", 18)):
        for number in range(2):
            coloured(tmp_path / name / f"{number}.bmp", grey + number)
        rows = "".join(f"{name}/{number}.bmp\n" for number in range(2))
        (tmp_path / f"{name}.csv").write_text("path\n" + rows)
        gallery = of_files(tmp_path / f"{name}.csv", network.dataset)
        found[name] = np.array(index_of(gallery, network).embeddings)
    assert np.abs(found["one"] - found["two"]).max() > 1e-3
    gallery = of_files(tmp_path / "one.csv", network.dataset)  # each list has its own
    assert "used again" in index_of(gallery, network).news
    first, second = tmp_path / "one" / "0.bmp", tmp_path / "one" / "1.bmp"
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    swapped = index_of(of_files(tmp_path / "one.csv", network.dataset), network)
    np.testing.assert_allclose(swapped.embeddings, found["one"][::-1], atol=1e-6)


def test_a_new_picture_beside_folders_makes_nothing_else_new(
    network: Chosen, tmp_path: Path, embedded: list[int]
) -> None:
    for number in range(5):
        noise(tmp_path / "g" / "2019" / f"{number}.png", number)
    index_of(of_files(tmp_path / "g", network.dataset), network)
    noise(tmp_path / "g" / "new.png", 9)
    assert (
        "1 new or changed, 0 gone"
        in index_of(of_files(tmp_path / "g", network.dataset), network).news
    )
    assert embedded == [5, 1]


def test_the_same_picture_twice_asks_once_and_a_link_is_not_it(
    photos: Path, network: Chosen
) -> None:
    ask = photos / "a" / "0.png"
    (photos / "a" / "zz.png").symlink_to(ask)
    found = neighbours.find([ask, ask], of_files(photos, network.dataset), network, k=2)
    assert found.queries == (str(ask),)
    assert found.table()["picture"][0] == "a/zz.png"


def test_what_is_not_taken_into_the_gallery_is_said(photos: Path, network: Chosen) -> None:
    (photos / "a" / "moving.gif").write_bytes(b"GIF89a")
    gallery = of_files(photos, network.dataset)
    found = neighbours.find([photos / "a" / "0.png"], gallery, network, k=1)
    assert any("not taken into the gallery: a/moving.gif (is no picture" in n for n in found.news)


def test_without_faiss_there_is_one_line(
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    words = [str(study.folder), str(noise(tmp_path / "q.png", 1)), "--approximate"]
    assert retrieve.main(words) == 2
    assert "[faiss]" in capsys.readouterr().err


def test_an_index_is_no_class_of_the_pictures(photos: Path, network: Chosen) -> None:
    index_of(of_files(photos, network.dataset), network)
    gallery = of_files(photos, network.dataset)
    assert len(gallery) == 12 and set(gallery.labels or ()) == {"a", "b"}
    assert os.listdir(photos / INDEXES)


def test_a_report_says_what_re_ranking_gains(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main([str(study.folder), "--rerank"]) == 0
    folder = study.folder / "report"
    table = pd.read_csv(folder / "table_what_re_ranking_gains_and_costs.csv")
    scores = pd.read_csv(folder / "scores.csv").query("protocol == 'full'").set_index("loss")["map"]
    names = list(RERANKINGS)
    mirrored = ["with the mirror", *(f"with the mirror, {name}" for name in names)]
    assert table["order"].tolist() == [*names, *mirrored] * 2
    plain = table["loss"].map({"Smooth-AP": scores["smooth_ap"], "triplet": scores["triplet"]})
    np.testing.assert_allclose(table["above the plain order"], table["mAP"] - plain, atol=1e-4)
    ends = table["95 % over queries"].str.split(" to ", expand=True).astype(float)
    gains = table["above the plain order"]
    assert ((ends[0] < gains) & (gains < ends[1])).all()
    assert "nothing was chosen by these numbers" in (folder / "index.html").read_text()
