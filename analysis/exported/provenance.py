"""Where a network comes from and how well it retrieves: config.json, all of it from the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.exported.trunks import without_folder
from analysis.found.finals import has_finals, is_comparison
from analysis.gallery.networks import Chosen
from study.judge.evaluation import evaluate
from study.judge.final_test import FINALS
from study.results.files import StudyError
from study.results.images import about, validation_images
from study.results.studies import Study
from study.results.trials import title
from trainables.data import DataError, Dataset
from trainables.learner import network_of
from trainables.networks import Input, Network
from trainables.networks.weights import PACKAGE
from trainables.trained import load_trained

# Of what a data card says, the lines that name no file.
CARD_LINES = ("images", "train", "validation", "test")


def provenance(found: Chosen, data_dir: Path | str | None = None) -> dict[str, Any]:
    """What config.json has of a network, whatever the format; of its folders it says nothing.

    Args:
        data_dir: where the images are, on which the network is judged once more for an interval.

    Raises:
        StudyError: what a finished comparison found is damaged.
    """
    study, choice, info = found.study, found.choice, found.study.info
    return {
        "study": study.folder.resolve().name,
        "status": _status(study),
        "loss": found.loss,
        "trial": choice.trial_id,
        "epoch": choice.epoch,
        "configuration": _configuration(found),
        "fingerprint": found.fingerprint,
        "embedding": found.network.width,
        "began_with": began_with(found),
        "trained_classes": _trained_classes(found),
        "data": _data(found),
        "validation": _validation(found, data_dir),
        "test": _test(found),
        "commit": info.get("commit"),
        "versions": info.get("versions"),
        "machine": info.get("machine"),
    }


def _status(study: Study) -> str:
    """`finished` if nothing can be chosen any more that is not chosen now."""
    status = str(study.info.get("status"))
    under_way = status == "finished" and is_comparison(study) and not has_finals(study)
    return "a comparison under way" if under_way else status


def _configuration(found: Chosen) -> dict[str, Any]:
    """The trial's, which names no folder of this machine."""
    config = found.choice.config
    weights = config.weights if config.weights.startswith(PACKAGE) else Path(config.weights).name
    teacher = config.teacher and Path(config.teacher).name
    network = without_folder(config.network)
    return {**config.to_dict(), "network": network, "weights": weights, "teacher": teacher}


def began_with(found: Chosen) -> str:
    """The weights before the first step, and which of them stayed."""
    config, wants = found.choice.config, found.network.input
    if config.weights not in ("default", "none"):
        said, kept = f"the weights {Path(config.weights).name}", config.freeze or "bn"
    else:
        size = (wants.height, wants.width)
        network = network_of(config, channels=wants.channels, size=size)
        said, kept = _first_weights(network, config.weights, wants), network.freeze
    stayed = {
        "bn": "; its batch norms stayed as they were",
        "stem": "; its first layer and its batch norms stayed as they were",
        "backbone": "; all of them but the linear head's stayed as they were",
    }
    return said + stayed.get(kept, "")


def _first_weights(network: Network, weights: str, wants: Input) -> str:
    family, _, name = network.title.rpartition(":")
    if family.endswith(".py"):
        return f"what {name} of {Path(family).name} returns"
    if weights == "none" or not network.pretrained:
        return "random weights"
    if family == "torchvision":
        from torchvision import models

        return f"pretrained weights: torchvision's {models.get_model_weights(name).DEFAULT}"
    import timm  # an extra

    config = timm.get_pretrained_cfg(name)
    terms = f", licence {config.license}" if config and config.license else ""
    tag = f".{config.tag}" if config and config.tag and "." not in name else ""
    return f"pretrained weights: timm's {name}{tag}{terms}"


def _trained_classes(found: Chosen) -> int:
    assert found.choice.checkpoint is not None  # the network was read from it
    classes = load_trained(found.choice.checkpoint).origin.classes
    return classes if isinstance(classes, int) else len(classes)


def _data(found: Chosen) -> dict[str, Any]:
    said = about(found.study)
    plan = found.study.info["plan"]
    lines = [" ".join(line.split()) for line in said.get("card", "").splitlines()]
    return {
        "name": said["name"],
        "fingerprint": said["fingerprint"],
        "classes": len(said["classes"]),
        "held_out": [said["classes"][number] for number in found.dataset.held_out],
        "validation_chose": found.dataset.validation_chose,
        "judging": [said["classes"][number] for number in found.dataset.judging],
        "protocol": getattr(found.dataset, "protocol", None),  # of one's own data
        "folds": plan.get("folds"),
        "fold": plan.get("fold"),
        "small": bool(plan.get("smoke_test")),
        "card": [line for line in lines if line.partition(" ")[0] in CARD_LINES],
        "licence": found.dataset.licence,
        "licences_beside_it": _licences(found.dataset),
    }


def _licences(dataset: Dataset) -> list[str]:
    """The first line of each licence that lies in the data's folder."""
    place = getattr(dataset, "place", None)
    if place is None or not Path(place).is_dir():
        return []
    lines = []
    for file in filter(Path.is_file, sorted(Path(place).glob("LICEN[CS]E*"))):
        try:
            with file.open(encoding="utf-8", errors="replace") as text:
                first = text.readline(200).strip()
        except OSError as error:  # the network goes along, with the licence's name
            first = f"cannot be read ({error.strerror})"
        lines.append(f"{file.name}: {first}")
    return lines


def _validation(found: Chosen, data_dir: Path | str | None) -> dict[str, Any]:
    """What chose the network, and mAP with its interval where the images are at hand."""
    choice, study = found.choice, found.study
    row: dict[str, Any] = {
        "chosen_by": title(study.metric),
        "score": choice.score,
        "score_over_runs": choice.seeds,
    }
    try:
        images = validation_images(study, data_dir)
    except (DataError, StudyError) as error:  # the weights go along without it
        return row | {"not_measured": " ".join(str(error).split())}
    judged = next(iter(evaluate(choice, images).protocols.values()))
    return row | {
        "images": images.name,
        "map": judged.mean_average_precision,
        "low": judged.interval.low,
        "high": judged.interval.high,
        "queries": len(judged.roles.queries),
        "gallery": len(judged.roles.gallery),
    }


def _test(found: Chosen) -> dict[str, Any] | None:
    """What a finished comparison found for this loss's choice and for this run; None without one.

    Raises:
        StudyError: the summary is damaged.
    """
    folder = found.study.folder / FINALS
    if not has_finals(found.study):
        return None
    try:
        table, runs = pd.read_csv(folder / "summary.csv"), pd.read_csv(folder / "runs.csv")
        mine = table[(table["loss"] == found.loss) & (table["role"] == "chosen")]
        row = mine.iloc[0].to_dict()  # the first protocol is the answer's
        own = runs.loc[runs["trial_id"] == found.choice.trial_id, f"map_{row['protocol']}"]
        names = ("protocol", "map", "low", "high", "query_low", "query_high", "runs", "searches")
        return {name: row[name] for name in names} | {"map_of_this_run": own.iloc[0].item()}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise StudyError(f"{folder} does not hold the test of {found.loss}: {error!r}") from error
