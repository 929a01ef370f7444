"""The images of a study: all that train, judge, test or show by it have them from here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from study.results.files import StudyError, read_json
from study.results.studies import Study
from trainables.data import Asked, Dataset, JudgedImages, LabelledImages, Roles, resolve
from trainables.data.ledger import Reading
from trainables.data.names import DEFAULT, known
from trainables.networks import Input, NetworkError
from trainables.networks import resolve as network_named

DATA = "data.json"  # in a study's folder: what `Dataset.about` says


class Images(NamedTuple):
    """What networks are judged on.

    Attributes:
        data: N images with their labels.
        protocols: by name, their roles; the first is the answer's.
        classes: the name of label 0, 1, ...
        name: `test images` or `validation images`, and of which classes if not of all.
        note: why these are not the test images; empty if they are.
        names: of each image, to be shown; empty for images that are not files.
    """

    data: LabelledImages
    protocols: Mapping[str, Roles]
    classes: tuple[str, ...]
    name: str
    note: str
    names: tuple[str, ...] = ()


def dataset_of(plan: Mapping[str, Any], data_dir: Path | str | None = None) -> Dataset:
    """The data set of a plan, whose fields are as in study.json.

    Args:
        data_dir: where its files are now; None: where the plan says.

    Raises:
        StudyError: the network that the pictures are to be made for cannot be had.
        DataError: there is no such data, or it does not know what the plan asks of it.
    """
    data = plan.get("data", DEFAULT)
    wants = None
    if not known(data):
        wants = _input(plan)
        if wants.height != wants.width:
            law = "a network of one's own pictures must take squares"
            raise StudyError(f"{law}; {plan['network']} takes {wants.height} x {wants.width}")
    asked = Asked(
        place=None if data_dir is None else Path(data_dir),
        protocol=plan.get("protocol"),
        folds=plan.get("folds"),
        fold=plan.get("fold", 0),
        held_out=tuple(plan.get("holdout_classes") or ()),
        judging=tuple(plan.get("validation_classes") or ()),
        small=bool(plan.get("smoke_test")),
        grey=bool(plan.get("grey")),
        input=wants,
    )
    return resolve(data, asked)


def fixed_by(dataset: Dataset, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of every trial's configuration that its data decides."""
    size = plan.get("image_size")
    if not dataset.own_size:
        size = _input(plan).height
    return {
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "image_size": size,
    }


def _input(plan: Mapping[str, Any]) -> Input:
    """What a plan's network takes of one's own pictures, whatever weights it begins with.

    Raises:
        StudyError: it cannot be had.
    """
    channels, size = 1 if plan["grey"] else 3, plan["image_size"]
    try:
        return network_named(plan["network"], weights="none", channels=channels, size=size).input
    except NetworkError as error:
        raise StudyError(str(error)) from error


def validation_images(study: Study, data_dir: Path | str | None = None) -> Images:
    """The validation images that a study is judged on; with held-out classes those of the classes
    that judged its search, or, where these were trained on, of the held-out ones.

    Raises:
        StudyError: the data is not that which the study's trials were trained on.
        DataError: its files are missing or damaged.
    """
    dataset = _dataset(study, data_dir)
    name, status = f"validation images{dataset.described_validation}", study.info.get("status")
    state = "" if status == "finished" else f"; the study is {status}"
    return _images(dataset, dataset.validation(), name, f"{name}, not test{state}")


def read_test_images(study: Study, reading: Reading, data_dir: Path | str | None = None) -> Images:
    """The test images that a study is judged on; the reading is entered in the ledger.

    Raises:
        StudyError: as `validation_images`.
        DataError: as `trainables.data.Dataset.test`.
    """
    dataset = _dataset(study, data_dir)
    return _images(dataset, dataset.test(reading), name_of_test(study), "")


def show_test_images(study: Study, found: Path, data_dir: Path | str | None = None) -> Images:
    """The same to look at beside what a reading found, the file of its results.

    Raises:
        StudyError: as `validation_images`.
        DataError: as `trainables.data.Dataset.shown`.
    """
    dataset = _dataset(study, data_dir)
    return _images(dataset, dataset.shown(found), name_of_test(study), "")


def name_of_test(study: Study) -> str:
    """What `read_test_images` calls its images."""
    return f"test images{about(study)['described']}"


def classes_of(study: Study) -> tuple[str, ...]:
    """The name of label 0, 1, ... of a study's images."""
    return tuple(about(study)["classes"])


def about(study: Study) -> dict[str, Any]:
    """What a study's folder says of its data, which need not be at hand.

    Raises:
        StudyError: the file is missing, as in studies of earlier versions, or damaged.
    """
    return read_json(study.folder / DATA)


def _images(dataset: Dataset, judged: JudgedImages, name: str, note: str) -> Images:
    images, protocols, names = judged
    return Images(images, protocols, dataset.classes, name, note, names)


def _dataset(study: Study, data_dir: Path | str | None) -> Dataset:
    """The data of a study, once it is known to be what its trials were trained on."""
    dataset = dataset_of(study.info["plan"], data_dir)
    for trial in study.trials:
        check_data(dataset, trial.config.dataset, trial.config.data_fingerprint, study.folder)
    return dataset


def check_data(dataset: Dataset, name: str, fingerprint: str, folder: Path) -> None:
    """StudyError unless a data set is the one of this name and fingerprint."""
    law = f"the study in {folder} is of other data"
    if known(dataset.name) and dataset.name != name:
        raise StudyError(f"{law}: {name}; got {dataset.name}")
    if dataset.fingerprint != fingerprint:
        raise StudyError(f"{law}: {name} {fingerprint}; got {dataset.name} {dataset.fingerprint}")
