"""What builds a network's trunk anew without this project: plain torch, its library, its file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torchvision import models

from analysis.exported import plain_seed_cnn
from analysis.exported.plain_seed_cnn import PlainSeedCNN
from trainables.networks import Input, torchvision_networks
from trainables.networks.seed_cnn import SeedCNN

OWN_FILE = "own_network.py"  # what a network's own file is called in an export


class Recipe(NamedTuple):
    """How a trunk is built.

    Attributes:
        code: Python that defines `trunk() -> nn.Module`, with random weights.
        imports: what the code imports beside torch, a statement each.
        needs: what to install for it beside torch and safetensors.
        files: by name, the content of those that the code reads.
    """

    code: str
    imports: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()


def plain(trunk: nn.Module) -> nn.Module:
    """The trunk in torch's own layers, with the same weights: one that can be traced."""
    if not isinstance(trunk, SeedCNN):
        return trunk
    same = PlainSeedCNN(trunk.conv1.in_channels)
    same.load_state_dict(trunk.state_dict())
    return same.eval()


def recipe(title: str, wants: Input) -> Recipe:
    """Of the network of this name, for such pictures."""
    family, _, short = title.rpartition(":")
    if family == "torchvision":
        return _torchvision(short)
    if family == "timm":
        return _timm(short, wants)
    if family:
        return _own_file(Path(family).expanduser(), short, wants)
    code = f"def trunk() -> nn.Module:\n    return PlainSeedCNN({wants.channels})\n"
    return Recipe(f"{body(inspect.getsource(plain_seed_cnn))}\n\n{code}")


def without_folder(title: str) -> str:
    """A network's name; of a file of one's own without the folder, which is nobody's business."""
    family, colon, short = title.rpartition(":")
    return f"{Path(family).name}{colon}{short}"


def body(source: str) -> str:
    """A file's code without its docstring and its imports."""
    return source[source.index("\n\n\n") :].strip() + "\n"


def _torchvision(name: str) -> Recipe:
    options = torchvision_networks.OPTIONS.get(name, {})
    with torch.device("meta"):  # names alone
        whole = models.get_model(name, weights=None, **options).state_dict()
        kept = torchvision_networks.trunk(name, pretrained=False).state_dict()
    (last,) = {weight.rpartition(".")[0] for weight in whole if weight not in kept}
    said = "".join(f", {key}={value!r}" for key, value in options.items())
    code = f"""def trunk() -> nn.Module:
    network = torchvision.models.get_model("{name}", weights=None{said})
    network.set_submodule("{last}", nn.Identity())
    return network
"""
    return Recipe(code, ("import torchvision",), ("torchvision",))


def _timm(name: str, wants: Input) -> Recipe:
    import timm  # an extra

    registered = timm.get_pretrained_cfg(name)
    fixed = registered is not None and registered.fixed_input_size
    said = f", img_size=({wants.height}, {wants.width})" if fixed else ""
    code = f"""def trunk() -> nn.Module:
    return timm.create_model("{name}", num_classes=0{said})
"""
    return Recipe(code, ("import timm",), ("timm",))


def _own_file(file: Path, function: str, wants: Input) -> Recipe:
    offered = {"channels": wants.channels, "height": wants.height, "width": wants.width}
    code = f"""def trunk() -> nn.Module:
    spec = importlib.util.spec_from_file_location("own_network", HERE / "{OWN_FILE}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    named = inspect.signature(module.{function}).parameters
    offered = {offered}
    return module.{function}(**{{key: one for key, one in offered.items() if key in named}})
"""
    return Recipe(
        code,
        ("import importlib.util", "import inspect"),
        files=((OWN_FILE, file.read_text(encoding="utf-8")),),
    )
