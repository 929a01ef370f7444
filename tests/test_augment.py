"""Batches that are cut, mirrored, moved, blanked and recoloured: as plain loops and torchvision."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from trainables.augment import Augmentation, Changes, centre_crop, change

ALL = Augmentation(flip=True, shift=3, erase=5, crop=0.3, jitter=0.4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int, channels: int, height: int, width: int, least: int = 0) -> Tensor:
    shape = (count, channels, height, width)
    return torch.randint(least, 256, shape, dtype=torch.uint8, generator=generator())


def plainly_changed(
    image: np.ndarray, flip: bool, down: int, right: int, corner: tuple[int, int], side: int
) -> np.ndarray:
    source = image[:, ::-1] if flip else image
    result = np.zeros_like(image)
    height, width = image.shape
    for i in range(height):
        for j in range(width):
            inside = 0 <= i - down < height and 0 <= j - right < width
            blank = corner[0] <= i < corner[0] + side and corner[1] <= j < corner[1] + side
            if inside and not blank:
                result[i, j] = source[i - down, j - right]
    return result


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.booleans(),
    st.integers(0, 9),
    st.integers(0, 7),
    st.integers(5, 8),
    st.sampled_from([1, 3]),
)
def test_changes_are_those_of_a_plain_loop(
    seed: int, flip: bool, shift: int, erase: int, width: int, channels: int
) -> None:
    images = noise(7, channels, 6, width, least=1)
    changes = Augmentation(flip, shift, erase).draw(7, 6, width, generator(seed))
    found = change(images, changes)
    for row, image in enumerate(images):
        mirrored = False if changes.flip is None else bool(changes.flip[row])
        down, right = (0, 0) if changes.shift is None else changes.shift[row].tolist()
        corner = (0, 0) if changes.erase is None else tuple(changes.erase[row].tolist())
        for channel, plane in enumerate(image.numpy()):
            expected = plainly_changed(plane, mirrored, down, right, corner, erase)
            np.testing.assert_array_equal(found[row, channel].numpy(), expected)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("erase", [0, 3])
def test_a_setting_moves_no_others_draw(flip: bool, shift: int, erase: int) -> None:
    """Draws follow each other in one order: flip, shift, erase, whichever of them are on."""
    drawn = generator()
    changes = Augmentation(flip, shift, erase).draw(9, 6, 8, drawn)
    again = generator()
    if flip or shift or erase:
        coin = torch.rand(9, generator=again) < 0.5
        moved = torch.randint(-shift, shift + 1, (9, 2), generator=again)
        corner = torch.tensor([6 - erase + 1, 8 - erase + 1])
        square = (torch.rand(9, 2, generator=again) * corner).long()
        assert changes.flip is None or torch.equal(changes.flip, coin)
        assert changes.shift is None or torch.equal(changes.shift, moved)
        assert changes.erase is None or torch.equal(changes.erase, square)
    on = [changes.flip is not None, changes.shift is not None, changes.erase is not None]
    assert on == [flip, shift > 0, erase > 0]
    assert torch.equal(drawn.get_state(), again.get_state())


def test_draws_keep_to_their_ranges_and_reach_the_ends() -> None:
    changes = Augmentation(flip=True, shift=2, erase=3).draw(4_000, 6, 8, generator())
    assert changes.flip is not None and changes.shift is not None and changes.erase is not None
    assert 0.45 < changes.flip.float().mean() < 0.55
    assert changes.shift.unique().tolist() == [-2, -1, 0, 1, 2]
    assert changes.erase[:, 0].unique().tolist() == [0, 1, 2, 3]
    assert changes.erase[:, 1].unique().tolist() == [0, 1, 2, 3, 4, 5]


def test_nothing_is_drawn_or_copied_where_nothing_changes() -> None:
    drawn = generator()
    changes = Augmentation().draw(5, 8, 8, drawn)
    assert torch.equal(drawn.get_state(), generator().get_state())
    images = noise(5, 3, 8, 8)
    assert change(images, changes).data_ptr() == images.data_ptr()
    changes = Augmentation().draw(5, 8, 8, drawn, size=(6, 4))
    assert torch.equal(change(images, changes), images[:, :, 1:7, 2:6])


# --- random crops ---


@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_torchvisions(channels: int) -> None:
    images = noise(9, channels, 40, 50)
    changes = Augmentation(crop=0.1).draw(9, 40, 50, generator(), size=(24, 32))
    assert changes.crop is not None
    found = change(images, changes)
    assert found.shape == (9, channels, 24, 32) and found.dtype == torch.uint8
    for image, crop, one in zip(images, changes.crop.tolist(), found, strict=True):
        top, left, height, width = crop
        part = image[:, top : top + height, left : left + width].float()
        expected = torch.nn.functional.interpolate(
            part[None], (24, 32), mode="bilinear", antialias=True
        )[0]
        assert (one - expected).abs().max() < 1.01  # two passes of whole numbers


def test_crops_lie_within_and_have_the_area_and_aspect_asked_for() -> None:
    crops = Augmentation(crop=0.2).draw(20_000, 200, 240, generator()).crop
    assert crops is not None
    top, left, height, width = crops.double().unbind(1)
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 200).all() and (left + width <= 240).all()
    share, aspect = height * width / (200 * 240), width / height
    assert 0.195 < share.min() < 0.21 and 0.95 < share.max() <= 1.0
    assert 0.74 < aspect.min() < 0.76 and 1.32 < aspect.max() < 1.35
    small = share < 0.4  # those fit at any aspect: even
    assert aspect.log()[small].mean().abs() < 0.01
    assert share[small].mean() == pytest.approx(0.3, abs=0.002)
    assert (top / (200 - height).clamp(min=1))[small].mean() == pytest.approx(0.5, abs=0.01)
    assert (top == 200 - height)[small].any() and (top == 0)[small].any()


def test_the_first_try_that_fits_is_taken() -> None:
    """Against torchvision's loop, fed the same numbers."""
    crops = Augmentation(crop=0.5).draw(200, 30, 60, generator()).crop
    assert crops is not None
    drawn = generator()
    shares, aspects = torch.rand(2, 200, 10, generator=drawn).tolist()
    places = torch.rand(200, 2, generator=drawn).tolist()
    for crop, tries, place in zip(crops.tolist(), map(zip, shares, aspects), places, strict=True):
        expected = None
        for share, aspect in tries:
            area, ratio = 30 * 60 * (0.5 + 0.5 * share), (4 / 3) ** (2 * aspect - 1)
            width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < width <= 60 and 0 < height <= 30:
                top, left = int(place[0] * (31 - height)), int(place[1] * (61 - width))
                expected = [top, left, height, width]
                break
        assert crop == (expected or [0, 10, 30, 40])  # else the centre of aspect 4/3


