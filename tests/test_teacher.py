"""What a teacher says of images, against a slow loop and by hand; a run that listens to it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from study import compare_losses, tune_smoothap
from study.results.files import StudyError
from study.results.studies import Study
from study.run.plan import Plan
from study.search.fitted import fitted, rare_positives
from study.search.space import all_knobs, is_of_seed_study, knobs_of
from tests.conftest import noise, synthetic
from trainables.config import TrialConfig
from trainables.data import LabelledImages, Split
from trainables.losses.distillation import similarity_loss
from trainables.retrieval import unit_length
from trainables.teacher import taught
from trainables.train import TrainingRun
from trainables.trained import embed, load_trained
from trainables.unseen import check_weights

ADAM = {"optimizer": "adam", "momentum": None, "lr": 5e-3}
FASHION = {"dataset": "fashion_mnist"}


def config(**changes: Any) -> TrialConfig:
    plain = {"loss": "smooth_ap", "optimizer": "sgd", "momentum": 0.0, "lr": 1e-3, "epochs": 1}
    return TrialConfig(**{**plain, "batch_size": 64, "precision": "float32", **changes})


@pytest.fixture(scope="module")
def teacher(small_split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of another width, trained a little."""
    run = TrainingRun(config(seed=9, embedding_dim=7, epochs=3, **ADAM), small_split)
    list(run)
    path = tmp_path_factory.mktemp("teacher") / "checkpoint.pt"
    run.save(path)
    return path


def test_it_is_the_mean_squared_difference_of_the_pairs_cosines() -> None:
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(size=(6, 4)), rng.normal(size=(6, 9))

    def cosine(rows: np.ndarray, a: int, b: int) -> float:
        return float(rows[a] @ rows[b] / np.linalg.norm(rows[a]) / np.linalg.norm(rows[b]))

    pairs = list(itertools.permutations(range(6), 2))
    slow = sum((cosine(mine, a, b) - cosine(theirs, a, b)) ** 2 for a, b in pairs) / len(pairs)
    targets = torch.from_numpy(theirs / np.linalg.norm(theirs, axis=1, keepdims=True))
    assert similarity_loss(torch.from_numpy(mine), targets).item() == pytest.approx(slow, rel=1e-12)


def test_two_images_by_hand() -> None:
    """Cosines of 0 and of 3/5: both pairs differ by 3/5."""
    features = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    targets = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert similarity_loss(features, targets).item() == pytest.approx(9 / 25)
    assert similarity_loss(3 * targets, targets).item() == pytest.approx(0, abs=1e-12)


