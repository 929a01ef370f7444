"""`torchvision:NAME`: the classification networks of torchvision."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torchvision import models

from trainables.networks.entry import Backbone, measure_width
from trainables.networks.input import Input
from trainables.networks.weights import downloaded

PREFIX = "torchvision:"
CLASSES = 1_000  # of ImageNet, which all of them are made for

# The two Inceptions: without their second losses, and with the change of scale that their weights
# were trained behind.
INCEPTION = {"aux_logits": False, "init_weights": False, "transform_input": True}
OPTIONS: dict[str, dict[str, Any]] = {"googlenet": INCEPTION, "inception_v3": INCEPTION}


def known() -> list[str]:
    """All of them, by full name."""
    return [PREFIX + name for name in models.list_models(module=models)]


def backbone(name: str, channels: int, size: tuple[int, int] | None) -> Backbone | None:
    """The input as the best weights ask for it; another size is cropped by the same share."""
    if name not in known():
        return None
    short = name.removeprefix(PREFIX)
    asked = models.get_model_weights(short).DEFAULT.transforms()
    crop = asked.crop_size[0]
    height, width = size or (crop, crop)
    wants = Input(
        channels=3,
        height=height,
        width=width,
        mean=tuple(asked.mean),
        std=tuple(asked.std),
        interpolation=asked.interpolation.value,
        resize=round(min(height, width) * asked.resize_size[0] / crop),
    )
    fresh = partial(trunk, short, pretrained=False)
    default = partial(trunk, short, pretrained=True)
    return Backbone(wants, measure_width(name, fresh, wants), fresh, default)


def trunk(name: str, *, pretrained: bool) -> nn.Module:
    """The network without its last layer, the one that tells ImageNet's classes apart."""
    options = OPTIONS.get(name, {})
    if pretrained:
        make = partial(models.get_model, name, weights="DEFAULT", progress=False, **options)
        network = downloaded(PREFIX + name, make)
    else:
        network = models.get_model(name, weights=None, **options)
    *_, last = (part for part, module in network.named_modules() if _classifies(module))
    network.set_submodule(last, nn.Identity())
    return network


def _classifies(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):
        return module.out_features == CLASSES
    return isinstance(module, nn.Conv2d) and module.out_channels == CLASSES