def test_a_picture_too_long_for_any_try_gives_its_centre() -> None:
    wide = Augmentation(crop=0.9).draw(5, 10, 100, generator()).crop
    high = Augmentation(crop=0.9).draw(5, 100, 10, generator()).crop
    assert wide is not None and (wide == torch.tensor([0, 44, 10, 13])).all()
    assert high is not None and (high == torch.tensor([44, 0, 13, 10])).all()


# --- colour ---


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_is_torchvisions_where_nothing_is_clipped(channels: int) -> None:
    images = noise(9, channels, 12, 10) // 4 + 90  # 90 to 153
    changes = Augmentation(jitter=0.2).draw(9, 12, 10, generator())
    assert changes.colour is not None
    assert changes.colour.min() >= 0.8 and changes.colour.max() <= 1.2
    found = change(images, changes)
    for image, factors, one in zip(images, changes.colour.tolist(), found, strict=True):
        expected = vision.adjust_brightness(image / 255, factors[0])
        expected = vision.adjust_contrast(expected, factors[1])
        expected = vision.adjust_saturation(expected, factors[2])
        assert (one - expected * 255).abs().max() < 0.53  # one rounding; its weights of grey


def test_colour_keeps_to_bytes() -> None:
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(1, 3, 4, 4)
    changes = Changes(size=(4, 8), colour=torch.tensor([[1.5, 1.9, 1.0]]))
    assert change(images, changes).unique().tolist() == [0, 255]


