"""From a picture's file to the numbers that a network takes: for machines, for people, and as code.

The code that goes along is this project's own, so that it cannot differ from it.
"""

from __future__ import annotations

import inspect
from typing import Any

from trainables.augment import centre_crop
from trainables.data import Dataset, fashion_mnist
from trainables.data.fashion_mnist import as_fashion
from trainables.data.own import OwnData
from trainables.data.pixels import decode
from trainables.networks import Input

READER = "pictures.py"
IMPORTED = "from trainables.data.errors import DataError\n"
OWN_ERROR = '''

class DataError(ValueError):
    """A picture that cannot be read."""

'''


def described(dataset: Dataset, wants: Input, channels: int) -> dict[str, Any]:
    """preprocessing.json: all that happens to a picture, in this order."""
    return {
        "reader": READER,
        "opened": {
            "orientation": "as EXIF says",
            "frame": "the first",
            "transparency": "over white",
            "grey of 16 bits": "scaled from 0..65535",
            "mode": "L" if channels == 1 else "RGB",
        },
        "made to size": _own(dataset) if isinstance(dataset, OwnData) else _fashion(),
        "cropped": {"to": [wants.height, wants.width], "where": "centre"},
        "pixels": {
            "layout": "(batch, channels, height, width)",
            "shape": [None, channels, wants.height, wants.width],
            "type": "float32",
            "range": [0.0, 1.0],
            "divided by": 255,
        },
        "inside the network": {
            "channels": wants.channels,
            "mean": list(wants.mean),
            "std": list(wants.std),
            "embedding": "scaled to unit length",
        },
    }


def _own(dataset: OwnData) -> dict[str, Any]:
    wants = dataset.decoding
    return {
        "steps": "scaled until it covers the size, its aspect kept; the rest cut off evenly",
        "height": wants.height,
        "width": wants.width,
        "interpolation": wants.interpolation,
        "antialias": wants.interpolation != "nearest",
        "fit": wants.fit,
    }


def _fashion() -> dict[str, Any]:
    light, near = fashion_mnist.LIGHT, fashion_mnist.NEAR
    return {
        "steps": [
            f"inverted, if the median of its rim is {light} or more: light things on black",
            f"left as it is from here on, if it is {fashion_mnist.SIDE} x {fashion_mnist.SIDE} "
            "and was not inverted",
            f"its ground trimmed: all around that is within {near} of the upper left corner",
            "its longer side scaled to the size, its aspect kept; centred on black",
        ],
        "height": fashion_mnist.SIDE,
        "width": fashion_mnist.SIDE,
        "light": light,
        "near": near,
        "interpolation": "lanczos",
        "antialias": True,
        "fit": "pad",
    }


def in_words(facts: dict[str, Any]) -> list[str]:
    """The same as sentences, one a step."""
    size, cropped, inside = (
        facts["made to size"],
        facts["cropped"]["to"],
        facts["inside the network"],
    )
    channels = "grey" if facts["opened"]["mode"] == "L" else "colour (RGB)"
    steps = size["steps"] if isinstance(size["steps"], list) else [size["steps"]]
    across = f"{size['height']} x {size['width']} pixels, {size['interpolation']}"
    across += ", antialiased" if size["antialias"] else ""
    return [
        f"Opened in {channels}: turned as its EXIF says, what is transparent over white, of "
        "several frames the first.",
        f"Made to size ({across}): {'; '.join(steps)}.",
        f"The central {cropped[0]} x {cropped[1]} pixels are taken and divided by "
        f"{facts['pixels']['divided by']}.",
        f"Inside the network, so not to be done by you: {_inside(inside)}",
    ]


def _inside(inside: dict[str, Any]) -> str:
    spread = " (a grey picture stands in all three)" if inside["channels"] == 3 else ""
    return (
        f"less the mean {inside['mean']}, over the standard deviation {inside['std']}, by channel"
        f"{spread}; at the end the embedding is scaled to unit length."
    )


def reader(dataset: Dataset, wants: Input) -> str:
    """pictures.py: Python that reads a picture as this project does, by numpy and pillow alone."""
    opening = inspect.getsource(decode)
    if IMPORTED not in opening:
        raise AssertionError(f"{decode.__name__} must have the line {IMPORTED.strip()!r}")
    opening = opening.replace(IMPORTED, OWN_ERROR)
    code = _read_own(dataset, wants) if isinstance(dataset, OwnData) else _read_fashion()
    return f"{opening}\n\n{code}"


def _read_own(dataset: OwnData, wants: Input) -> str:
    return f'''{inspect.getsource(centre_crop)}

def read(path: Path | str, box: Box | None = None) -> np.ndarray:
    """({dataset.decoding.channels}, {wants.height}, {wants.width}) float32 in [0, 1]."""
    pixels = decode(path, box, {dataset.decoding!r}).pixels
    return centre_crop(pixels, {wants.height}, {wants.width}).astype(np.float32) / 255
'''


def _read_fashion() -> str:
    names = {name: getattr(fashion_mnist, name) for name in ("SIDE", "LIGHT", "NEAR")}
    constants = "\n".join(f"{name} = {value}" for name, value in names.items())
    return f'''from PIL import ImageOps  # noqa: E402

{constants}


{inspect.getsource(as_fashion)}

def read(path: Path | str, box: Box | None = None) -> np.ndarray:
    """(1, {names["SIDE"]}, {names["SIDE"]}) float32 in [0, 1]."""
    image = shown(path, "L")
    image = image if box is None else image.crop(box)
    return as_fashion(image)[None].astype(np.float32) / 255
'''
