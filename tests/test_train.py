from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.configurations import REFERENCES
from tests.oracles import (
    slow_average_precision,
    slow_average_precision_at_r,
    slow_left_out,
    slow_r_precision,
    slow_ranking,
    slow_recall_at,
)
from trainables import trained
from trainables.config import TrialConfig
from trainables.data import LabelledImages, Roles, Split
from trainables.data.fashion_mnist import hold_out
from trainables.metrics import METRICS, evaluate_retrieval
from trainables.retrieval import unit_length
from trainables.train import DivergedError, EpochMetrics, TrainingRun, resolve_precision
from trainables.trained import embed, load_trained, read_checkpoint

TIMES = ("seconds", "evaluation_seconds", "images_per_second")


def numbers(metrics: EpochMetrics) -> tuple[float, ...]:
    """What a run must reproduce: all but the times."""
    values = dataclasses.asdict(metrics)
    return tuple(value for name, value in values.items() if name not in TIMES)


ALL_KINDS = [
    REFERENCES["cross_entropy"].replace(lr=0.05),
    REFERENCES["triplet"],
    REFERENCES["smooth_ap"].replace(lr=3e-3, schedule="cosine", anchors="all"),
    REFERENCES["triplet"].replace(optimizer="adamw", momentum=None, reduction="mean"),
    TrialConfig(
        loss="normalized_softmax",
        optimizer="adam",
        lr=1e-3,
        averaging=0.5,
        warmup=0.2,
        flip=True,
        shift=1,
        erase=4,
        per_class=8,
        loss_args={"temperature": 0.1, "label_smoothing": 0.05},
    ),
]


@pytest.mark.parametrize("config", ALL_KINDS, ids=lambda c: f"{c.loss}-{c.optimizer}")
def test_every_loss_learns_through_the_same_loop(config: TrialConfig, small_split: Split) -> None:
    epochs = list(TrainingRun(config.replace(epochs=4), small_split))
    assert [metrics.epoch for metrics in epochs] == [1, 2, 3, 4]
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert epochs[-1].val_map > 0.3  # random rankings of ten classes give about 0.1
    assert all(m.images_per_second > 0 and m.seconds > m.evaluation_seconds for m in epochs)


@pytest.mark.parametrize("config", ALL_KINDS, ids=lambda c: f"{c.loss}-{c.optimizer}")
@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one(
    config: TrialConfig, stop: int, small_split: Split, tmp_path: Path
) -> None:
    config = config.replace(epochs=3)
    whole = [numbers(metrics) for metrics in TrainingRun(config, small_split)]
    first = TrainingRun(config, small_split)
    for _ in range(stop):
        first.train_epoch()
    first.save(tmp_path / "checkpoint.pt")
    torch.manual_seed(12345)  # another process has another global state
    second = TrainingRun(config, small_split)
    second.load(tmp_path / "checkpoint.pt")
    assert [numbers(metrics) for metrics in second] == whole[stop:]


