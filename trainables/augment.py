"""How a batch of pictures is changed before a step sees it: drawn on the CPU, applied at once.

    changes = augmentation.draw(len(order), 256, 256, generator, size=(224, 224))
    batch = change(pixels.index_select(0, rows), changes.take(part))
    inputs = network.input.scale(batch)

What is drawn depends on the generator alone, so that a run that goes on repeats itself. A picture
is cut to a random part and scaled, mirrored, moved, blanked in a square, then recoloured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLANK = 0  # the pixel of an empty background, before scaling
ASPECT = 4 / 3  # a random crop is at most so much wider than high, or higher than wide
TRIES = 10  # for a crop that lies within the picture
LUMA = (0.299, 0.587, 0.114)  # grey of red, green and blue
CACHED = 4  # pictures at a time, on a CPU: they stay in its cache, on pages that are there already


@dataclass(frozen=True)
class Augmentation:
    """How much pictures are changed; the default is not at all.

    Attributes:
        flip: half of them are mirrored left to right.
        shift: by up to so many pixels each way, evenly; what comes in is blank.
        erase: the side, in pixels, of a blank square within the picture; 0 for none.
        crop: the least share of the area that a random crop takes, over 0 to 1; None for none.
            Its area and the logarithm of its aspect (3/4 to 4/3) are even, its place as well.
        jitter: brightness, contrast and saturation are each multiplied by 1 - jitter to
            1 + jitter, evenly; 0 to 1.

    Raises:
        ValueError: one of them is outside its range.
    """

    flip: bool = False
    shift: int = 0
    erase: int = 0
    crop: float | None = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift", "erase"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0 pixels; got {getattr(self, name)}")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"crop must be a share of the area over 0 to 1; got {self.crop}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must lie in 0 to 1; got {self.jitter}")

    def draw(
        self,
        count: int,
        height: int,
        width: int,
        generator: torch.Generator,
        size: tuple[int, int] | None = None,
    ) -> Changes:
        """How each of so many pictures is changed, independently of each other.

        Args:
            height, width: of the pictures.
            generator: on the CPU; where nothing is changed nothing is drawn.
            size: (height, width) of the result, at most that of the pictures where there is no
                random crop: then it is their centre. Default: that of the pictures.
        """
        high, wide = size or (height, width)
        flip = shift = erase = crop = colour = None
        if self.flip or self.shift or self.erase:  # all three: a setting moves no other's draw
            corner = torch.tensor([high, wide]) - min(self.erase, high, wide) + 1
            flip = torch.rand(count, generator=generator) < 0.5
            shift = torch.randint(-self.shift, self.shift + 1, (count, 2), generator=generator)
            erase = (torch.rand(count, 2, generator=generator) * corner).long()
        if self.crop is not None:
            crop = _draw_crops(count, height, width, self.crop, generator)
        if self.jitter:
            colour = 1 + self.jitter * (2 * torch.rand(count, 3, generator=generator) - 1)
        return Changes(
            size=(high, wide),
            flip=flip if self.flip else None,
            shift=shift if self.shift else None,
            erase=erase if self.erase else None,
            side=self.erase,
            crop=crop,
            colour=colour,
        )


@dataclass(frozen=True)
class Changes:
    """How each of N pictures is changed; None where it is not.

    Attributes:
        size: (height, width) of the result.
        flip: (N,) bool, mirrored left to right.
        shift: (N, 2) int64, moved down and to the right by so many pixels.
        erase: (N, 2) int64, the upper left corner of the blank square.
        side: of that square; 0 for none.
        crop: (N, 4) int64 on the CPU: top, left, height and width of the part that is kept.
        colour: (N, 3) factors of brightness, contrast and saturation.
    """

    size: tuple[int, int]
    flip: Tensor | None = None
    shift: Tensor | None = None
    erase: Tensor | None = None
    side: int = 0
    crop: Tensor | None = None
    colour: Tensor | None = None

    def to(self, device: torch.device | str) -> Changes:
        """The same on a device."""
        flip, shift, erase, colour = (
            None if drawn is None else drawn.to(device)
            for drawn in (self.flip, self.shift, self.erase, self.colour)
        )
        return Changes(self.size, flip, shift, erase, self.side, self.crop, colour)

    def take(self, rows: slice) -> Changes:
        """Those of some of the pictures."""
        flip, shift, erase, crop, colour = (
            None if drawn is None else drawn[rows]
            for drawn in (self.flip, self.shift, self.erase, self.crop, self.colour)
        )
        return Changes(self.size, flip, shift, erase, self.side, crop, colour)

    def any_in_place(self) -> bool:
        """Whether a change is written over the pictures that it changes."""
        return any(drawn is not None for drawn in (self.flip, self.erase, self.colour))


def change(images: Tensor, changes: Changes) -> Tensor:
    """(B, C, H, W) uint8, changed: (B, C, *changes.size) uint8, C of 1 or 3.

    Where nothing changes it is a view of what came in.
    """
    if changes.crop is None:
        images = centre_crop(images, *changes.size)
    else:
        images = _cropped(images, changes.crop, changes.size)
    if changes.shift is not None:
        images = _moved(images, changes.flip, changes.shift)
    elif changes.crop is None and changes.any_in_place():
        images = images.clone(memory_format=torch.contiguous_format)
    if changes.flip is not None and changes.shift is None:
        _mirror_(images, changes.flip)
    if changes.erase is not None:
        _erase_(images, changes.erase, changes.side)
    if changes.colour is not None:
        _recolour_(images, changes.colour)
    return images


def centre_crop(images: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W) → (..., height, width): the centre, as a view, as evaluation takes it.

    Raises:
        ValueError: it is larger than the pictures.
    """
    high, wide = images.shape[-2:]
    if height > high or width > wide:
        raise ValueError(
            f"a centre of {height} x {width} pixels must lie within the pictures' {high} x {wide}"
        )
    top, left = round((high - height) / 2), round((wide - width) / 2)
    return images[..., top : top + height, left : left + width]


