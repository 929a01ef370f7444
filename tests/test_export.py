"""Exports: their code in a process without this project, what their cards say, and refusals."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from analysis import export
from analysis.exported import formats, model_card
from analysis.exported.folder import finite
from analysis.exported.formats import FORMATS
from analysis.exported.provenance import began_with
from analysis.gallery.networks import chosen
from study import publish
from study.judge.evaluation import evaluate
from study.judge.final_test import read_test
from study.results.images import DATA, dataset_of, fixed_by, validation_images
from study.results.studies import Study
from tests.small_data import SmallData, use
from tests.small_pictures import photos
from tests.small_studies import INFO, TEST, VALIDATION, trial, write_study
from tests.test_final_test import make as make_comparison
from tests.test_study import ROOT
from trainables.train import TrainingRun
from trainables.trained import embed_pixels
from trainables.unseen import check_weights

# What a person types into a file who has the folder and not this project: the card's code.
WITHOUT_PROJECT = """
import sys
for name in ("analysis", "study", "trainables"):
    sys.modules[name] = None
"""
KEEP = """
import json
json.dump(np.asarray(embeddings).tolist(), open("got.json", "w"))
"""
OWN_NETWORK = """
from torch import nn

def tiny(channels: int) -> nn.Module:
    layers = nn.Conv2d(channels, 6, 3, stride=4), nn.BatchNorm2d(6), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        means = x.mean((2, 3))
        return self.layer(means if means.sum() > 0 else -means)

def branching() -> nn.Module:
    return Branching()
"""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fashion-MNIST is a small data set; decoded pictures are kept here."""
    use(monkeypatch, SmallData(VALIDATION, VALIDATION, TEST))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "study", trial("smooth_ap", 0, [0.6]), trial("triplet", 0, [0.3]))


def grey_study(folder: Path, network: str, **changes: Any) -> Study:
    """Of grey pictures of 28 x 28 and a network with random weights."""
    record = trial("smooth_ap", 0, [0.6])
    record.config = record.config.replace(network=network, weights="none", **changes)
    return write_study(folder, record)


def own_study(folder: Path, network: str, size: int, **changes: Any) -> Study:
    """Of a folder of colour pictures and a network with random weights."""
    data = str(photos(folder.parent / "photos", classes=12))
    (folder.parent / "photos" / "LICENCE.txt").write_text("CC BY 4.0\nin full:\n")
    asked = {"losses": ["smooth_ap"], "network": network, "image_size": size, "data": data}
    plan = INFO["plan"] | asked | {"weights": "none", "grey": False, "embedding_dim": None}
    dataset, record = dataset_of(plan), trial("smooth_ap", 0, [0.6])
    fixed = fixed_by(dataset, plan) | {"network": network, "weights": "none", **changes}
    record.config = record.config.replace(batch_size=8, **fixed)
    study = Study.create(folder, INFO | {"plan": plan})
    (folder / DATA).write_text(json.dumps(dataset.about()))
    run = TrainingRun(record.config, dataset.split())
    run.epoch = 1
    run.save(folder / "best.pt")
    record.checkpoint = str(folder / "best.pt")
    study.write_trial(record)
    return Study.load(folder)


def exported(study: Study, name: str, *options: str) -> Path:
    """The folder of an export."""
    assert export.main([str(study.folder), "--format", name, *options]) == 0
    (folder,) = (study.folder / "export").iterdir()
    return folder


def pictures(folder: Path) -> list[Path]:
    """Files of several sizes and modes, one of them turned by its EXIF."""
    rng, paths = np.random.default_rng(0), []
    folder.mkdir()
    for name, shape in (("a.png", (40, 70, 3)), ("b.jpg", (90, 50, 3)), ("c.png", (28, 28, 4))):
        image = Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / name, exif=exif) if name == "b.jpg" else image.save(folder / name)
        paths.append(folder / name)
    return paths


def by_the_project(study: Study, paths: list[Path]) -> Tensor:
    found = chosen(study)
    pixels = np.stack([found.dataset.picture(path) for path in paths])
    return embed_pixels(found.network, torch.from_numpy(pixels))