def test_same_seed_same_numbers_other_seed_other_numbers(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    config = smooth_ap_config.replace(epochs=1)
    first, second, other = (
        numbers(TrainingRun(c, small_split).train_epoch())
        for c in (config, config, config.replace(seed=1))
    )
    assert first == second
    assert first != other


def test_training_leaves_the_global_random_state_alone(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    before = torch.get_rng_state()
    TrainingRun(smooth_ap_config, small_split).train_epoch()
    assert torch.equal(before, torch.get_rng_state())


def test_cosine_ends_at_zero_and_constant_stays(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    cosine = TrainingRun(smooth_ap_config.replace(epochs=2), small_split)
    cosine.train_epoch()
    assert cosine.optimizer.param_groups[0]["lr"] == pytest.approx(3e-3 / 2)
    cosine.train_epoch()
    assert cosine.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    constant = TrainingRun(smooth_ap_config.replace(schedule="constant"), small_split)
    constant.train_epoch()
    assert constant.optimizer.param_groups[0]["lr"] == 3e-3


def test_validation_map_is_that_of_the_validation_images_by_the_one_definition(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    run = TrainingRun(smooth_ap_config.replace(precision="float32"), small_split)
    metrics = run.train_epoch()
    embeddings = embed(run.learner.network, small_split.validation)
    labels = torch.from_numpy(small_split.validation.labels)
    result = evaluate_retrieval(
        embeddings, labels, embeddings, labels, query_index=torch.arange(len(labels))
    )
    assert metrics.val_map == result.mean_average_precision


def test_every_validation_metric_is_that_of_a_slow_ranking_in_the_roles(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    """Queries and gallery are shuffled and apart in part; groups are left out."""
    rng = np.random.default_rng(0)
    groups = rng.integers(-1, 8, size=200)
    roles = Roles(rng.permutation(200)[:30], rng.permutation(200)[:150], groups)
    split = Split(small_split.train, small_split.validation, roles)
    run = TrainingRun(smooth_ap_config.replace(precision="float32"), split)
    metrics = dataclasses.asdict(run.train_epoch())
    rows = embed(run.judged.network, split.validation).double().tolist()
    labels, gallery = split.validation.labels, roles.gallery.tolist()
    marks = []
    for query in roles.queries.tolist():
        own = gallery.index(query) if query in gallery else -1
        left_out = slow_left_out(own, int(groups[query]), groups[gallery].tolist())
        ranking = slow_ranking(rows[query], [rows[g] for g in gallery], left_out=left_out)
        marks.append([bool(labels[gallery[i]] == labels[query]) for i in ranking])
    oracles: dict[str, Callable[[list[bool]], float | None]] = {
        "map": slow_average_precision,
        "map_at_r": slow_average_precision_at_r,
        "r_precision": slow_r_precision,
        **{f"recall_at_{k}": partial(slow_recall_at, k=k) for k in (1, 2, 4, 8)},
    }
    assert set(oracles) == set(METRICS)
    for name, oracle in oracles.items():
        each = [value for one in marks if (value := oracle(one)) is not None]
        assert metrics[f"val_{name}"] == pytest.approx(sum(each) / len(each), rel=1e-6), name


def test_the_validation_loss_is_of_the_gallery_in_its_order(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    """By which the images of a table that is sorted by class are mixed."""
    order = np.random.default_rng(0).permutation(200)
    config = smooth_ap_config.replace(epochs=1)
    mixed = Split(small_split.train, small_split.validation, Roles(order, order))
    moved = Split(small_split.train, small_split.validation.take(order))
    first, second = (TrainingRun(config, split).train_epoch() for split in (mixed, moved))
    assert first.val_loss == pytest.approx(second.val_loss, rel=1e-5)
    assert first.val_map == pytest.approx(second.val_map)
    other = TrainingRun(config, small_split).train_epoch()
    assert other.train_loss == first.train_loss
    assert other.val_loss != pytest.approx(first.val_loss, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_share_an_array_are_trained_on_as_images_of_their_own(
    channels: int, smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    """The rows lie mixed in an array that holds others too."""
    parts = (small_split.train, small_split.validation)
    pixels = np.concatenate([part.images for part in parts]).repeat(channels, axis=1)
    pixels[:, -1] = 255 - pixels[:, -1]
    place = np.random.default_rng(0).permutation(1_000)[: len(pixels)]
    shared = np.zeros((1_000, *pixels.shape[1:]), np.uint8)
    shared[place] = pixels
    apart = Split(
        LabelledImages(pixels[:640], parts[0].labels), LabelledImages(pixels[640:], parts[1].labels)
    )
    together = Split(
        LabelledImages(shared, parts[0].labels, place[:640]),
        LabelledImages(shared, parts[1].labels, place[640:]),
    )
    config = smooth_ap_config.replace(epochs=2, shift=1)
    runs = [TrainingRun(config, split) for split in (apart, together)]
    assert runs[1].val_pixels is runs[1].pixels
    first, second = ([numbers(metrics) for metrics in run] for run in runs)
    assert first == second
    network = runs[1].judged.network
    assert torch.equal(embed(network, apart.validation), embed(network, together.validation))


def test_of_larger_pictures_the_network_gets_the_centre(
    smooth_ap_config: TrialConfig, small_split: Split, tmp_path: Path
) -> None:
    """As if they had been cut before; a random crop takes of the whole picture."""
    cut = Split(
        *(
            LabelledImages(part.images[:, :, 4:24, 4:24], part.labels)
            for part in (small_split.train, small_split.validation)
        )
    )
    config = smooth_ap_config.replace(epochs=2, image_size=20, flip=True)
    run = TrainingRun(config, small_split)
    assert run.shape == (1, 20, 20)
    mine = [numbers(metrics) for metrics in run]
    same = [numbers(metrics) for metrics in TrainingRun(config.replace(image_size=None), cut)]
    assert mine == same
    run.save(tmp_path / "checkpoint.pt")
    network = load_trained(tmp_path / "checkpoint.pt").network
    found, expected = (embed(network, split.validation) for split in (small_split, cut))
    assert torch.equal(found, expected) and network.input.height == 20
    first, second = (
        TrainingRun(config.replace(epochs=1, crop=0.3, image_size=size), split).train_epoch()
        for size, split in ((20, small_split), (None, cut))
    )
    assert first.train_loss != second.train_loss
    with pytest.raises(ValueError, match="image_size may not exceed the images' 28 pixels; got 29"):
        TrainingRun(config.replace(image_size=29), small_split)


def test_divergence_names_the_step_the_configuration_and_the_last_finite_value(
    small_split: Split,
) -> None:
    config = REFERENCES["cross_entropy"].replace(lr=1e12)
    with pytest.raises(
        DivergedError, match=r"became (nan|inf) in epoch 1, step \d+ of 10"
    ) as error:
        list(TrainingRun(config, small_split))
    assert "lr=1000000000000.0" in str(error.value)
    last = float(str(error.value).split("last finite value was ")[1].split(";")[0])
    assert math.isfinite(last)


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        ({"cpu_name": "AMD EPYC 9R14", "avx512_bf16": True}, "bfloat16"),
        ({"cpu_name": "AMD EPYC 7R13", "avx512_bf16": False}, "float32"),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, "bfloat16"),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, "float32"),
        ({"cpu_name": "Neoverse-V2", "bf16": True}, "float32"),  # not measured
    ],
)
def test_auto_is_the_faster_precision_of_the_processor(
    cpu: dict[str, object],
    expected: str,
    smooth_ap_config: TrialConfig,
    small_split: Split,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert resolve_precision("float32", torch.device("cpu")) == "float32"
    assert resolve_precision("bfloat16", torch.device("cpu")) == "bfloat16"
    monkeypatch.undo()
    assert TrainingRun(smooth_ap_config, small_split).precision in ("float32", "bfloat16")


def test_a_run_goes_on_in_the_precision_in_which_it_began(
    smooth_ap_config: TrialConfig,
    small_split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where the processor is another; from before it was kept, in that of this one."""
    path, config = tmp_path / "checkpoint.pt", smooth_ap_config.replace(precision="auto", epochs=2)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    begun = TrainingRun(config, small_split)
    begun.train_epoch()
    begun.save(path)
    expected = [numbers(metrics) for metrics in begun]
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    run = TrainingRun(config, small_split)
    assert (begun.precision, run.precision) == ("bfloat16", "float32")
    run.load(path)
    assert capsys.readouterr().out == (
        "goes on in bfloat16, as it began; auto would be float32 here\n"
    )
    assert run.precision == "bfloat16" and [numbers(metrics) for metrics in run] == expected
    state = torch.load(path)
    del state["precision"]
    torch.save(state, path)
    old = TrainingRun(config, small_split)
    old.load(path)
    assert old.precision == "float32" and not capsys.readouterr().out


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_precisions_learn_and_say_which_they_are(
    precision: str, smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    epochs = list(TrainingRun(smooth_ap_config.replace(precision=precision), small_split))
    assert {metrics.precision for metrics in epochs} == {precision}
    assert epochs[-1].val_map > 0.5


def test_a_batch_larger_than_the_data_is_refused(small_split: Split) -> None:
    config = REFERENCES["smooth_ap"].replace(batch_size=641)
    with pytest.raises(ValueError, match="may not exceed the 640 training images; got 641"):
        TrainingRun(config, small_split)


def validation_loss(run: TrainingRun, rows: np.ndarray) -> float:
    """The loss of validation images as one batch."""
    network = run.learner.network.eval()
    images = torch.from_numpy(run.split.validation.images[rows])
    with torch.no_grad():
        features = network(network.input.scale(images))
        return float(run.learner(features, torch.from_numpy(run.split.validation.labels[rows])))


def test_a_batch_larger_than_the_validation_images_has_a_validation_loss_of_them_all(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    config = smooth_ap_config.replace(batch_size=320, epochs=1, precision="float32")
    run = TrainingRun(config, small_split)
    (metrics,) = run
    assert metrics.val_loss == pytest.approx(validation_loss(run, np.arange(200)), rel=1e-5)


@pytest.mark.parametrize("loss", ["smooth_ap", "normalized_softmax"])
def test_where_random_batches_hold_almost_no_positive_the_validation_loss_is_class_by_class(
    loss: str,
) -> None:
    """100 classes of two: a batch of 20 has 0.1 positives for an image; a loss that needs none
    takes the images as they were drawn."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(100).repeat(2))
    images = rng.integers(256, size=(200, 1, 28, 28)).astype(np.uint8)
    part = LabelledImages(images, labels)
    config = TrialConfig(
        loss=loss, optimizer="adam", lr=1e-3, batch_size=20, epochs=1, precision="float32"
    )
    run = TrainingRun(config, Split(part, part))
    (metrics,) = run
    order = np.arange(200)
    if loss == "smooth_ap":  # by class, in the order in which the classes come first
        seen = list(dict.fromkeys(labels.tolist()))
        order = np.array([row for one in seen for row in np.flatnonzero(labels == one)])
    batches = [validation_loss(run, order[start : start + 20]) for start in range(0, 200, 20)]
    assert metrics.val_loss == pytest.approx(np.mean(batches), rel=1e-4)


def test_a_checkpoint_gives_its_network_back(
    smooth_ap_config: TrialConfig, small_split: Split, tmp_path: Path
) -> None:
    run = TrainingRun(smooth_ap_config, small_split)
    run.train_epoch()
    run.save(tmp_path / "checkpoint.pt")
    config, network, *_ = load_trained(tmp_path / "checkpoint.pt")
    assert config == smooth_ap_config
    expected = embed(run.learner.network, small_split.validation)
    assert torch.equal(embed(network, small_split.validation), expected)


def test_a_checkpoint_from_before_a_field_came_is_read(
    smooth_ap_config: TrialConfig, small_split: Split, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    run = TrainingRun(smooth_ap_config, small_split)
    first = numbers(run.train_epoch())
    run.save(path)
    state = torch.load(path, weights_only=True)
    for name in ("crop", "jitter", "image_size", "data_fingerprint"):
        del state["config"][name]
    torch.save(state, path)
    config, network, *_ = load_trained(path)
    assert config == smooth_ap_config
    expected = embed(run.judged.network, small_split.validation)
    assert torch.equal(embed(network, small_split.validation), expected)
    again = TrainingRun(smooth_ap_config, small_split)
    again.load(path)
    whole = [numbers(metrics) for metrics in TrainingRun(smooth_ap_config, small_split)]
    assert [first, *map(numbers, again)] == whole


def test_a_foreign_or_damaged_checkpoint_is_refused(
    smooth_ap_config: TrialConfig, small_split: Split, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    TrainingRun(smooth_ap_config, small_split).save(path)
    other = TrainingRun(smooth_ap_config.replace(lr=1.0), small_split)
    with pytest.raises(ValueError, match=r"belongs to .*, not to this trial"):
        other.load(path)
    for damaged in (path.read_bytes()[:-100], b""):  # of the last torch says nothing
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"checkpoint {path} cannot be read: .+"):
            other.load(path)


def test_weights_depend_on_the_seed_alone(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    first, second, other = (
        TrainingRun(smooth_ap_config.replace(seed=seed), small_split).learner for seed in (0, 0, 1)
    )
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_the_learning_rate_rises_over_the_warm_up_and_then_falls(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    run = TrainingRun(smooth_ap_config.replace(epochs=2, warmup=0.2), small_split)  # 20 steps
    factors = []
    for _ in range(20):
        factors.append(run.schedule.get_last_lr()[0] / 3e-3)
        run.optimizer.step()
        run.schedule.step()
    assert factors[:5] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5, 1])
    falling = [0.5 * (1 + math.cos(math.pi * step / 16)) for step in range(16)]
    assert factors[4:] == pytest.approx(falling)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_warm_up_of_nearly_all_steps_leaves_the_last_at_the_full_rate(
    schedule: str, smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    config = smooth_ap_config.replace(epochs=1, warmup=0.97, schedule=schedule)
    run = TrainingRun(config, small_split)  # 10 steps
    rates: list[float] = []
    run.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"] / 3e-3)
    )
    run.train_epoch()
    assert rates == pytest.approx([step / 10 for step in range(1, 11)])


def test_changes_are_drawn_apart_from_the_order(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    """The order is the seed's own stream, that of the changes another, and both follow the seed."""
    runs = [TrainingRun(smooth_ap_config.replace(seed=seed), small_split) for seed in (0, 0, 1)]
    drawn = [
        tuple(torch.rand(1_000, dtype=torch.float64, generator=stream) for stream in streams)
        for streams in ((run.order, run.changes) for run in runs)
    ]
    own = torch.rand(1_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn[0][0], own)
    for one, other in zip(drawn[0], drawn[1], strict=True):
        assert torch.equal(one, other)
    together = torch.stack([*drawn[0], *drawn[2]]).corrcoef()
    assert together.fill_diagonal_(0).abs().max() < 0.15  # 4.7 deviations of independent ones


def test_features_too_long_to_scale_are_a_divergence(small_split: Split) -> None:
    """Unit length would be 0 of them: the loss is the margin's, finite, and all images are one."""
    config = REFERENCES["triplet"].replace(lr=1e6, epochs=1, precision="float32")
    with pytest.raises(DivergedError, match=r"features became too long for float32 in epoch 1"):
        TrainingRun(config, small_split).train_epoch()


def relabelled(split: Split, train: list[int], validation: list[int]) -> Split:
    """The split with these labels, again and again."""
    return Split(
        *(
            part.relabelled(np.resize(np.array(labels), len(part)))
            for part, labels in ((split.train, train), (split.validation, validation))
        )
    )


def test_data_without_a_positive_or_a_negative_is_refused(
    smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    with pytest.raises(ValueError, match=r"at least 2 classes; .* hold 1: \[3\]"):
        TrainingRun(smooth_ap_config, relabelled(small_split, [3], [0, 1]))
    with pytest.raises(ValueError, match="smooth_ap needs 2 training images of one class; got 1"):
        TrainingRun(smooth_ap_config, relabelled(small_split, list(range(640)), [0, 1]))
    with pytest.raises(ValueError, match="validation needs 2 images of one class; got 1"):
        TrainingRun(smooth_ap_config, relabelled(small_split, [0, 1], list(range(200))))


def averaged(
    asked: float, before: torch.Tensor | None, now: torch.Tensor, steps: int
) -> torch.Tensor:
    """The average after one more step than so many, as TensorFlow's
    `ExponentialMovingAverage(asked, num_updates=steps)` has it."""
    if before is None:
        return now
    decay = min(asked, (1 + steps) / (10 + steps))
    return decay * before + (1 - decay) * now


@pytest.mark.parametrize("asked", [0.995, 0.3])  # which ten steps do not reach, and do
def test_the_average_is_that_of_the_weights_after_every_step(
    asked: float, smooth_ap_config: TrialConfig, small_split: Split, tmp_path: Path
) -> None:
    run = TrainingRun(smooth_ap_config.replace(epochs=1, averaging=asked), small_split)
    expected: dict[str, torch.Tensor] = {}

    def record(*_: object) -> None:
        for name, weight in run.learner.network.named_parameters():
            now = weight.detach().clone()
            expected[name] = averaged(asked, expected.get(name), now, run.step)

    run.optimizer.register_step_post_hook(record)
    run.train_epoch()
    run.save(tmp_path / "checkpoint.pt")
    kept = load_trained(tmp_path / "checkpoint.pt").network
    for name, weight in kept.named_parameters():
        torch.testing.assert_close(weight.detach(), expected[name], rtol=1e-4, atol=1e-6)
    assert not torch.equal(kept.trunk.conv1.weight, run.learner.network.trunk.conv1.weight)


@pytest.mark.parametrize("config", ALL_KINDS)
def test_the_classifier_has_an_output_for_each_class_that_is_there(
    config: TrialConfig, small_split: Split, tmp_path: Path
) -> None:
    """Classes 0, 1, 2, 3, 4, 6 and 8 are trained on as 0 to 6 would be, to the last digit."""
    config = config.replace(epochs=2, per_class=None)
    there = hold_out(small_split, [5, 7, 9])
    numbers_of = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 8: 6}
    renamed = Split(
        *(
            part.relabelled(np.array([numbers_of[label] for label in part.labels]))
            for part in (there.train, there.validation)
        )
    )
    run, same = TrainingRun(config, there), TrainingRun(config, renamed)
    own = [len(weight) for weight in run.learner.loss.parameters()]
    assert set(own) == ({7} if config.entry.knows_classes else set())
    assert [numbers(metrics) for metrics in run] == [numbers(metrics) for metrics in same]
    run.save(tmp_path / "checkpoint.pt")
    path = tmp_path / "checkpoint.pt"
    law = r"must be of the 10 classes 0, 1, .*9; it is of 0, 1, 2, 3, 4, 6, 8$"
    with pytest.raises(ValueError, match=law):
        TrainingRun(config, small_split).load(path)
    torch.save({**torch.load(path), "classes": 7}, path)  # from before it was kept which they are
    with pytest.raises(ValueError, match=r"it is of 7$"):
        TrainingRun(config, small_split).load(path)
    TrainingRun(config, there).load(path)


@pytest.mark.parametrize("config", ALL_KINDS)
def test_the_network_does_not_depend_on_the_classes(
    config: TrialConfig, small_split: Split
) -> None:
    few = TrainingRun(config.replace(per_class=None), hold_out(small_split, [5, 7, 9]))
    whole = TrainingRun(config.replace(per_class=None), small_split)
    same = few.learner.network.state_dict()
    for name, weights in whole.learner.network.state_dict().items():
        assert torch.equal(same[name], weights)


def test_each_part_has_its_multiple_of_the_learning_rate(small_split: Split) -> None:
    config = TrialConfig(
        loss="cross_entropy",
        optimizer="adam",
        lr=1e-3,
        embedding_dim=8,
        head_lr=5.0,
        loss_lr=0.5,
    )
    run = TrainingRun(config, small_split)
    groups = [(group["lr"], len(group["params"])) for group in run.optimizer.param_groups]
    assert groups == [(1e-3, 6), (5e-3, 2), (5e-4, 2)]  # three convolutions, head, classifier
    before = [weight.detach().clone() for weight in run.learner.parameters()]
    run.train_epoch()
    assert not any(map(torch.equal, before, run.learner.parameters()))


def test_what_batch_norm_has_seen_is_averaged_too(small_split: Split, tmp_path: Path) -> None:
    """Weights of one kind and statistics of another are no network that was ever trained."""
    file = tmp_path / "small.py"
    file.write_text(
        "from torch import nn\n"
        "def small(channels):\n"
        "    layers = nn.Conv2d(channels, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU()\n"
        "    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())\n"
    )
    config = REFERENCES["triplet"].replace(network=f"{file}:small", lr=0.05, averaging=0.9)
    run = TrainingRun(config.replace(epochs=0.5), small_split)
    (name,) = [name for name in run.learner.state_dict() if name.endswith("running_var")]
    seen: list[torch.Tensor] = []
    run.optimizer.register_step_post_hook(
        lambda *_: seen.append(run.learner.state_dict()[name].clone())
    )
    list(run)
    expected = seen[0]
    for steps, one in enumerate(seen[1:], start=1):
        expected = averaged(0.9, expected, one, steps)
    kept = run.judged.state_dict()[name]
    torch.testing.assert_close(kept, expected)
    assert (kept - seen[-1]).abs().max() > 1e-4


@pytest.mark.parametrize(("classes", "each"), [(2, 40), (5, 16), (20, 4), (27, 3)])
def test_a_validation_batch_has_several_classes_where_random_ones_would_hold_no_positive(
    classes: int, each: int, smooth_ap_config: TrialConfig
) -> None:
    labels = np.random.default_rng(0).permutation(np.arange(classes).repeat(each))
    images = LabelledImages(np.zeros((len(labels), 1, 28, 28), np.uint8), labels)
    run = TrainingRun(smooth_ap_config.replace(batch_size=8), Split(images, images))
    order = run._validation_order()
    assert sorted(order) == list(range(len(labels)))
    if classes < 8:  # a random batch holds one positive or more: as they are
        assert order.tolist() == list(range(len(labels)))
        return
    rounds = labels[order].reshape(-1, 8) if len(order) % 8 == 0 else [labels[order][:8]]
    assert all(len(set(batch)) > 1 for batch in rounds)
    firsts = list(dict.fromkeys(labels.tolist()))
    taken = dict.fromkeys(firsts, 0)
    slow = []
    while len(slow) < len(labels):  # four of each class, then the next four
        for label in firsts:
            mine = np.flatnonzero(labels == label)[taken[label] : taken[label] + 4]
            slow += mine.tolist()
            taken[label] += len(mine)
    assert order.tolist() == slow


def test_large_classes_leave_no_validation_batch_to_one_class(
    smooth_ap_config: TrialConfig,
) -> None:
    """Of sorted ones all but few would be of one class, whose loss is 0."""
    labels = np.arange(125).repeat(130)
    images = LabelledImages(np.zeros((len(labels), 1, 1, 1), np.uint8), labels)
    small = LabelledImages(np.zeros((80, 1, 28, 28), np.uint8), np.arange(80) % 40)
    run = TrainingRun(smooth_ap_config.replace(batch_size=64), Split(small, small))
    run.split = Split(images, images)
    batches = labels[run._validation_order()][: 64 * 250].reshape(250, 64)
    assert min(len(set(batch)) for batch in batches.tolist()) == 16


def test_a_losss_own_weights_are_trained_averaged_kept_and_restored(
    small_split: Split, tmp_path: Path
) -> None:
    config = REFERENCES["cross_entropy"].replace(lr=0.05, epochs=2, averaging=0.9)
    run = TrainingRun(config, small_split)
    own = {name: weight.detach().clone() for name, weight in run.learner.loss.named_parameters()}
    expected: dict[str, torch.Tensor] = {}

    def record(*_: object) -> None:
        for name, weight in run.learner.loss.named_parameters():
            now = weight.detach().clone()
            expected[name] = averaged(0.9, expected.get(name), now, run.step)

    run.optimizer.register_step_post_hook(record)
    run.train_epoch()
    run.save(tmp_path / "checkpoint.pt")
    kept = read_checkpoint(tmp_path / "checkpoint.pt")["loss"]
    again = TrainingRun(config, small_split)
    again.load(tmp_path / "checkpoint.pt")
    assert set(kept) == set(own) == {"classifier.weight", "classifier.bias"}
    for name, first in own.items():
        trained = run.learner.loss.get_parameter(name)
        assert not torch.equal(trained, first) and not torch.equal(trained, kept[name])
        torch.testing.assert_close(kept[name], expected[name], rtol=1e-4, atol=1e-6)
        assert torch.equal(again.judged.loss.get_parameter(name), kept[name])
        assert torch.equal(again.learner.loss.get_parameter(name), trained)


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_checkpoint_holds_each_weight_once_unless_it_is_averaged(
    averaging: float, small_split: Split, tmp_path: Path
) -> None:
    config = REFERENCES["cross_entropy"].replace(averaging=averaging)
    TrainingRun(config, small_split).save(tmp_path / "checkpoint.pt")
    assert (read_checkpoint(tmp_path / "checkpoint.pt")["trained"] is None) == (not averaging)


def test_no_validation_loss_of_classes_that_a_loss_does_not_know(
    small_split: Split, smooth_ap_config: TrialConfig
) -> None:
    """Retrieval of classes that were never seen is judged all the same."""
    seen = hold_out(small_split, [5, 6, 7, 8, 9]).train
    unseen = hold_out(small_split, [0, 1, 2, 3, 4]).validation
    split = Split(seen, unseen)
    metrics = TrainingRun(REFERENCES["cross_entropy"].replace(epochs=1), split).train_epoch()
    assert metrics.val_loss is None and 0 < metrics.val_map <= 1
    assert "validation loss" not in metrics.describe()
    metrics = TrainingRun(smooth_ap_config.replace(epochs=1), split).train_epoch()
    assert metrics.val_loss is not None


@pytest.mark.parametrize("knob", ["shift", "erase"])
def test_a_change_that_leaves_nothing_of_an_image_is_refused(
    knob: str, smooth_ap_config: TrialConfig, small_split: Split
) -> None:
    TrainingRun(smooth_ap_config.replace(**{knob: 27}), small_split)
    with pytest.raises(ValueError, match=f"{knob} must be below the images' 28 pixels; got 28"):
        TrainingRun(smooth_ap_config.replace(**{knob: 28}), small_split)


def test_a_network_that_gives_its_pictures_back_has_each_batch_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_split: Split
) -> None:
    """Pixels as they are: the mAP of the same pictures as one batch."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef pixels() -> nn.Module:\n    return nn.Flatten()\n"
    )
    config = TrialConfig(
        loss="cross_entropy",
        optimizer="adam",
        lr=1e-3,
        epochs=1,
        network=f"{tmp_path / 'net.py'}:pixels",
        precision="float32",
    )
    monkeypatch.setattr(trained, "EMBEDDING_BATCH", 64)
    (metrics,) = TrainingRun(config, small_split)
    images = torch.from_numpy(small_split.validation.images).flatten(1) / 127.5 - 1
    itself = torch.arange(len(images))
    labels = small_split.validation.labels
    unit = unit_length(images)
    expected = evaluate_retrieval(unit, labels, unit, labels, query_index=itself)
    assert metrics.val_map == pytest.approx(expected.mean_average_precision, abs=1e-6)
