"""One's own pictures through the programs: what is refused at the door, and a comparison to its
report."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from PIL import Image

from analysis import report
from study import compare_losses, tune_smoothap
from study.results.images import dataset_of, fixed_by
from study.results.studies import Study
from study.results.trials import SELECTION
from study.run import runner
from study.run.cli import FINAL_SEEDS, run
from study.run.cluster import ROOT
from study.run.plan import APART, Plan
from study.search.space import default
from trainables.data import own
from trainables.data.ledger import LEDGER, entries
from trainables.data.pixels import making
from trainables.data.pixels.cache import default_folder
from trainables.data.tables.files import PICTURES
from trainables.networks import check_trainable, resolve
from trainables.train import TrainingRun

SIDE = 24
LETTERS = "abcdefghijkl"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return default_folder()


def picture(path: Path, seed: int, colour: int, size: tuple[int, int] = (30, 26)) -> None:
    """A noisy picture whose colour says its class."""
    rng = np.random.default_rng([seed, colour])
    hue = np.array([colour * 37 % 256, colour * 91 % 256, colour * 151 % 256])
    pixels = (hue + rng.integers(0, 120, size=(*size, 3))).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photos(root: Path, classes: int = 12, each: int = 6) -> Path:
    for number in range(classes):
        for seed in range(each):
            picture(root / LETTERS[number] / f"{seed}.jpg", seed, number)
    return root


def listed(root: Path, columns: dict[str, Callable[[int, int], str]]) -> Path:
    """The pictures of `photos` with a CSV of these columns."""
    photos(root)
    with (root / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *columns])
        for number in range(12):
            for seed in range(6):
                cells = [make(number, seed) for make in columns.values()]
                rows.writerow([f"{LETTERS[number]}/{seed}.jpg", *cells])
    return root / "list.csv"


def truncated(root: Path) -> Path:
    path = photos(root) / "c" / "3.jpg"
    path.write_bytes(path.read_bytes()[:400])
    return root


def truncated_for_test(root: Path) -> Path:
    """A damaged picture that no trial would ever see."""
    for number in range(8):
        part = "train" if number < 4 else "test"
        for seed in range(6):
            picture(root / part / LETTERS[number] / f"{seed}.png", seed, number)
    path = root / "test" / "g" / "2.png"
    path.write_bytes(path.read_bytes()[:100])
    return root


def empty_file(root: Path) -> Path:
    (photos(root) / "c" / "3.jpg").write_bytes(b"")
    return root


def text_file(root: Path) -> Path:
    (photos(root) / "c" / "3.jpg").write_text("not a picture")
    return root


def huge(root: Path) -> Path:
    """200 megapixels in a file of a few kilobytes."""
    Image.new("1", (20_000, 10_000)).save(photos(root) / "c" / "huge.png")
    return root


def one_class(root: Path) -> Path:
    return photos(root, classes=1)


def single_images(root: Path) -> Path:
    return photos(root, each=1)


def same_leaves(root: Path) -> Path:
    """Two classes by their leaf, one by their top folder: there is one class alone."""
    for top in ("birds", "insects"):
        for seed in range(4):
            picture(root / "all" / top / "cartoon" / f"{seed}.jpg", seed, 1)
    return root


def sharing(root: Path) -> Path:
    for part in ("train", "test"):
        for number in range(6):
            for seed in range(3):
                picture(root / part / LETTERS[number] / f"{part}{seed}.jpg", seed, number)
    return root


def without_label(root: Path) -> Path:
    return listed(root, {"split": lambda number, seed: "train"})


def leading_out(root: Path) -> Path:
    path = listed(root, {"label": lambda number, seed: LETTERS[number]})
    path.write_text(path.read_text().replace("a/0.jpg", "../nowhere/0.jpg"))
    return path


def twice(root: Path) -> Path:
    path = listed(root, {"label": lambda number, seed: LETTERS[number]})
    path.write_text(path.read_text() + "a/0.jpg,a\n")
    return path


def nested(root: Path) -> Path:
    """The classes lie a folder deeper than they are looked for."""
    photos(root / "images")
    return root


def other_format(root: Path) -> Path:
    for path in photos(root).rglob("*.jpg"):
        path.rename(path.with_suffix(".heic"))
    return root


def nowhere(root: Path) -> Path:
    return root / "nowhere"


def a_picture(root: Path) -> Path:
    picture(root / "a.jpg", 0, 0)
    return root / "a.jpg"


BAD = [
    (truncated, r"1 of \d+ pictures cannot be read: .*c/3\.jpg: "),
    (truncated_for_test, r"1 of \d+ pictures cannot be read: .*test/g/2\.png: "),
    (empty_file, r"c/3\.jpg: is empty"),
    (text_file, r"c/3\.jpg: is no picture"),
    (huge, r"c/huge\.png: .*pixels"),
    (one_class, "photos, a folder of classes: retrieval needs at least 2 classes; got one, 'a'$"),
    (nested, "got one, 'images'; if a, b, c, ... are classes: --data .*/photos/images$"),
    (other_format, r"got none, but 72 files that are no .* \(.heic\); what is read: .jpg .jpeg"),
    (single_images, "held-out classes need at least 7 classes of two images or more"),
    (same_leaves, "got one, 'all'; if birds, insects are classes: --data .*/photos/all$"),
    (sharing, "held-out classes are in one part alone .* train and test share 6 classes"),
    (without_label, r"list\.csv.*label"),
    (leading_out, r"list\.csv, row 2: .*nowhere/0\.jpg"),
    (twice, r"list\.csv, row 74: .*row 2"),
    (nowhere, "data must be fashion_mnist, or a folder or a CSV; there is no .*/nowhere$"),
    (a_picture, r"data must be a folder, or a file \.csv or \.tsv; got .*a\.jpg"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[make.__name__ for make, _ in BAD])
def test_bad_data_is_one_line_before_any_trial_and_leaves_nothing(
    make: Callable[[Path], Path],
    message: str,
    tmp_path: Path,
    own_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = make(tmp_path / "photos")
    results = tmp_path / "results"
    options = ["--data", str(data), "--storage-path", str(results), "--name", "s"]
    assert tune_smoothap.main([*options, "--size", str(SIDE)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)
    assert not results.exists() or not list(results.iterdir())
    assert not list(own_cache.glob("*.partial")) and not ray.is_initialized()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "torchvision:resnet19"], "got 'torchvision:resnet19'; nearest: torchvision"),
        (["--weights", "none", "--freeze", "stem"], "starts from random weights: freeze must be"),
        (["--folds", "1"], "folds must be at least 2"),
        (["--fold", "9"], "a fold must be from 0 to"),
        (["--size", "3"], "--size must be an integer >= 4 or None; got 3"),
        (["--protocol", "closed", "--folds", "2"], "folds are of the held-out protocol"),
        (["--set", "colour=1"], "colour is no knob of this search"),
        (["--set", "crop=2"], r"crop must be a finite number in \(0, 1\]; got 2"),
        (
            ["--set", "batch_size=8", "--set", "per_class=4", "--set", "erase=24"],
            "erase must be below the images' 24 pixels; got 24",
        ),
    ],
)
def test_what_cannot_be_asked_of_ones_own_data_is_refused_at_the_door(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = photos(tmp_path / "photos")
    where = ["--storage-path", str(tmp_path / "results"), "--data", str(data), "--size", str(SIDE)]
    assert tune_smoothap.main([*where, *options]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and re.search(message, error)


def test_what_is_not_of_ones_own_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--storage-path", str(tmp_path)]
    assert tune_smoothap.main([*where, "--protocol", "closed"]) == 2
    assert "Fashion-MNIST has its own protocols; got 'closed'" in capsys.readouterr().err
    assert tune_smoothap.main([*where, "--size", "32"]) == 2
    assert "--size is for one's own pictures: those of fashion_" in capsys.readouterr().err
    assert tune_smoothap.main([*where, "--data", str(tmp_path / "fashion-mnist")]) == 2
    assert capsys.readouterr().err.endswith("fashion-mnist; did you mean fashion_mnist?\n")
    data = ["--data", str(photos(tmp_path / "photos"))]
    assert compare_losses.main([*where, *data, "--holdout-classes", "a,b"]) == 2
    assert "held-out classes of one's own data are drawn" in capsys.readouterr().err


NET = """
import torch
from torch import nn