def test_its_gradient_is_that_of_finite_differences() -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    targets = unit_length(torch.randn(5, 4, generator=rng, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda rows: similarity_loss(rows, targets), (features,))


def test_a_split_that_is_taught_has_the_teachers_embeddings(
    teacher: Path, small_split: Split
) -> None:
    split = taught(small_split, teacher, **FASHION)
    assert split.targets is not None and split.targets.shape == (640, 7)
    expected = embed(load_trained(teacher).network, small_split.train).numpy()
    np.testing.assert_array_equal(split.targets, expected)
    assert small_split.targets is None
    kept, some = split.renumbered().targets, split.sliced(64, 64).targets
    assert kept is split.targets and some is not None
    np.testing.assert_array_equal(some, split.targets[:64])


def test_a_step_adds_what_the_teacher_says(teacher: Path, small_split: Split) -> None:
    """One step of both runs begins with the same weights and the same images."""
    split = taught(small_split, teacher, **FASHION)
    share = 64 / 640  # of an epoch
    alone = TrainingRun(config(epochs=share), small_split)
    told = TrainingRun(config(epochs=share, teacher=str(teacher), teacher_weight=3.0), split)
    order = torch.Generator().manual_seed(0)
    places = torch.randperm(640, generator=order)[:64].numpy()
    batch = small_split.train.take(places)
    features = embed(told.learner.network, batch)
    assert split.targets is not None
    said = similarity_loss(features, torch.from_numpy(split.targets[places])).item()
    (before,), (after,) = alone, told
    drawn = told.drawn
    assert drawn is not None and drawn.places[0].tolist() == places.tolist()
    assert said > 1e-3
    assert after.train_loss - before.train_loss == pytest.approx(3 * said, rel=1e-4)


def test_a_student_becomes_like_its_teacher(teacher: Path, small_split: Split) -> None:
    split = taught(small_split, teacher, **FASHION)
    told = {"teacher": str(teacher), "teacher_weight": 20.0}

    def apart(**changes: Any) -> float:
        run = TrainingRun(config(loss="cross_entropy", epochs=3, **ADAM, **changes), split)
        list(run)
        features = embed(run.learner.network, small_split.validation)
        wanted = embed(load_trained(teacher).network, small_split.validation)
        return similarity_loss(features, wanted).item()

    assert apart(**told) < 0.5 * apart()


def test_a_taught_run_goes_on_from_its_checkpoint(
    teacher: Path, small_split: Split, tmp_path: Path
) -> None:
    split = taught(small_split, teacher, **FASHION)
    asked = config(epochs=2, teacher=str(teacher), teacher_weight=2.0)
    whole, begun = TrainingRun(asked, split), TrainingRun(asked, split)
    expected = [(m.train_loss, m.val_map) for m in whole]
    begun.train_until(0.5)
    begun.save(tmp_path / "half.pt")
    again = TrainingRun(asked, split)
    again.load(tmp_path / "half.pt")
    found = [(m.train_loss, m.val_map) for m in again]
    assert [m for _, m in found] == [m for _, m in expected]
    assert found[1] == expected[1]


def test_a_run_with_a_teacher_needs_what_it_says(teacher: Path, small_split: Split) -> None:
    with pytest.raises(ValueError, match="the split has none"):
        TrainingRun(config(teacher=str(teacher), teacher_weight=1.0), small_split)


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"teacher": "a.pt"}, "must be set together, or neither; got 'a.pt' and None"),
        ({"teacher_weight": 1.0}, "must be set together, or neither; got None and 1.0"),
        ({"teacher": "a.pt", "teacher_weight": 0.0}, "teacher_weight must be .* > 0; got 0.0"),
        ({"teacher": "", "teacher_weight": 1.0}, "teacher must be a word; got ''"),
    ],
)
def test_the_laws_of_a_teacher(changes: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        config(**changes)


def test_a_teacher_that_cannot_teach_these_images_is_refused(
    teacher: Path, small_split: Split, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="of a trained network; got nowhere"):
        taught(small_split, "nowhere", **FASHION)
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ValueError, match=r"text\.pt cannot be read: it is no file of w"):
        taught(small_split, tmp_path / "text.pt", **FASHION)
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "weights.pt")  # as others keep them
    for other in (tmp_path / "weights.pt", tmp_path):
        with pytest.raises(ValueError, match=r"(is not a|must be the) checkpoint of a"):
            taught(small_split, other, **FASHION)
    colours = LabelledImages(np.zeros((8, 3, 28, 28), np.uint8), np.arange(8) % 2)
    with pytest.raises(ValueError, match="takes pictures of 1 x 28 x 28; those here are 3 x 28 x"):
        taught(Split(colours, colours), teacher, **FASHION)
    for size in (20, 40):  # it would see the middle, or nothing as large
        other = LabelledImages(np.zeros((8, 1, size, size), np.uint8), np.arange(8) % 2)
        with pytest.raises(ValueError, match=rf"of 1 x 28 x 28; those here are 1 x {size} x"):
            taught(Split(other, other), teacher, **FASHION)
    few = small_split.train.take(small_split.train.labels < 4)
    held_out = dataclasses.replace(small_split, train=few)
    law = r"on no classes but those that are here; .* was on 6 others: 4, 5, 6, 7, 8, 9$"
    with pytest.raises(ValueError, match=law):
        taught(held_out, teacher, **FASHION)
    for dataset in ("other", None):
        assert taught(held_out, teacher, dataset=dataset).targets is not None
    state = torch.load(teacher)
    torch.save({**state, "classes": 10}, tmp_path / "before.pt")
    with pytest.raises(ValueError, match=r"before\.pt is from before it was kept which 10 it saw"):
        taught(small_split, tmp_path / "before.pt", **FASHION)


def test_a_teacher_of_as_many_other_classes_is_refused(small_split: Split, tmp_path: Path) -> None:
    """It may have seen those that judge here, or are tested; of fewer of the same it has not."""

    def of_classes(*classes: int) -> Split:
        train = small_split.train.take(np.isin(small_split.train.labels, classes))
        return dataclasses.replace(small_split, train=train)

    path = tmp_path / "teacher.pt"
    TrainingRun(config(), of_classes(0, 1, 6, 7)).save(path)
    with pytest.raises(ValueError, match=r"was on 3 others: 1, 6, 7$"):
        taught(of_classes(0, 3, 4, 8), path, **FASHION)
    assert taught(of_classes(0, 1, 2, 6, 7), path, **FASHION).targets is not None


def of_classes(split: Split, train: list[int], judged: list[int]) -> Split:
    parts = [
        part.take(np.isin(part.labels, classes))
        for part, classes in ((split.train, train), (split.validation, judged))
    ]
    return dataclasses.replace(split, train=parts[0], validation=parts[1])


