"""One picture from its file: as a viewer shows it, cut to its box, scaled, uint8.

What becomes of the formats: EXIF's orientation is applied; what is transparent lies over white;
16-bit grey is scaled from 0..65535; CMYK and YCCK become RGB, inverted or not as the file says;
of several frames the first is taken. Colour profiles are not applied. A JPEG is decoded at the
smallest of 1, 1/2, 1/4, 1/8 of its size that is still `GAP` times the size asked for.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from trainables.data.errors import DataError

VERSION = 2  # of the rules in this file: pixels made by other rules are not taken for these
GAP = 2.0
ORIENTATION = 0x0112  # EXIF's tag
PHOTOMETRIC = 0x0106  # TIFF's tag: 0 where the least value is white
# As a network's input has them; here too, as this file goes along with an exported network.
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
FITS = ("centre", "squash")

Box = tuple[float, float, float, float]
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Grey of 2 and 4 bits is scaled to 8 by Pillow, the value that PNG names transparent is not.
_SCALES = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True)
class Decoding:
    """What pictures become.

    Attributes:
        height, width: in pixels.
        channels: 3 for colour, 1 for grey.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos", all but the first
            antialiased where they reduce.
        fit: "centre" scales until the picture covers the size and keeps the centre (that of a
            square is torchvision's Resize and CenterCrop of one number); "squash" changes the
            aspect.

    Raises:
        DataError: one of them is none of these.
    """

    height: int
    width: int
    channels: int = 3
    interpolation: str = "bilinear"
    fit: str = "centre"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise DataError(f"a size must be at least 1 x 1; got {self.height} x {self.width}")
        for name, known in (
            ("channels", (1, 3)),
            ("interpolation", INTERPOLATIONS),
            ("fit", FITS),
        ):
            if getattr(self, name) not in known:
                choices = ", ".join(map(str, known))
                raise DataError(f"{name} must be one of {choices}; got {getattr(self, name)!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a picture."""
        return self.channels, self.height, self.width


class Decoded(NamedTuple):
    """A picture's pixels (C, H, W) uint8, and whether its file holds further frames."""

    pixels: np.ndarray
    has_more_frames: bool


def decode(path: Path | str, box: Box | None, decoding: Decoding) -> Decoded:
    """One picture.

    Args:
        box: left, top, right, lower in pixels of the picture as it is shown; what reaches
            outside is cut off. Its rim is blended with its neighbours. None: the whole picture.

    Raises:
        DataError: it cannot be read; the message is the reason, without the path.
    """
    try:
        with _opened(path) as image:
            more = _has_more_frames(image)  # first: reading may close the file
            return Decoded(_pixels(image, box, decoding), more)
    except Exception as error:  # a damaged file makes codecs raise almost anything
        raise DataError(_reason(Path(path), error)) from error


def shown(path: Path | str, mode: str) -> Image.Image:
    """The whole picture as a viewer shows it, in its own size, opaque, in mode L or RGB.

    Raises:
        DataError: as `decode`.
    """
    try:
        with _opened(path) as image:
            transposed = _TURNS.get(_orientation(image))
            plain = _plain(image, mode)
            return plain.copy() if transposed is None else plain.transpose(transposed)
    except Exception as error:
        raise DataError(_reason(Path(path), error)) from error


def _opened(path: Path | str) -> Image.Image:
    """A picture that is not read yet, its transparent grey value as its pixels will be."""
    image = Image.open(path)
    stored, tiles = image.info.get("transparency"), getattr(image, "tile", ())
    if image.format == "PNG" and image.mode == "L" and isinstance(stored, int) and tiles:
        image.info["transparency"] = stored * _SCALES.get(tiles[0][3], 1)
    return image


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is empty" if path.stat().st_size == 0 else "is no picture of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def _has_more_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the further frames are damaged, and not asked for
        return True


def _pixels(image: Image.Image, box: Box | None, decoding: Decoding) -> np.ndarray:
    """(C, H, W). The source is found as it is shown, then cut where it is stored: the turn comes
    last, on few pixels."""
    orientation = _orientation(image)
    stored, size = image.size, (decoding.width, decoding.height)
    turned = orientation >= 5
    source = _source(stored[::-1] if turned else stored, box, decoding)
    scale = min((source[2] - source[0]) / size[0], (source[3] - source[1]) / size[1])
    source = _as_stored(source, stored, orientation)
    mode = "L" if decoding.channels == 1 else "RGB"
    enough = [math.ceil(GAP * side / scale) for side in stored]
    drafted = image.draft(mode, (enough[0], enough[1]))
    reduced = drafted[1][2] / stored[0] if drafted else 1.0
    result = _plain(image, mode).resize(
        size[::-1] if turned else size,
        Image.Resampling[decoding.interpolation.upper()],
        box=(source[0] * reduced, source[1] * reduced, source[2] * reduced, source[3] * reduced),
    )
    if orientation in _TURNS:
        result = result.transpose(_TURNS[orientation])
    return np.asarray(result).reshape(*decoding.shape[1:], -1).transpose(2, 0, 1)


def _orientation(image: Image.Image) -> int:
    """1 to 8, of what Pillow leaves to be turned; a damaged EXIF block says nothing, as in a
    viewer."""
    if image.format == "TIFF":  # whose size is the shown one, and which is turned as it is loaded
        return 1
    with contextlib.suppress(Exception):
        found = image.getexif().get(ORIENTATION)
        if found in _TURNS:
            return int(found)
    return 1


def _source(shown: tuple[int, int], box: Box | None, decoding: Decoding) -> Box:
    """The part of the shown picture, of width and height `shown`, that fills the result."""
    left, top, right, lower = (0, 0, *shown) if box is None else box
    left, top = max(0, left), max(0, top)
    right, lower = min(shown[0], right), min(shown[1], lower)
    width, height = right - left, lower - top
    if not (width > 0 and height > 0):
        raise DataError(f"its box {box} holds nothing of its {shown[0]} x {shown[1]} pixels")
    if decoding.fit == "squash":
        return left, top, right, lower
    if decoding.width * height >= decoding.height * width:  # whole pixels, as torchvision has it
        scaled = decoding.width, max(decoding.height, int(decoding.width * height / width))
    else:
        scaled = max(decoding.width, int(decoding.height * width / height)), decoding.height
    x, y = round((scaled[0] - decoding.width) / 2), round((scaled[1] - decoding.height) / 2)
    across, down = width / scaled[0], height / scaled[1]
    return (
        left + x * across,
        top + y * down,
        min(right, left + (x + decoding.width) * across),  # which rounding may take beyond it
        min(lower, top + (y + decoding.height) * down),
    )


def _as_stored(shown: Box, stored: tuple[int, int], orientation: int) -> Box:
    """A part of the shown picture as part of the stored one, of width and height `stored`."""
    left, top, right, lower = shown
    if orientation >= 5:
        left, top, right, lower = top, left, lower, right
    if orientation in (2, 3, 7, 8):
        left, right = stored[0] - right, stored[0] - left
    if orientation in (3, 4, 6, 7):
        top, lower = stored[1] - lower, stored[1] - top
    return left, top, right, lower


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """The picture in mode L or RGB, opaque."""
    image.load()
    if image.mode == "F":
        raise DataError("holds floating-point values, whose range is not known")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    is_jpeg = image.format in ("JPEG", "MPO")
    if image.mode == "CMYK" and is_jpeg and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes all for Adobe's, which are inverted
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey in mode L, over white where a transparent value is named."""
    values = np.asarray(image)
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0:
        values = 65_535 - values  # as Pillow has it for fewer bits
    if values.min() < 0 or values.max() > 65_535:
        law = "grey values must lie in 0..65535"
        raise DataError(f"{law}; got {values.min()}..{values.max()}")
    result = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        result[values == transparent] = 255
    return Image.fromarray(result)