def test_grey_has_no_saturation() -> None:
    images = noise(1, 1, 6, 6)
    changes = Changes(size=(6, 6), colour=torch.tensor([[1.0, 1.0, 0.2]]))
    assert torch.equal(change(images, changes), images)


# --- all of it ---


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_changed_the_same_whatever_shares_its_batch(channels: int) -> None:
    images = noise(11, channels, 40, 40)
    changes = ALL.draw(11, 40, 40, generator(), size=(32, 32))
    whole = change(images, changes)
    assert whole.shape == (11, channels, 32, 32) and whole.dtype == torch.uint8
    for rows in (slice(0, 1), slice(3, 10), slice(10, 11)):
        assert torch.equal(change(images[rows], changes.take(rows)), whole[rows])


def test_a_generator_that_goes_on_repeats_the_draws() -> None:
    drawn = generator(7)
    ALL.draw(5, 40, 40, drawn)
    state = drawn.get_state()
    first = ALL.draw(5, 40, 40, drawn)
    resumed = torch.Generator()
    resumed.set_state(state)
    second = ALL.draw(5, 40, 40, resumed)
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_changes_move_to_a_device() -> None:
    changes = ALL.draw(5, 40, 40, generator())
    moved = changes.to("meta")
    assert all(one is not None and one.is_meta for one in (moved.flip, moved.shift, moved.erase))
    assert moved.colour is not None and moved.colour.is_meta
    assert moved.crop is not None and not moved.crop.is_meta  # a loop reads it
    assert (moved.side, moved.size) == (5, (40, 40))


def test_what_came_in_stays_as_it_was() -> None:
    images = noise(5, 3, 20, 20)
    before = images.clone()
    for augmentation in (
        ALL,
        Augmentation(flip=True),
        Augmentation(shift=2),
        Augmentation(erase=4),
        Augmentation(jitter=0.3),
    ):
        change(images, augmentation.draw(5, 20, 20, generator()))
        change(images, augmentation.draw(5, 20, 20, generator(), size=(12, 16)))
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [(224, 224), (5, 8), (256, 255)])
def test_the_centre_is_torchvisions(size: tuple[int, int]) -> None:
    images = noise(2, 3, 256, 257)
    found = centre_crop(images, *size)
    assert torch.equal(found, vision.center_crop(images, list(size)))
    assert found.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()


@pytest.mark.parametrize("size", [(9, 8), (8, 9)])
def test_a_centre_larger_than_the_picture(size: tuple[int, int]) -> None:
    law = f"a centre of {size[0]} x {size[1]} pixels must lie within the pictures' 8 x 8"
    with pytest.raises(ValueError, match=law):
        centre_crop(noise(1, 3, 8, 8), *size)


@pytest.mark.parametrize(
    ("setting", "law"),
    [
        ({"shift": -1}, "shift must be at least 0 pixels; got -1"),
        ({"erase": -2}, "erase must be at least 0 pixels; got -2"),
        ({"crop": 0.0}, "crop must be a share of the area over 0 to 1; got 0.0"),
        ({"crop": 1.2}, "crop must be a share of the area over 0 to 1; got 1.2"),
        ({"jitter": 1.5}, "jitter must lie in 0 to 1; got 1.5"),
    ],
)
def test_an_augmentation_that_cannot_be(setting: dict[str, float], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        Augmentation(**setting)