def test_a_teacher_that_trained_on_what_judges_here_is_refused(
    small_split: Split, tmp_path: Path
) -> None:
    """Where other classes judge, all images of a class are trained on; where the same do, not."""
    apart = of_classes(small_split, [0, 1, 2], [3, 4])
    same = of_classes(small_split, [0, 1, 2, 3], [0, 1, 2, 3])
    for name, split in (("apart.pt", apart), ("same.pt", same)):
        TrainingRun(config(), split).save(tmp_path / name)
    law = "a teacher of the same data must be trained under the same protocol"
    with pytest.raises(
        ValueError, match=rf"{law}.*apart\.pt: other classes judged, here: the same"
    ):
        taught(same, tmp_path / "apart.pt", **FASHION)
    whole = of_classes(small_split, [0, 1, 2, 3], [4, 5])
    with pytest.raises(ValueError, match=rf"{law}.*same\.pt: the same classes judged, here: other"):
        taught(whole, tmp_path / "same.pt", **FASHION)
    assert taught(apart, tmp_path / "apart.pt", **FASHION).targets is not None
    assert taught(same, tmp_path / "same.pt", **FASHION).targets is not None
    state = torch.load(tmp_path / "same.pt")
    del state["same_classes"]
    torch.save(state, tmp_path / "before.pt")
    with pytest.raises(ValueError, match=rf"{law}.*before\.pt: from before it was kept who judged"):
        taught(same, tmp_path / "before.pt", **FASHION)


def test_weights_of_a_study_may_not_have_seen_what_judges(
    teacher: Path, small_split: Split, tmp_path: Path
) -> None:
    """As a teacher may not; of others' files, and of what is no file, nothing is known."""
    apart = of_classes(small_split, [0, 1, 2], [3, 4])
    law = "weights of the same data must be trained on no classes but those that are here; "
    with pytest.raises(ValueError, match=rf"{law}.* was on 7 others: 3, 4, 5, 6, 7, 8, 9$"):
        check_weights(apart, str(teacher), **FASHION)
    check_weights(apart, str(teacher), dataset=None)
    check_weights(small_split, str(teacher), **FASHION)
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "theirs.pt")
    for weights in ("default", "none", "package:efficientnet_lite0", str(tmp_path / "theirs.pt")):
        check_weights(apart, weights, **FASHION)


def own(split: Split, data: str, *names: str) -> Split:
    """As a split of one's own data."""
    return dataclasses.replace(split, data=data, classes=names)