def by_the_card(folder: Path, paths: list[Path]) -> Tensor:
    """Embeddings by the card's own code, in a process that cannot import this project."""
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(code) == 2
    (folder / "embed.py").write_text(WITHOUT_PROJECT + "".join(code) + KEEP)
    command = [sys.executable, "-W", "error::UserWarning", "embed.py", *map(str, paths)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return torch.tensor(json.loads((folder / "got.json").read_text()))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("network", "embedding_dim"), [("seed_cnn", None), ("torchvision:resnet18", 8)]
)
def test_the_cards_code_gives_the_same_embeddings_of_grey_pictures(
    tmp_path: Path, network: str, embedding_dim: int | None, name: str
) -> None:
    """One network takes them as they are, one takes them for colour ones, and has a head."""
    study = grey_study(tmp_path / "study", network, embedding_dim=embedding_dim)
    paths = pictures(tmp_path / "pictures")
    wanted = by_the_project(study, paths)
    assert (wanted[0] - wanted[1]).abs().max() > 1e-3  # else they could be anyone's
    got = by_the_card(exported(study, name), paths)
    assert got.shape == wanted.shape and (got - wanted).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("network", "size", "embedding_dim", "name"),
    [
        ("timm:resnet10t", 32, 8, "onnx"),
        ("timm:resnet10t", 32, None, "safetensors"),
        ("timm:vit_tiny_patch16_224", 32, None, "safetensors"),
        ("torchvision:mobilenet_v3_small", 40, None, "safetensors"),
        ("OWN:tiny", 24, 5, "torch"),
        ("OWN:tiny", 24, 5, "safetensors"),
    ],
)
def test_the_cards_code_gives_the_same_embeddings_of_ones_own_pictures(
    tmp_path: Path, network: str, size: int, embedding_dim: int | None, name: str
) -> None:
    (tmp_path / "mine.py").write_text(OWN_NETWORK)
    network = network.replace("OWN", str(tmp_path / "mine.py"))
    study = own_study(tmp_path / "study", network, size, embedding_dim=embedding_dim)
    paths = pictures(tmp_path / "pictures")
    folder = exported(study, name)
    (tmp_path / "mine.py").rename(tmp_path / "gone.py")  # the export has its own
    got, wanted = by_the_card(folder, paths), by_the_project(study, paths)
    assert got.shape == wanted.shape and (got - wanted).abs().max() < 1e-4


