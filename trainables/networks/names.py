"""A name, and the weights it is to start from → a `Network`."""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
from collections.abc import Iterator
from functools import cache, partial
from types import ModuleType

from trainables.networks.embedder import FREEZES
from trainables.networks.entry import Backbone, Network
from trainables.networks.input import NetworkError
from trainables.networks.weights import find, with_weights

FINE_TUNING_LR = 1e-4  # Adam's default where the weights were trained before


def resolve(
    name: str,
    *,
    weights: str = "default",
    freeze: str | None = None,
    channels: int = 3,
    size: int | tuple[int, int] | None = None,
) -> Network:
    """The network of a name; its weights are downloaded and read when it is built.

    Args:
        name: `seed_cnn`, `torchvision:NAME`, `timm:NAME` or `path/to/file.py:function`.
        weights: `default` (what the network comes with: `seed_cnn` comes with random ones),
            `none` (random ones), a file (safetensors or torch's), or `package:NAME`.
        freeze: `none`, `bn`, `stem` or `backbone`; None takes `bn` for pretrained weights.
        channels: of the data's pictures, 1 or 3; a network that takes colour alone says so in
            its input, which makes grey pictures fit.
        size: of the pictures that the network gets, in pixels, (height, width) or a side; None
            takes the weights' own.

    Raises:
        NetworkError: there is no such network (the message has the nearest), it cannot take such
            pictures, has no such weights, or random weights were to be frozen.
    """
    if size is not None:
        size = (size, size) if isinstance(size, int) else (size[0], size[1])
    if channels not in (1, 3):
        raise NetworkError(f"channels must be 1 or 3; got {channels!r}")
    if freeze not in (None, *FREEZES):
        raise NetworkError(f"freeze must be one of {', '.join(FREEZES)}; got {freeze!r}")
    found = _backbone(name, channels, size)
    if weights == "default":
        if found.default is None:
            raise NetworkError(
                f"{name} comes with no weights; give --weights none or --weights FILE"
            )
        make, pretrained = found.default, found.pretrained
    elif weights == "none":
        make, pretrained = found.fresh, False
    else:
        find(weights, name)
        make, pretrained = partial(with_weights, found.fresh, weights, name), True
    freeze = freeze or ("bn" if pretrained else "none")
    if freeze != "none" and pretrained is False:
        raise NetworkError(f"{name} starts from random weights: freeze must be none; got {freeze}")
    lr = FINE_TUNING_LR if pretrained else found.lr
    return Network(name, found.input, found.width, lr, bool(pretrained), freeze, make)


def families() -> Iterator[ModuleType]:
    """The modules of this package that answer to names, each imported when its turn comes."""
    for one in pkgutil.iter_modules([os.path.dirname(__file__)]):
        module = importlib.import_module(f"{__package__}.{one.name}")
        if hasattr(module, "backbone"):
            yield module


@cache
def _backbone(name: str, channels: int, size: tuple[int, int] | None) -> Backbone:
    for family in families():
        found: Backbone | None = family.backbone(name, channels, size)
        if found is not None:
            return found
    nearest = _nearest(name)
    near = f"; nearest: {', '.join(nearest)}" if nearest else ""
    raise NetworkError(
        "network must be seed_cnn, torchvision:NAME, timm:NAME or path/to/file.py:function; "
        f"got {name!r}{near}"
    )


def _nearest(name: str) -> list[str]:
    """Up to three known names; a name without its family is compared with all families' names."""
    known = [full for family in families() for full in family.known()]
    if ":" in name:
        return difflib.get_close_matches(name, known, n=3)
    bare: dict[str, list[str]] = {}
    for full in known:
        bare.setdefault(full.rpartition(":")[2], []).append(full)
    matches = difflib.get_close_matches(name, bare, n=3)
    return [full for match in matches for full in bare[match]][:3]