class Idle(nn.Sequential):
    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)

def idle(channels):
    return Idle(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "batch_size=100000"], "batch_size may not exceed the 24 training images; got 1"),
        (["--set", "batch_size=16", "--set", "per_class=3"], "per_class must divide batch_size 16"),
        (["--weights", "nofile.pt"], "there is no file nofile.pt"),
        (["--teacher", "nofile.pt"], "teacher must be the checkpoint of a trained network"),
        (["--network", "FILE:idle"], "idle must keep its gradients in training"),
        (["--network", "torchvision:resnet19"], "got 'torchvision:resnet19'; nearest: torchvis"),
        (["--embedding-dim", "100000000"], "embedding_dim must be at most 65536; got 100000000"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_what_shows_without_a_picture_is_refused_before_any_is_decoded(
    options: list[str],
    message: str,
    check: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("load_pixels", "check_pictures"):
        monkeypatch.setattr(own, name, None)
    (tmp_path / "net.py").write_text(NET)
    data = photos(tmp_path / "photos")
    given = [option.replace("FILE", str(tmp_path / "net.py")) for option in options]
    where = ["--storage-path", str(tmp_path / "r"), "--data", str(data), "--size", str(SIDE)]
    assert tune_smoothap.main([*where, *given, *["--check"] * check]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus-per-trial", "64"], "a trial is to have 64 GPUs; Ray sees"),
        (["--cpus-per-trial", "4096"], "a trial is to have 4096 CPUs; Ray sees"),
        (["--address", "127.0.0.1:1"], "Ray cannot be reached at 127.0.0.1:1"),
    ],
)
def test_where_no_trial_can_run_nothing_is_decoded(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runner, "dataset_of", None)
    monkeypatch.setattr(runner, "start_ray", None)
    data = photos(tmp_path / "photos")
    where = ["--storage-path", str(tmp_path / "r"), "--data", str(data), "--size", str(SIDE)]
    assert tune_smoothap.main([*where, *options]) == 2
    assert message in capsys.readouterr().err


def test_seven_classes_of_two_pictures_are_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the page on one's own images says: the check and a training run take them."""
    root = photos(tmp_path / "photos", classes=7, each=2)
    where = ["--data", str(root), "--size", str(SIDE), "--storage-path", str(tmp_path)]
    assert tune_smoothap.main([*where, "--loss", "triplet", "--check"]) == 0
    assert "14 images of 7 classes" in capsys.readouterr().out
    losses = ["triplet", "normalized_softmax"]
    plan = Plan(losses=losses, num_samples=1, max_epochs=1, data=str(root), image_size=SIDE)
    dataset = dataset_of(plan.fields())
    space, _ = runner.admitted(plan, dataset)
    split, fixed = dataset.split(), {**plan.fixed, **fixed_by(dataset, plan.fields())}
    outline = dataset.outline()
    assert (len(split.train), dataset.tested) == (4, 6)
    for part, drawn in ((split.train, outline.train), (split.validation, outline.validation)):
        assert part.shape == drawn.shape and part.labels.tolist() == drawn.labels.tolist()
    for loss in losses:
        config = default(loss, epochs=1, seed=0, space=space, **fixed)
        assert config.batch_size == 4
        assert 0 <= TrainingRun(config, split).train_epoch().val_map <= 1


def test_what_is_passed_over_is_said_when_a_study_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photos(tmp_path / "photos")
    for name in ("1.HEIC", "2.heic", "3.gif", ".DS_Store"):
        (root / "a" / name).touch()
    (root / "z").mkdir()
    plan = Plan(losses=["triplet"], num_samples=1, max_epochs=1, data=str(root), image_size=SIDE)
    for name in ("start_ray", "_tune"):
        monkeypatch.setattr(runner, name, lambda *_: None)
    monkeypatch.setattr(runner, "fit_to_cluster", lambda plan: (plan, 1))
    monkeypatch.setattr(runner, "describe_run", lambda *_: {"plan": plan.fields(), "runs": 0})
    runner.run_study(plan, tmp_path / "s")
    line = "left out: 3 files that are no pictures by their names (.gif, .heic), and 1 for other"
    assert f"\n{line} reasons (--check says which)\n" in capsys.readouterr().out


def test_the_page_names_what_is_read_and_what_is_needed() -> None:
    page = (ROOT / "study" / "OWN-IMAGES.md").read_text()
    assert ", ".join(f"`{ending}`" for ending in PICTURES) in page
    assert "needs seven classes of two pictures or more" in page


def test_the_pages_network_and_loss_are_trained(tmp_path: Path) -> None:
    page = (ROOT / "study" / "OWN-IMAGES.md").read_text()
    network, loss = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.py").write_text(network)
    entry = resolve(f"{tmp_path}/mine.py:small", channels=1)
    assert (entry.input.height, entry.width, entry.lr) == (64, 64, 3e-3)
    check_trainable(entry.title, entry.build(None))
    names: dict[str, Any] = {}
    exec(loss, names)
    made = names["LOSS"].build(names["LOSS"].arguments({}), classes=4, width=64)
    embeddings, labels = torch.eye(4, requires_grad=True), torch.tensor([0, 0, 1, 2])
    assert made(embeddings, labels).item() == pytest.approx(0.25)  # two pairs at 2, of 16
    made(embeddings, labels).backward()


def test_a_cache_folder_that_takes_nothing_is_named_before_any_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = photos(tmp_path / "photos")
    options = ["--data", str(data), "--size", str(SIDE), "--storage-path", str(tmp_path / "r")]
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert tune_smoothap.main(options) == 2
    assert "pixels cannot be kept in" in (error := capsys.readouterr().err)
    assert "name another cache folder (XDG_CACHE_HOME)" in error
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(folder: Path, needed: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making, "_check_space", full)
    assert tune_smoothap.main(options) == 2
    assert "No space left on device; free some space" in capsys.readouterr().err
    assert not list((tmp_path / "cache").glob("**/*.npy"))


def test_check_prints_the_card_and_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hidden files are no class, a name in two Unicode forms is one class, .JPG is a picture."""
    root = photos(tmp_path / "photos")
    (root / ".ipynb_checkpoints").mkdir()
    for name in (".DS_Store", "Thumbs.db", "._1.jpg"):
        (root / "a" / name).write_bytes(b"x")
    for number, form in enumerate(("NFC", "NFD")):
        folder = root / unicodedata.normalize(form, "café")
        picture(folder / f"{number}.JPG", number, 3)
        picture(folder / f"{number}b.JPG", number + 7, 3)
    options = ["--data", str(root), "--storage-path", str(tmp_path / "r"), "--check"]
    assert tune_smoothap.main(options) == 0
    text = capsys.readouterr().out
    assert "76 images of 13 classes" in text and "held" not in text
    assert "train" in text and "validation" in text and "test" in text
    assert not (tmp_path / "r").exists()


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two losses, chosen by R@1, on pictures with roles and sequences."""
    root = tmp_path_factory.mktemp("own")
    data = listed(
        root / "photos",
        {
            "label": lambda number, seed: LETTERS[number],
            "split": lambda number, seed: "train" if number < 8 else "test",
            "is_query": lambda number, seed: "" if number < 8 else str(seed < 2),
            "is_gallery": lambda number, seed: "" if number < 8 else str(seed != 1),
            "sequence": lambda number, seed: f"{number}-{seed // 4}" if number >= 8 else "",
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        options = ["--data", str(data), "--size", str(SIDE), "--folds", "2", "--fold", "1"]
        options += ["--loss", "smooth_ap", "--loss", "normalized_softmax", "--num-samples", "2"]
        options += ["--max-epochs", "2", "--confirm-seeds", "2", "--select-by", "recall_at_1"]
        options += ["--set", "batch_size=8", "--set", "per_class=4", "--max-concurrent", "2"]
        where = ["--storage-path", str(root), "--name", "c"]
        assert compare_losses.main([*options, *where]) == 0
    return root


def test_a_comparison_on_ones_own_pictures(compared: Path) -> None:
    sweep = Study.load(compared / "c")
    table = pd.read_csv(sweep.folder / "trials.csv")
    assert set(table["dataset"]) == {"list"} and set(table["image_size"]) == {SIDE}
    assert table["data_fingerprint"].str.fullmatch("[0-9a-f]{16}").all()
    assert table["data_fingerprint"].nunique() == 1
    assert (table["best_val_recall_at_1"] <= 1).all()
    for loss, choice in sweep.best().items():
        finals = [t for t in sweep.trials if t.loss == loss and t.origin == SELECTION]
        best = {t.trial_id: max(row["val_recall_at_1"] for row in t.epochs) for t in finals}
        means = [
            fmean(best[t.trial_id] for t in finals if t.follows == name)
            for name in {t.follows for t in finals}
        ]
        assert len(means) == 2 and len(best) == 2 * FINAL_SEEDS
        assert (choice.score, choice.seeds) == (pytest.approx(max(means)), FINAL_SEEDS)
    runs = pd.read_csv(sweep.folder / "finals" / "runs.csv")
    assert len(runs) == 4 and {"map_full", "map_at_r", "recall_at_1"} <= set(runs.columns)
    assert "map_seed" not in runs
    queries = np.load(sweep.folder / "finals" / "queries.npz")
    # Of 4 classes of 6: 2 ask; all but the second of each are searched.
    assert len(queries["labels"]) == 24
    assert len(queries["queries_full"]) == 8 and len(queries["gallery_full"]) == 20
    assert (np.diff(queries["gallery_full"].astype(int)) < 0).any()  # shuffled
    assert [line["why"] for line in entries(compared / LEDGER)] == ["first reading"]


def test_its_test_pixels_were_kept_when_the_choices_were_frozen(compared: Path) -> None:
    caches = list((compared / "cache").glob("**/pixels.npy"))
    sizes = sorted(len(np.load(path, mmap_mode="r")) for path in caches)
    assert sizes == [24, 48]
    frozen = (compared / "c" / "choices.json").stat().st_mtime
    test = next(path for path in caches if len(np.load(path, mmap_mode="r")) == 24)
    assert test.stat().st_mtime >= frozen


def test_its_report(compared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(compared / "cache"))
    assert report.main([str(compared / "c"), "--output", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    assert "R@1" in page and "seed protocol" not in page
    assert "The images cannot be shown" not in page


def test_other_data_does_not_continue_it(
    compared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of the test part has changed, whose pixels no trial sees."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(compared / "cache"))
    path = compared / "photos" / LETTERS[9] / "5.jpg"
    before = path.read_bytes()
    info = json.loads((compared / "c" / "study.json").read_text())
    (compared / "c" / "study.json").write_text(json.dumps({**info, "status": "interrupted"}))
    try:
        picture(path, seed=99, colour=2)
        options = ["--storage-path", str(compared), "--name", "c", "--resume"]
        assert compare_losses.main(options) == 2
    finally:
        path.write_bytes(before)
        (compared / "c" / "study.json").write_text(json.dumps(info))
    assert "is of other data: list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        ({}, [0]),
        ({"fold": 3}, [3 * APART]),
        ({"fold": 2, "search_seeds": 2}, [4 * APART, 5 * APART]),
        ({"fold": 2, "seed": 7}, [7]),
    ],
)
def test_folds_have_seeds_of_their_own_unless_they_are_given(
    options: dict[str, int], seeds: list[int], tmp_path: Path
) -> None:
    """So that they can be pooled."""
    found: list[Plan] = []
    code = run(
        {"data": str(photos(tmp_path / "photos")), "storage_path": tmp_path, **options},
        job=lambda plan, *_, **__: found.append(plan),
        tell=lambda *_: 0,
        losses=["triplet"],
        num_samples=3,
        max_epochs=1,
    )
    assert code == 0 and [plan.seeds() for plan in found] == [seeds]
