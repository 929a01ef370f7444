"""`timm:NAME`: the networks of timm, which is an extra; NAME may have a tag of its weights."""

from __future__ import annotations

import importlib.util
import math
from functools import partial
from typing import Any

from torch import nn

from trainables.networks.entry import Backbone, measure_width
from trainables.networks.input import Input, NetworkError
from trainables.networks.weights import downloaded

PREFIX = "timm:"


def known() -> list[str]:
    """All of them, by full name; none if timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        return []
    import timm  # slow to import, and may be missing

    return [PREFIX + name for name in timm.list_models()]


def backbone(name: str, channels: int, size: tuple[int, int] | None) -> Backbone | None:
    """The input as the weights' data config asks for it.

    Raises:
        NetworkError: timm is not installed, or the network has no weights of that tag.
    """
    if not name.startswith(PREFIX):
        return None
    if importlib.util.find_spec("timm") is None:
        law = f"{name} needs timm, which is not installed"
        raise NetworkError(f"{law}: pip install --editable '.[timm]'")
    import timm

    short = name.removeprefix(PREFIX)
    if not timm.is_model(short):
        return None
    tags = timm.list_pretrained(f"{short.partition('.')[0]}.*")
    if "." in short and short not in tags:
        raise NetworkError(f"{name}: its weights are {', '.join(tags) or 'none'}")
    registered = timm.get_pretrained_cfg(short)
    assert registered is not None  # of every network that timm knows
    config = registered.to_dict()
    wants = _input(config, size)
    options = {"img_size": size} if size and config["fixed_input_size"] else {}
    fresh = partial(trunk, short, pretrained=False, **options)
    published = partial(trunk, short, pretrained=True, **options) if tags else None
    return Backbone(wants, measure_width(name, fresh, wants), fresh, published)


def _input(config: dict[str, Any], size: tuple[int, int] | None) -> Input:
    from timm.data import resolve_data_config

    data = resolve_data_config(pretrained_cfg=config)
    channels, *own = data["input_size"]
    height, width = size or own
    side = min(height, width)
    return Input(
        channels=channels,
        height=height,
        width=width,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
        # Rounded as timm's transform does; a share above 1 would pad.
        resize=max(math.floor(side / data["crop_pct"]), side),
    )


def trunk(name: str, *, pretrained: bool, **options: Any) -> nn.Module:
    """The network without its classifier; `options` as `timm.create_model` has them."""
    import timm

    make = partial(timm.create_model, name, num_classes=0, **options)
    return downloaded(PREFIX + name, partial(make, pretrained=True)) if pretrained else make()