def test_weights_have_the_names_of_their_library(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import load_file

    study = grey_study(tmp_path / "study", "timm:resnet10t", embedding_dim=8)
    folder = exported(study, "safetensors")
    network = timm.create_model("resnet10t", num_classes=0)
    network.load_state_dict(load_file(folder / "trunk.safetensors"))
    torch.nn.Linear(512, 8).load_state_dict(load_file(folder / "head.safetensors"))


def test_exported_weights_say_what_they_were_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They begin no study whose judging images they have seen, by whatever name its folder goes."""
    study = own_study(tmp_path / "study", "torchvision:resnet18", 28)
    folder = exported(study, "safetensors")
    (tmp_path / "photos").rename(tmp_path / "others")
    plan = study.info["plan"] | {"data": str(tmp_path / "others")}
    same, other_fold = (dataset_of(plan | {"fold": fold}) for fold in (0, 1))
    file = str(folder / "trunk.safetensors")
    check_weights(same.split(), file, dataset=same.name)
    with pytest.raises(ValueError, match=r"of the same .*/trunk\.safetensors was on 2 others"):
        check_weights(other_fold.split(), file, dataset=other_fold.name)
    assert "not known" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_any_number_of_pictures_at_a_time(study: Study, name: str) -> None:
    embed = FORMATS[name].load(exported(study, name))
    assert embed is not None
    with torch.no_grad():
        for count in (1, 2, 3, 64, 65, 130):
            made = embed(torch.rand(count, 1, 28, 28))
            assert made.shape == (count, 256)
            torch.testing.assert_close(made.norm(dim=1), torch.ones(count))


def test_onnx_with_weights_too_large_for_one_file(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(formats, "ONE_FILE", 1_000)
    paths = pictures(tmp_path / "pictures")
    folder = exported(study, "onnx")
    assert (folder / "weights.bin").stat().st_size > 4 * 28_000
    assert (by_the_card(folder, paths) - by_the_project(study, paths)).abs().max() < 1e-4


def test_an_export_names_no_path_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_NETWORK)
    study = own_study(tmp_path / "study", f"{tmp_path}/mine.py:tiny", 24)
    for name in FORMATS:
        assert export.main([str(study.folder), "--format", name]) == 0
    files = [path for path in (study.folder / "export").rglob("*") if path.is_file()]
    assert len(files) > 12
    for path in files:
        content = path.read_bytes()
        for place in (ROOT, tmp_path, Path(torch.__file__).parent.parent):
            assert str(place).encode() not in content, path


def messy(folder: Path) -> list[Path]:
    """Files of modes that are no colour of 8 bits, a small one and a large one."""
    rng = np.random.default_rng(1)
    grey = Image.fromarray(rng.integers(256, size=(60, 40), dtype=np.uint8))
    images = {
        "16.png": Image.fromarray(rng.integers(65_536, size=(50, 31), dtype=np.uint16)),
        "cmyk.jpg": Image.merge("CMYK", [grey, grey, grey, grey.rotate(180)]),
        "palette.gif": grey.convert("P"),
        "small.png": Image.fromarray(rng.integers(90, size=(28, 28), dtype=np.uint8)),
        "large.jpg": Image.fromarray(rng.integers(256, size=(700, 900, 3), dtype=np.uint8)),
    }
    for name, image in images.items():
        image.save(folder / name)
    return [folder / name for name in images]


@pytest.mark.parametrize("own", [False, True])
def test_pictures_are_read_as_the_project_reads_them(tmp_path: Path, own: bool) -> None:
    """A picture of one's own is larger than what the network gets, which is its centre."""
    if own:
        made = own_study(tmp_path / "study", "torchvision:resnet18", 28)
    else:
        made = grey_study(tmp_path / "study", "seed_cnn")
    folder, dataset = exported(made, "safetensors"), chosen(made).dataset
    read = runpy.run_path(str(folder / "pictures.py"))["read"]
    facts = json.loads((folder / "preprocessing.json").read_text())
    high, wide = facts["made to size"]["height"], facts["made to size"]["width"]
    rows, columns = facts["cropped"]["to"]
    assert (high > rows) == own
    top, left = round((high - rows) / 2), round((wide - columns) / 2)
    for path in pictures(tmp_path / "pictures") + messy(tmp_path):
        for box in (None, (3.0, 4.0, 25.0, 20.0)):
            whole = dataset.picture(path, box)
            assert whole.shape[1:] == (high, wide)
            centre = whole[:, top : top + rows, left : left + columns]
            got = read(path, box)
            assert got.dtype == np.float32
            assert list(got.shape) == facts["pixels"]["shape"][1:]
            np.testing.assert_array_equal(got, centre.astype(np.float32) / 255)


def words(folder: Path) -> str:
    """The card without its line ends."""
    return " ".join((folder / "README.md").read_text().split())


def test_the_card_says_what_the_record_says(study: Study) -> None:
    folder = exported(study, "torch")
    text, found = words(folder), chosen(study)
    judged = evaluate(found.choice, validation_images(study)).protocols["full"]
    low, high = judged.interval
    assert f"**{judged.mean_average_precision:.4f}** (95 % over queries: {low:.4f} to" in text
    assert f"to {high:.4f}), 60 queries in a gallery of 60." in text
    assert "Chosen by mAP on the validation images: 0.6000, mean of 1 run." in text
    assert "No test images were read for this card." in text
    assert "28,064 weights" in text and "trained for 1 epoch with Smooth-AP" in text
    assert "began with random weights" in text and "Provisional" not in text
    assert f"fingerprint {found.fingerprint}" in text
    assert "Licence of the data: yours to say." in text  # of the small data set
    config = json.loads((folder / "config.json").read_text())
    assert config["configuration"] == found.choice.config.to_dict()
    assert (config["study"], config["trial"], config["epoch"]) == ("study", "smooth_ap-000", 1)
    assert config["commit"] == "abc1234" and config["versions"] == {"torch": "2.15"}
    assert config["fingerprint"] == found.fingerprint
    assert 0 <= config["largest_difference"] < 1e-4


def test_what_json_lacks_is_null() -> None:
    """As an interval has no ends where one query asks."""
    given = {"low": torch.nan, "all": [1.5, {"high": torch.inf}], "name": "nan"}
    assert finite(given) == {"low": None, "all": [1.5, {"high": None}], "name": "nan"}


def test_fashion_mnist_is_under_the_mit_licence() -> None:
    from trainables.data.fashion_mnist import FashionMnist

    assert FashionMnist().licence.startswith("MIT")


def test_the_card_of_ones_own_pictures(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_NETWORK)
    study = own_study(tmp_path / "study", f"{tmp_path}/mine.py:tiny", 24)
    text = words(exported(study, "safetensors"))
    assert "Licence of the data: yours to say." in text
    assert "Beside the data lies LICENCE.txt: CC BY 4.0." in text
    card = {line.split()[0]: line for line in chosen(study).dataset.card().splitlines()}
    assert " ".join(card["train"].split()) in text
    trained = int(re.search(r"of (\d+) classes", card["train"])[1])  # type: ignore[index]
    assert f"`photos`, 12 classes, of which {trained} were trained on." in text
    assert "Protocol: held_out." in text
    assert "A network (`mine.py:tiny`, " in text
    assert "began with what tiny of mine.py returns" in text


def test_the_card_of_an_unfinished_study_is_provisional(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", trial("smooth_ap", 0, [0.6]), status="running")
    text = words(exported(study, "safetensors"))
    assert "**Provisional: the study was running when this was exported**" in text


def test_the_card_of_a_comparison_has_its_test(tmp_path: Path) -> None:
    sweep, confirmation = make_comparison(tmp_path / "c")
    before = exported(sweep, "safetensors", "--loss", "triplet")
    assert "Provisional: the study was a comparison under way" in words(before)
    before.rename(tmp_path / "before")
    read_test(sweep, confirmation)
    text = words(exported(sweep, "safetensors", "--loss", "triplet"))
    summary = pd.read_csv(sweep.folder / "finals/summary.csv")
    mine = (summary["loss"] == "triplet") & (summary["role"] == "chosen")
    (row,) = summary[mine & (summary["protocol"] == "full")].to_dict("records")
    runs = pd.read_csv(sweep.folder / "finals/runs.csv").set_index("trial_id")
    trial_id = chosen(sweep, "triplet").choice.trial_id
    assert f"of this very run: **{runs.loc[trial_id, 'map_full']:.4f}**" in text
    assert f"Of the 3 runs of what the comparison chose for this loss: {row['map']:.4f}" in text
    assert f"over seeds: {row['low']:.4f} to {row['high']:.4f}; over queries: " in text
    assert f"{row['query_low']:.4f} to {row['query_high']:.4f})" in text
    assert "Provisional" not in text and "No test images" not in text


def test_weights_go_along_without_their_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN_NETWORK)
    study = own_study(tmp_path / "study", f"{tmp_path}/mine.py:tiny", 24)
    (tmp_path / "photos" / "c" / "2.bmp").unlink()
    text = words(exported(study, "safetensors"))
    assert "No interval: the validation images were not at hand." in text
    assert "(95 % over queries" not in text
    out = capsys.readouterr().out
    assert "; no interval: the study in" in out and "is of other data: photos" in out


@pytest.mark.parametrize(
    ("network", "changes", "said"),
    [
        ("torchvision:resnet18", {}, "torchvision's ResNet18_Weights.IMAGENET1K_V1; its batch"),
        ("torchvision:resnet18", {"freeze": "stem"}, "IMAGENET1K_V1; its first layer and its"),
        ("torchvision:resnet18", {"freeze": "none"}, "IMAGENET1K_V1"),
        ("torchvision:resnet18", {"weights": "none"}, "random weights"),
        ("torchvision:resnet18", {"weights": "/there/w.pt"}, "the weights w.pt; its batch norms"),
        ("timm:resnet18", {}, "timm's resnet18.a1_in1k, licence apache-2.0; its batch norms"),
        ("seed_cnn", {}, "random weights"),
    ],
)
def test_what_a_network_began_with(
    study: Study, network: str, changes: dict[str, str], said: str
) -> None:
    found = chosen(study)
    fields = {"network": network, "weights": "default", "freeze": None, **changes}
    config = found.choice.config.replace(**fields)
    other = dataclasses.replace(found, choice=found.choice._replace(config=config))
    assert said in began_with(other)
    assert ("stayed" in began_with(other)) == ("; its" in said)


def test_one_loss_of_several(study: Study, tmp_path: Path) -> None:
    folder = exported(study, "safetensors", "--loss", "triplet")
    assert folder.name == "triplet-safetensors"
    there = tmp_path / "there"
    there.mkdir()  # one that is empty may be there
    arguments = [str(study.folder), "--format", "safetensors", "--output", str(there)]
    assert export.main(arguments) == 0
    assert json.loads((there / "config.json").read_text())["loss"] == "smooth_ap"
    assert there.stat().st_mode & 0o055 == 0o055


def refused(capsys: pytest.CaptureFixture[str], study: Path, *options: str) -> str:
    """The one line of an export that cannot be made."""
    arguments = [str(study), *(options or ("--format", "safetensors"))]
    assert export.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_what_cannot_be_exported(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is not a study" in refused(capsys, tmp_path / "none")
    options = ("--format", "safetensors", "--loss", "smooth_pa")
    assert "did you mean smooth_ap?" in refused(capsys, study.folder, *options)
    output = ("--format", "safetensors", "--output", str(tmp_path / "file" / "there"))
    (tmp_path / "file").write_text("")
    assert "File exists" in refused(capsys, study.folder, *output)
    exported(study, "safetensors")
    capsys.readouterr()
    assert "smooth_ap-safetensors is there and holds something" in refused(capsys, study.folder)
    checkpoint = chosen(study).choice.checkpoint
    assert checkpoint is not None
    checkpoint.unlink()
    assert "the checkpoint of trial smooth_ap-000 is missing" in refused(capsys, study.folder)
    empty = Study.create(tmp_path / "empty", INFO)
    assert "has no trial yet that could be chosen" in refused(capsys, empty.folder)


def test_a_record_has_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, confirmation = make_comparison(tmp_path / "c")
    read_test(sweep, confirmation)
    record = tmp_path / "records" / "r"
    publish.publish(sweep.folder, record)
    capsys.readouterr()
    assert "a published record has no weights" in refused(capsys, record)


@pytest.mark.parametrize(
    ("name", "law"), [("torch", "cannot be traced by torch"), ("onnx", "cannot be put into ONNX")]
)
def test_a_network_that_cannot_be_traced_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, law: str
) -> None:
    (tmp_path / "mine.py").write_text(OWN_NETWORK)
    study = own_study(tmp_path / "study", f"{tmp_path}/mine.py:branching", 24)
    capsys.readouterr()
    said = refused(capsys, study.folder, "--format", name)
    assert f"mine.py:branching {law} (--format safetensors" in said
    assert not list((study.folder / "export").iterdir())
    exported(study, "safetensors")


def test_an_export_that_differs_is_not_left(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a little more than may be, and by NaN."""
    right = FORMATS["safetensors"]
    for wrong in (2e-4, torch.nan):

        def load(folder: Path, by: float = wrong) -> Callable[[Tensor], Tensor]:
            embed = right.load(folder)
            assert embed is not None
            return lambda pictures: embed(pictures) + by

        monkeypatch.setitem(FORMATS, "safetensors", right._replace(load=load))
        assert "embeddings must be the network's to 0.0001" in refused(capsys, study.folder)
        assert not list((study.folder / "export").iterdir())


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """As if these were not installed."""
    find = importlib.util.find_spec
    found = lambda name, *rest: None if name in modules else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", found)


def test_onnx_is_an_extra(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "onnx", "onnxscript")
    said = refused(capsys, study.folder, "--format", "onnx")
    assert "needs onnx and onnxscript, of the extra [onnx]: pip install" in said


def test_without_onnxruntime_nothing_is_compared(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "onnxruntime")
    folder = exported(study, "onnx")
    assert "not compared: no onnxruntime" in capsys.readouterr().out
    assert "was not compared with the network" in words(folder)


def test_the_readmes_code_is_the_cards() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    mine = next(block for block in blocks if "onnxruntime" in block)
    card = model_card._code("onnx", SimpleNamespace(shape=(1, 28, 28), width=256))
    both = card + model_card._for_files("onnx")
    assert sorted(filter(None, mine.splitlines())) == sorted({*both.splitlines()} - {""})
