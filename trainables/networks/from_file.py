"""`path/to/file.py:function`: a network of one's own.

    def small(channels: int, height: int, width: int) -> torch.nn.Module: ...

returns a module (B, C, H, W) → (B, D) of float32 pictures; it takes those of the three arguments
that it names. The file may say more:

    INPUT = {"height": 64, "width": 64, "mean": (0.5,), "std": (0.5,)}  # any field of `Input`
    LR = 1e-3                                                           # Adam's default
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from trainables.networks.entry import Backbone, measure_width
from trainables.networks.input import Input, NetworkError

SIDE = 224  # pixels, where neither the file nor the caller says


def known() -> list[str]:
    """None: they are their owners'."""
    return []


def backbone(name: str, channels: int, size: tuple[int, int] | None) -> Backbone | None:
    """The network that the file's function makes, as it makes it.

    Raises:
        NetworkError: the file cannot be loaded, has no such function, says an input that breaks
            a law, or the function gives something else than such a module.
    """
    path, colon, function = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        return None
    module = _module(path)
    wants = _input(name, getattr(module, "INPUT", {}), channels, size)
    make = partial(trunk, path, function, wants)
    width = measure_width(name, make, wants, devices=("cpu",))
    lr = getattr(module, "LR", Backbone.lr)
    return Backbone(wants, width, fresh=make, default=make, pretrained=None, lr=lr)


def trunk(path: str, function: str, wants: Input) -> nn.Module:
    """What the function returns for such an input."""
    name = f"{path}:{function}"
    maker = getattr(_module(path), function, None)
    if not callable(maker):
        raise NetworkError(f"{name}: there is no function {function!r} in {path}")
    offered = {"channels": wants.channels, "height": wants.height, "width": wants.width}
    named = inspect.signature(maker).parameters
    try:
        made = maker(**{key: value for key, value in offered.items() if key in named})
    except Exception as error:  # the file is its owner's: it may raise anything
        raise NetworkError(f"{name} failed: {_one_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise NetworkError(f"{name} must return a torch.nn.Module; got {type(made).__name__}")
    return made


def _input(name: str, said: Any, channels: int, size: tuple[int, int] | None) -> Input:
    try:
        fields = {"channels": channels, "height": SIDE, "width": SIDE, **said}
        if size is not None:
            share = fields.pop("resize", 0) / min(fields["height"], fields["width"])
            fields |= {"height": size[0], "width": size[1], "resize": round(min(size) * share)}
        half = (0.5,) * fields["channels"]
        return Input(**{"mean": half, "std": half, **fields})
    except (TypeError, NetworkError) as error:
        raise NetworkError(f"{name}: INPUT: {_one_line(error)}") from error


def _module(path: str) -> ModuleType:
    """The file, loaded once a process."""
    file = Path(path).expanduser().resolve()
    name = f"network file {file}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise NetworkError(f"network file {path} does not exist")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise NetworkError(f"network file {path} cannot be loaded: {_one_line(error)}") from error
    return module


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