def test_data_is_known_by_what_it_holds(
    small_split: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not by its folder's name alone: a copy is the same, other things in a folder of the same name
    are not; what has some of the same classes is, though they have other numbers now."""
    apart, shifted = (of_classes(small_split, [n, n + 1, n + 2], [5, 6]) for n in (0, 1))
    birds = ("auk", "bee-eater", "crow", "duck", "emu", "finch", "gull", "h", "i", "j")
    path = tmp_path / "a.pt"
    TrainingRun(config(dataset="photos"), own(apart, "1", *birds)).save(path)
    law = r"of the same data must be trained on no classes but those that are here"
    for dataset in ("photos", "copy"):
        check_weights(own(apart, "1", *birds), str(path), dataset=dataset)
        with pytest.raises(ValueError, match=rf"{law}; .* was on 1 others: auk$"):
            check_weights(own(shifted, "1", *birds), str(path), dataset=dataset)
        with pytest.raises(ValueError, match=rf"{law}; .* was on 1 others: auk$"):
            taught(own(shifted, "1", *birds), path, dataset=dataset)
    check_weights(own(shifted, "2", *"0123456789"), str(path), dataset="photos")
    check_weights(own(shifted, "2", "aardvark", *birds), str(path), dataset="photos")
    with pytest.raises(ValueError, match=rf"{law}; .* was on 3 others: auk, bee-eater, crow$"):
        check_weights(own(apart, "2", *birds[3:], *birds[:3]), str(path), dataset="photos")
    same = of_classes(small_split, [0, 1, 2], [0, 1, 2])
    TrainingRun(config(dataset="photos"), own(same, "1", *birds)).save(path)
    check_weights(own(same, "1", *birds), str(path), dataset="photos")
    with pytest.raises(ValueError, match=r"trained on the same images, .*/a\.pt were others$"):
        check_weights(own(same, "2", *birds), str(path), dataset="photos")
    assert capsys.readouterr().out == ""


def test_what_is_not_known_of_weights_is_said(
    small_split: Split, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, here = tmp_path / "a.pt", own(small_split, "1", *"0123456789")
    for name in ("a.pt", "a.safetensors"):
        weights = {"conv1.weight": torch.zeros(3)}
        save = safetensors.torch.save_file if name.endswith("s") else torch.save
        save(weights, tmp_path / name)
        check_weights(small_split, str(tmp_path / name), **FASHION)
        said = f"weights {tmp_path / name}: not known is whether they have seen what judges here"
        assert capsys.readouterr().out == said + "\n"
    TrainingRun(config(), small_split).save(path)
    check_weights(here, str(path), dataset="photos")
    assert capsys.readouterr().out == ""
    state = torch.load(path)
    torch.save({name: state[name] for name in state if name != "data"}, path)  # as they were
    assert taught(here, path, dataset="photos").targets is not None
    assert "from before it was kept on which images, and of data named fashion" in (
        capsys.readouterr().out
    )


def test_a_study_whose_weights_saw_what_judges_does_not_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TrainingRun(config(), small_noise()).save(tmp_path / "all.pt")
    options = ["--holdout-classes", "5,7,9", "--weights", str(tmp_path / "all.pt")]
    where = ["--name", "s", "--storage-path", str(tmp_path), "--loss", "triplet"]
    assert compare_losses.main([*options, *where]) == 2
    assert "all.pt was on 3 others: 5, 7, 9" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_network_of_colour_teaches_grey_pictures(small_split: Split, tmp_path: Path) -> None:
    """Which it was trained on: each stands in all its channels."""
    network = "torchvision:squeezenet1_1"
    run = TrainingRun(config(network=network, weights="none", epochs=0.2), small_split)
    assert run.judged.network.input.channels == 3
    run.save(tmp_path / "colour.pt")
    few = small_split.sliced(8, 8)
    split = taught(few, tmp_path / "colour.pt", dataset=None)
    expected = embed(load_trained(tmp_path / "colour.pt").network, few.train).numpy()
    np.testing.assert_array_equal(split.targets, expected)


def test_its_weight_is_a_knob_where_there_is_a_teacher(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"losses": ["triplet"], "num_samples": 1, "max_epochs": 1}
    plan = Plan(**fields, teacher=str(tmp_path / "x.pt"))
    (knob,) = [k for k in knobs_of("triplet", plan.space()) if k.name == "teacher_weight"]
    assert (knob.default, str(knob.range)) == (10.0, "1 to 100 (log)")
    without = [
        k for k in all_knobs("triplet", Plan(**fields).space()) if k.name == "teacher_weight"
    ]
    assert [(k.default, k.range) for k in without] == [(10.0, None)]
    changes = {"teacher_weight": {"choices": [2.0]}}
    fixed = Plan(**fields, teacher="x.pt", changes=changes).space()
    assert "2.0" in {str(k.range) for k in knobs_of("triplet", fixed) if k.sets == "teacher_weight"}
    for asked in ({"changes": changes}, {"losses": ["triplet:teacher_weight=2"]}):
        with pytest.raises(StudyError, match="there must be a teacher; got none"):
            Plan(**{**fields, **asked})
    given = Plan(**{**fields, "losses": ["triplet:teacher_weight=5"]}, teacher="x.pt")
    images, three = (
        synthetic(300, seed=0),
        given.space().changed({"per_class": {"choices": [None]}}),
    )
    split, fixed = Split(images, images), {"teacher": "x.pt"}
    space, _ = fitted(split, given.losses, three, **fixed)  # a value of it is a loss of its own
    assert rare_positives(split, given.losses, space, **fixed) == []
    taught_one = config(teacher="x.pt", teacher_weight=1.0)
    assert is_of_seed_study(config()) and not is_of_seed_study(taught_one)
    assert "teacher" not in config().describe() and "teacher=x.pt" in taught_one.describe()


def small_noise() -> Split:
    return Split(noise(640, seed=0), noise(200, seed=1))


def test_a_study_with_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--name", "s", "--storage-path", str(tmp_path))
    small = ("--smoke-test", "--num-samples", "1", "--max-epochs", "1", "--final-seeds", "0")
    options = (*small, *where, "--loss", "triplet", "--from-scratch")
    assert tune_smoothap.main([*options, "--teacher", str(tmp_path / "none.pt")]) == 2
    assert "must be the checkpoint of a trained network; got" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    list(run := TrainingRun(config(epochs=0.2), small_noise()))
    run.save(tmp_path / "teacher.pt")
    assert tune_smoothap.main([*options, "--teacher", str(tmp_path / "teacher.pt")]) == 0
    (trial,) = Study.load(tmp_path / "s").trials
    assert trial.config.teacher == str(tmp_path / "teacher.pt")
    assert trial.knobs["teacher_weight"] == trial.config.teacher_weight
    assert trial.status == "finished"
    before = hashlib.sha256((tmp_path / "teacher.pt").read_bytes()).hexdigest()
    assert Study.load(tmp_path / "s").info["files"] == {"teacher": before}
    list(run := TrainingRun(config(epochs=0.2, seed=1), small_noise()))
    run.save(tmp_path / "teacher.pt")  # another of the same name
    assert tune_smoothap.main(["--resume", *where]) == 2
    law = f"the file of teacher must stay as it was when {tmp_path / 's'} was begun"
    assert f"{law}: SHA-256 {before[:12]}…; got " in capsys.readouterr().err