def _parts(images: Tensor) -> Iterator[slice]:
    step = CACHED if images.device.type == "cpu" else len(images)
    return (slice(start, start + step) for start in range(0, len(images), step))


def _draw_crops(
    count: int, height: int, width: int, least: float, generator: torch.Generator
) -> Tensor:
    """(count, 4): the first of some tries that lies within the picture, else its centre."""
    share, aspect = torch.rand(2, count, TRIES, generator=generator)
    area = height * width * (least + (1 - least) * share)
    aspect = torch.exp((2 * aspect - 1) * math.log(ASPECT))
    sides = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=2).round().long()
    whole = torch.tensor([height, width])
    fits = ((sides > 0) & (sides <= whole)).all(dim=2)
    first = fits.int().argmax(dim=1)
    largest = torch.tensor([round(width * ASPECT), round(height * ASPECT)]).minimum(whole)
    sides = sides[torch.arange(count), first].where(fits.any(dim=1)[:, None], largest)
    place = torch.rand(count, 2, generator=generator).where(fits.any(dim=1)[:, None], 0.5)
    corner = (place * (whole - sides + 1)).long().minimum(whole - sides)
    return torch.cat([corner, sides], dim=1)


def _cropped(images: Tensor, crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Each picture's part at the same size, antialiased.

    A picture at a time: torch scales bytes five times as fast as `grid_sample` scales floats.
    """
    from torchvision.transforms.v2 import functional as vision  # slow to import, often not needed

    result = images.new_empty(*images.shape[:2], *size)
    for place, image, crop in zip(result, images, crops.tolist(), strict=True):
        place.copy_(vision.resized_crop(image, *crop, list(size)))
    return result


def _mirror_(images: Tensor, flip: Tensor) -> None:
    for part in _parts(images):
        mirrored = images[part].flip(-1)
        torch.where(flip[part, None, None, None], mirrored, images[part], out=images[part])


def _moved(images: Tensor, flip: Tensor | None, shift: Tensor) -> Tensor:
    """Mirrored, then moved; what comes in from outside is blank."""
    height, width = images.shape[2:]
    far = max(height, width)  # no shift can matter that is larger
    shift = shift.clamp(-far, far)
    rows = torch.arange(height, device=images.device) - shift[:, :1]
    columns = torch.arange(width, device=images.device) - shift[:, 1:]
    if flip is not None:
        columns = torch.where(flip[:, None], width - 1 - columns, columns)
    inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None, :]
    places = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]
    places = places.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    moved = images.flatten(2).gather(2, places).view(images.shape)
    return moved.masked_fill_(~inside[:, None], BLANK)


def _erase_(images: Tensor, corner: Tensor, side: int) -> None:
    height, width = images.shape[2:]
    down = torch.arange(height, device=images.device) - corner[:, :1]
    right = torch.arange(width, device=images.device) - corner[:, 1:]
    square = _within(down, side)[:, :, None] & _within(right, side)[:, None, :]
    images.masked_fill_(square[:, None], BLANK)


def _within(places: Tensor, length: int) -> Tensor:
    return (places >= 0) & (places < length)


def _recolour_(images: Tensor, colour: Tensor) -> None:
    """Brightness, contrast about the mean grey, saturation about each pixel's grey, as one linear
    map with one rounding and no clipping in between."""
    for part in _parts(images):
        brightness, contrast, saturation = colour[part].T[:, :, None, None, None]
        values = images[part].float()
        grey = _grey(values)
        offset = brightness * (1 - contrast) * grey.mean(dim=(1, 2, 3), keepdim=True)
        grey.mul_(brightness * contrast * (1 - saturation)).add_(offset)
        values.mul_(brightness * contrast * saturation).add_(grey)
        images[part] = values.round_().clamp_(0, 255)


def _grey(values: Tensor) -> Tensor:
    """(B, C, H, W) → (B, 1, H, W)."""
    if values.shape[1] == 1:
        return values.clone()
    red, green, blue = values.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
