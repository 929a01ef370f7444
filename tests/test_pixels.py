"""Pictures of every kind become the right pixels, or one line; a cache is whole or not there."""

from __future__ import annotations

import itertools
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from trainables.data.errors import DataError
from trainables.data.pixels.cache import (
    Pixels,
    check_pictures,
    default_folder,
    load_pixels,
    open_pixels,
)
from trainables.data.pixels.decode import Box, Decoding, _source, decode
from trainables.data.pixels.decode import shown as whole_picture
from trainables.data.pixels.making import UnreadablePicturesError

ROOT = Path(__file__).parents[1]
SMALL = Decoding(4, 4)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Soft blobs, of which a JPEG keeps all."""
    image = Image.fromarray(noise(height // 60 + 2, width // 60 + 2))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def as_it_is(path: Path, channels: int = 3, box: Box | None = None) -> np.ndarray:
    """(H, W, C) of the picture at its own size."""
    with Image.open(path) as image:
        size = (image.height, image.width)
    if box is not None:
        size = (int(box[3] - box[1]), int(box[2] - box[0]))
    return decode(path, box, Decoding(*size, channels, fit="squash")).pixels.transpose(1, 2, 0)


@pytest.fixture
def some(tmp_path: Path) -> list[tuple[Path, None]]:
    """70 pictures of one colour each, 5 x 7."""
    pictures = []
    for number in range(70):
        pixels = np.full((5, 7, 3), (number, 2 * number, 255 - number), np.uint8)
        pictures.append((save(tmp_path / f"{number:02}.png", pixels), None))
    return pictures


# --- one picture ---


def test_a_picture_at_its_own_size_is_itself(tmp_path: Path) -> None:
    pixels = noise(9, 13)
    assert (as_it_is(save(tmp_path / "a.png", pixels)) == pixels).all()
    assert (as_it_is(save(tmp_path / "A.BMP", pixels)) == pixels).all()


@pytest.mark.parametrize("size", [(300, 400), (401, 300), (256, 256), (90, 70), (31, 500)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_the_centre_is_that_of_torchvision(
    tmp_path: Path, size: tuple[int, int], interpolation: str
) -> None:
    path = save(tmp_path / "a.png", noise(*size))
    with Image.open(path) as image:
        resized = vision.resize(image, 96, InterpolationMode(interpolation))
        expected = np.asarray(vision.center_crop(resized, [96, 96])).astype(int)
    found = decode(path, None, Decoding(96, 96, 3, interpolation)).pixels.transpose(1, 2, 0)
    assert np.abs(found - expected).max() <= 1  # weights in fixed point
    assert (found != expected).mean() < 0.01


def test_a_centre_that_is_no_square(tmp_path: Path) -> None:
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:, 40:60] = 200
    found = decode(save(tmp_path / "a.png", pixels), None, Decoding(30, 10, 3, "nearest")).pixels
    assert (found == 200).all()
    found = decode(tmp_path / "a.png", None, Decoding(10, 100)).pixels
    assert (found == np.where((np.arange(100) // 20) == 2, 200, 0)).all()


TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),  # clockwise
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(
    tmp_path: Path, orientation: int, name: str, options: dict[str, str]
) -> None:
    stored = noise(6, 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / name, stored, exif=exif, **options)
    with Image.open(path) as image:  # a TIFF is turned as it is loaded
        image.load()
        assert image.getexif().get(0x0112, 1) == (1 if name == "a.tif" else orientation)
    shown = TURNED[orientation](stored)
    decoding = Decoding(*shown.shape[:2], fit="squash")
    assert (decode(path, None, decoding).pixels.transpose(1, 2, 0) == shown).all()
    box = (1, 2, 5, 4)  # of the picture as it is shown
    assert (as_it_is(path, box=box) == shown[2:4, 1:5]).all()
    whole = np.asarray(whole_picture(path, "RGB"))
    assert whole.shape == shown.shape and (whole == shown).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side", [232, 224, 235, 518])
def test_the_centre_of_a_turned_jpeg_is_that_of_the_turned_picture(
    tmp_path: Path, orientation: int, side: int
) -> None:
    """Also where the centre's end, as rounding has it, lies beyond the picture's."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", smooth(480, 640), quality=95, exif=exif)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    expected = vision.center_crop(vision.resize(upright, side), [side, side])
    found = decode(path, None, Decoding(side, side)).pixels.transpose(1, 2, 0)
    assert np.abs(found - np.asarray(expected).astype(int)).max() <= 1  # weights in fixed point


def test_the_centre_lies_within_the_picture() -> None:
    """Pillow refuses what begins or ends outside by any rounding."""
    sizes = [*range(100, 1000, 7), 480, 640, 4000]
    for width, height, side in itertools.product(sizes, sizes, (224, 232, 235, 518)):
        left, top, right, lower = _source((width, height), None, Decoding(side, side))
        assert 0 <= left < right <= width and 0 <= top < lower <= height


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["centre", "squash"])
def test_a_large_jpeg_is_that_of_a_full_decoding(
    tmp_path: Path, orientation: int, fit: str
) -> None:
    """At sides that no block of a JPEG divides, for which a reduced one is padded."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", smooth(803, 1003), quality=95, exif=exif)
    with Image.open(path) as image:
        lossless = save(tmp_path / "a.png", np.asarray(image), exif=exif)
    for box in (None, (101, 51, 777, 666)):
        found, full = (
            decode(each, box, Decoding(48, 48, fit=fit)).pixels.astype(int)
            for each in (path, lossless)
        )
        assert np.abs(found - full).max() <= 4


def test_damaged_exif_is_no_orientation(tmp_path: Path) -> None:
    pixels = noise(6, 9)
    path = save(tmp_path / "a.png", pixels, exif=b"Exif\0\0nonsense")
    assert (as_it_is(path) == pixels).all()


@pytest.mark.parametrize("top", [(10, 20, 30), (200, 100, 50)])
def test_alpha_lies_over_white(tmp_path: Path, top: tuple[int, int, int]) -> None:
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = np.dstack([*(np.full_like(alpha, one) for one in top), alpha])
    truth = alpha[..., None] / 255 * np.array(top) + 255 - alpha[..., None].astype(float)
    found = as_it_is(save(tmp_path / "a.png", pixels))
    assert np.abs(found - truth).max() <= 1
    assert (found[0, 0] == 255).all()
    assert (found[15, 15] == top).all()


def test_grey_with_alpha(tmp_path: Path) -> None:
    Image.fromarray(np.uint8([[[40, 0], [40, 255], [40, 51]]]), "LA").save(tmp_path / "a.png")
    assert as_it_is(tmp_path / "a.png", 1)[0, :, 0].tolist() == [255, 40, 212]  # 0.2·40 + 0.8·255


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "one.png", transparency=1)
    image.save(tmp_path / "each.png", transparency=bytes([255, 0, 51]))
    image.save(tmp_path / "one.gif", transparency=1)
    red, green, blue, white = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255] * 3
    assert as_it_is(tmp_path / "opaque.png")[0].tolist() == [red, green, blue]
    assert as_it_is(tmp_path / "one.png")[0].tolist() == [red, white, blue]
    assert as_it_is(tmp_path / "one.gif")[0].tolist() == [red, white, blue]
    assert as_it_is(tmp_path / "each.png")[0].tolist() == [red, white, [204, 204, 255]]


def test_a_transparent_colour(tmp_path: Path) -> None:
    pixels = np.uint8([[[1, 2, 3], [4, 5, 6]]])
    save(tmp_path / "colour.png", pixels, transparency=(1, 2, 3))
    save(tmp_path / "grey.png", pixels[..., 0], transparency=4)
    save(tmp_path / "16.png", np.uint16([[257, 514]]), transparency=514)
    assert as_it_is(tmp_path / "colour.png")[0].tolist() == [[255] * 3, [4, 5, 6]]
    assert as_it_is(tmp_path / "grey.png", 1)[0, :, 0].tolist() == [1, 255]
    assert as_it_is(tmp_path / "16.png", 1)[0, :, 0].tolist() == [1, 255]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_is_scaled(tmp_path: Path, name: str) -> None:
    values = np.uint16([[0, 128, 129, 257, 32896, 65535]])
    expected = [0, 0, 1, 1, 128, 255]
    path = save(tmp_path / name, values)
    assert as_it_is(path, 1)[0, :, 0].tolist() == expected
    assert as_it_is(path, 3)[0].tolist() == [[value] * 3 for value in expected]


def test_16_bit_grey_of_the_other_byte_order(tmp_path: Path) -> None:
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257, 65535))
    image.save(tmp_path / "a.tif")
    assert as_it_is(tmp_path / "a.tif", 1)[0, :, 0].tolist() == [1, 255]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_16_bit_grey_whose_zero_is_white(tmp_path: Path, compression: str) -> None:
    values = np.uint16([[0, 257, 32639, 65535]])
    path = save(tmp_path / "a.tif", values, compression=compression)
    black_is_zero, white_is_zero = (struct.pack("<HHIHH", 262, 3, 1, one, 0) for one in (1, 0))
    content = path.read_bytes()
    assert content.count(black_is_zero) == 1
    path.write_bytes(content.replace(black_is_zero, white_is_zero))
    assert as_it_is(path, 1)[0, :, 0].tolist() == [255, 254, 128, 0]


@pytest.mark.parametrize(
    ("bits", "row"), [(2, b"\x10"), (4, b"\x01"), (8, b"\x00\x01"), (16, b"\x00\x00\x00\x01")]
)
def test_transparent_grey_of_any_depth_lies_over_white(
    tmp_path: Path, bits: int, row: bytes
) -> None:
    """A PNG by hand, whose two pixels are stored as 0 and 1, 1 being transparent."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", 1)),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    )
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        check = struct.pack(">I", zlib.crc32(kind + data))
        content += struct.pack(">I", len(data)) + kind + data + check
    (tmp_path / "a.png").write_bytes(content)
    assert as_it_is(tmp_path / "a.png", 1)[0, :, 0].tolist() == [0, 255]
    assert np.asarray(whole_picture(tmp_path / "a.png", "L")).tolist() == [[0, 255]]


def test_black_and_white_and_grey_become_colour(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert as_it_is(tmp_path / "a.png")[0].tolist() == [[255] * 3, [0] * 3]
    pixels = noise(3, 4, 1)
    assert (as_it_is(save(tmp_path / "b.png", pixels)) == pixels[..., None]).all()


def test_colour_becomes_grey(tmp_path: Path) -> None:
    pixels = noise(3, 4)
    truth = pixels @ np.array([0.299, 0.587, 0.114])
    for name, tolerance in (("a.png", 1), ("a.jpg", 6)):
        found = as_it_is(save(tmp_path / name, np.kron(pixels, np.ones((8, 8, 1), np.uint8))), 1)
        assert np.abs(found[4::8, 4::8, 0] - truth).max() <= tolerance


CMYK = (40, 90, 160, 30)
RGB = [round((255 - ink) * (255 - CMYK[3]) / 255) for ink in CMYK[:3]]


def cmyk(path: Path, inks: tuple[int, ...] = CMYK) -> bytes:
    Image.new("CMYK", (16, 16), inks).save(path, quality=100)
    return path.read_bytes()


def test_cmyk(tmp_path: Path) -> None:
    cmyk(tmp_path / "a.jpg")
    Image.new("CMYK", (16, 16), CMYK).save(tmp_path / "a.tif")
    for name in ("a.jpg", "a.tif"):
        assert np.abs(as_it_is(tmp_path / name) - np.array(RGB)).max() <= 2


def test_cmyk_that_is_not_inverted(tmp_path: Path) -> None:
    """A JPEG without Adobe's mark holds its inks as they are."""
    content = cmyk(tmp_path / "a.jpg", tuple(255 - ink for ink in CMYK))
    mark = content.index(b"\xff\xee")
    length = 2 + int.from_bytes(content[mark + 2 : mark + 4], "big")
    (tmp_path / "a.jpg").write_bytes(content[:mark] + content[mark + length :])
    assert np.abs(as_it_is(tmp_path / "a.jpg") - np.array(RGB)).max() <= 2


def test_ycck(tmp_path: Path) -> None:
    """Adobe's: luma and chroma of the inverted inks' complement, that is, of the inks' own."""
    c, m, y, k = CMYK
    luma = 0.299 * c + 0.587 * m + 0.114 * y
    planes = luma, 128 + 0.564 * (y - luma), 128 + 0.713 * (c - luma), 255 - k
    # Pillow inverts what it stores.
    content = cmyk(tmp_path / "a.jpg", tuple(255 - round(plane) for plane in planes))
    mark = content.index(b"Adobe")
    changed = content[: mark + 11] + b"\x02" + content[mark + 12 :]  # the transform: YCCK
    (tmp_path / "a.jpg").write_bytes(changed)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "CMYK" and image.info["adobe_transform"] == 2
    assert np.abs(as_it_is(tmp_path / "a.jpg") - np.array(RGB)).max() <= 3


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.png", "a.webp"])
def test_of_several_frames_the_first(tmp_path: Path, name: str) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if name == "a.webp" else {}
    first.save(tmp_path / name, save_all=True, append_images=[second], **options)
    found = decode(tmp_path / name, None, SMALL)
    assert found.has_more_frames
    assert (found.pixels.transpose(1, 2, 0) == [255, 0, 0]).all()
    first.save(tmp_path / name, **options)
    assert not decode(tmp_path / name, None, SMALL).has_more_frames


def test_a_box_that_reaches_outside_is_cut_off(tmp_path: Path) -> None:
    pixels = noise(6, 8)
    path = save(tmp_path / "a.png", pixels)
    found = decode(path, (-3, 2, 4, 99), Decoding(4, 4, fit="squash")).pixels
    assert (found.transpose(1, 2, 0) == pixels[2:, :4]).all()


@pytest.mark.parametrize("box", [(4, 0, 4, 6), (5, 0, 2, 6), (8, 0, 20, 6), (0, -9, 8, 0)])
def test_a_box_that_holds_nothing(tmp_path: Path, box: Box) -> None:
    path = save(tmp_path / "a.png", noise(6, 8))
    with pytest.raises(DataError, match=r"its box .* holds nothing of its 8 x 6 pixels"):
        decode(path, box, SMALL)


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        ({"height": 0}, "a size must be at least 1 x 1; got 0 x 4"),
        ({"channels": 4}, "channels must be one of 1, 3; got 4"),
        ({"interpolation": "cubic"}, "interpolation must be one of .*; got 'cubic'"),
        ({"fit": "pad"}, "fit must be one of centre, squash; got 'pad'"),
    ],
)
def test_a_decoding_that_is_none(settings: dict[str, object], law: str) -> None:
    with pytest.raises(DataError, match=law):
        Decoding(**{"height": 4, "width": 4, **settings})


# --- what cannot be read ---


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG of so many pixels, of which it holds none."""
    Image.new("1", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return path


def test_all_that_cannot_be_read_is_named_at_once(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", noise(8, 8))
    whole = save(tmp_path / "cut.jpg", noise(64, 64), quality=95).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    cut = save(tmp_path / "cut.png", noise(64, 64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    Image.fromarray(np.float32([[0.5]])).save(tmp_path / "float.tif")
    bomb(tmp_path / "bomb.png", 20_000, 10_000)
    bad = {
        "cut.jpg": "image file is truncated",
        "cut.png": "image file is truncated",
        "zero.jpg": "is empty",
        "text.jpg": "is no picture of a known format",
        "float.tif": "holds floating-point values, whose range is not known",
        "bomb.png": r"\(200000000 pixels\) exceeds limit of 178956970 pixels",
        "absent.jpg": "no such file or directory",
    }
    pictures = [(good, None), *((tmp_path / name, None) for name in bad), (good, (9, 9, 9, 9))]
    with pytest.raises(UnreadablePicturesError, match=r"^8 of 9 .* be read:") as caught:
        load_pixels(pictures, SMALL, folder=tmp_path / "cache")
    for name, why in bad.items():
        caught.match(rf"\n  {tmp_path / name}: .*{why}")
    assert list(caught.value.reasons) == list(range(1, 9))
    assert pickle.loads(pickle.dumps(caught.value)).reasons == caught.value.reasons
    assert kept(tmp_path / "cache") == []


def kept(folder: Path) -> list[str]:
    """What lies in a folder of caches, but for locks, which are empty."""
    assert all(lock.stat().st_size == 0 for lock in folder.glob("*.lock"))
    return sorted(one.name for one in folder.iterdir() if one.suffix != ".lock")


def test_one_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("")
    with pytest.raises(DataError) as caught:
        load_pixels([(tmp_path / "a.jpg", None)], SMALL, folder=tmp_path)
    line = f"1 of 1 pictures cannot be read: {tmp_path / 'a.jpg'}: is empty"
    assert str(caught.value) == line


def test_ten_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    pictures = [(tmp_path / f"{number}.jpg", None) for number in range(50)]
    with pytest.raises(DataError, match=r"^50 of 50 .*") as caught:
        load_pixels(pictures, SMALL, folder=tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    assert lines[10].strip() == f"{tmp_path / '9.jpg'}: no such file or directory"
    assert lines[11].strip() == "and 40 more"


def test_a_large_picture_below_the_limit_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_000), 1).save(tmp_path / "a.png")  # Pillow warns from 89 million on
    pixels = load_pixels([(tmp_path / "a.png", None)], Decoding(4, 4, 1), folder=tmp_path / "c")
    assert (pixels.array == 255).all()


def test_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one picture; got none"):
        load_pixels([], SMALL, folder=tmp_path)


# --- the cache ---


def test_pixels_lie_in_the_order_of_the_pictures(some: list, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, count: int) -> None:
        seen.append((done, count))

    pixels = load_pixels(some, SMALL, folder=tmp_path / "c", workers=3, progress=progress)
    assert len(pixels) == 70 and pixels.array.shape == (70, 3, 4, 4)
    numbers = np.arange(70)
    expected = np.stack([numbers, 2 * numbers, 255 - numbers], axis=1)
    assert (pixels.array == expected[:, :, None, None]).all()
    assert seen == sorted(seen)
    assert seen[-1] == (70, 70) and len(seen) == 3
    again = load_pixels(some, SMALL, folder=tmp_path / "c", progress=progress)
    assert len(seen) == 3  # nothing was decoded
    assert again.fingerprint == pixels.fingerprint and again.path == pixels.path
    assert kept(tmp_path / "c") == [pixels.path.name]


def test_a_cache_is_mapped_and_travels_as_a_path(some: list, tmp_path: Path) -> None:
    pixels = load_pixels(some, SMALL, folder=tmp_path / "c")
    assert isinstance(pixels.array, np.memmap)
    tensor = pixels.tensor()
    assert tensor.dtype == torch.uint8
    assert tensor.data_ptr() == pixels.array.ctypes.data  # not a copy
    sent = pickle.dumps(pixels)
    large = pickle.dumps(load_pixels(some, Decoding(99, 99), folder=tmp_path / "c"))
    assert len(sent) == len(large) < 100 * len(some)
    came = pickle.loads(sent)
    assert isinstance(came, Pixels) and isinstance(came.array, np.memmap)
    assert (came.array == pixels.array).all() and came.path == pixels.path
    assert (came.fingerprint, came.source) == (pixels.fingerprint, (tuple(some), SMALL))
    assert pickle.dumps(came) == sent  # it may go on


def test_a_machine_without_the_cache_makes_its_own(
    some: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = load_pixels(some, SMALL, folder=tmp_path / "c")
    expected, sent = pixels.array.copy(), pickle.dumps(pixels)
    shutil.rmtree(tmp_path / "c")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "there"))
    came = pickle.loads(sent)
    assert (came.array == expected).all() and came.fingerprint == pixels.fingerprint
    assert came.path.parent == default_folder() and not (tmp_path / "c").exists()


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "a cache of others"])
def test_a_machine_with_other_pictures_is_refused(
    cached: bool, some: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pictures are interchanged there; their files' sizes and times are the same."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixels = load_pixels(some, SMALL)
    sent = pickle.dumps(pixels)
    shutil.rmtree(pixels.path)
    paths = [path for path, _ in some]
    one, other = next(
        pair for pair in itertools.pairwise(paths) if len({p.stat().st_size for p in pair}) == 1
    )
    times = [path.stat().st_mtime_ns for path in (one, other)]
    contents = [path.read_bytes() for path in (other, one)]
    for path, content, time in zip((one, other), contents, times, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(time, time))
    if cached:
        assert load_pixels(some, SMALL).path == pixels.path
    with pytest.raises(DataError, match="all machines of a study must see the same pictures"):
        pickle.loads(sent)


def test_pixels_of_unknown_pictures_come_from_their_file_alone(some: list, tmp_path: Path) -> None:
    pixels = open_pixels(load_pixels(some, SMALL, folder=tmp_path / "c").path)
    assert pixels.source is None
    sent = pickle.dumps(pixels)
    assert (pickle.loads(sent).array == pixels.array).all()
    law = f"{pixels.path} holds no whole pixel cache {pixels.fingerprint}"
    other = load_pixels(some[1:], SMALL, folder=tmp_path / "c")
    shutil.rmtree(pixels.path)
    for _ in range(2):  # nothing lies there, then the pixels of others
        with pytest.raises(DataError, match=law):
            pickle.loads(sent)
        shutil.copytree(other.path, pixels.path, dirs_exist_ok=True)


def test_pictures_are_checked_and_no_pixel_is_kept(some: list, tmp_path: Path) -> None:
    """The fingerprint is that of the pixels, found once, from a cache where there is one."""
    seen: list[tuple[int, int]] = []

    def check(pictures: list, decoding: Decoding = SMALL, place: str = "c") -> str:
        return check_pictures(
            pictures,
            decoding,
            folder=tmp_path / place,
            progress=lambda *at: seen.append(at),
        )

    first = check(some)
    assert seen[-1] == (70, 70) and len(seen) == 3
    (left,) = (tmp_path / "c").iterdir()
    assert left.is_file() and left.stat().st_size < 1_000
    assert check(some) == first and len(seen) == 3  # it is remembered
    made = load_pixels(some, SMALL, folder=tmp_path / "other")
    assert first == made.fingerprint
    assert check(some, place="other") == first and len(seen) == 3  # there is a cache
    assert check(some[1:]) != first and check(some, Decoding(4, 4, 1)) != first
    count = len(seen)
    for damage in ("{", "[]", "{}"):
        left.write_text(damage)
        assert check(some) == first and len(seen) > count
        count = len(seen)
    save(some[0][0], np.full((5, 7, 3), 9, np.uint8))
    os.utime(some[0][0], ns=(1, 1))
    assert check(some) == load_pixels(some, SMALL, folder=tmp_path / "c").fingerprint != first


def test_pictures_that_cannot_be_read_are_named_when_they_are_checked(
    some: list, tmp_path: Path
) -> None:
    for place in (2, 40):
        some[place][0].write_bytes(b"")
    for _ in range(2):  # nothing of it is remembered
        with pytest.raises(
            UnreadablePicturesError, match="2 of 70 pictures cannot be rea"
        ) as error:
            check_pictures(some, SMALL, folder=tmp_path / "c")
        assert error.value.reasons == dict.fromkeys((2, 40), "is empty")
        assert list((tmp_path / "c").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be kept in .*/file/c: Not a directory"):
        check_pictures(some[3:9], SMALL, folder=tmp_path / "file" / "c")
    with pytest.raises(DataError, match="at least one picture; got none"):
        check_pictures([], SMALL, folder=tmp_path / "c")


def test_a_fingerprint_is_that_of_the_pixels(some: list, tmp_path: Path) -> None:
    here = load_pixels(some, SMALL, folder=tmp_path / "c")
    copy = tmp_path / "copy"
    copy.mkdir()
    moved = [(Path(shutil.copy(path, copy)), None) for path, _ in some]
    there = load_pixels(moved, SMALL, folder=tmp_path / "c")
    assert there.path != here.path
    assert there.fingerprint == here.fingerprint
    for pictures, decoding in (
        (some[::-1], SMALL),
        (some[1:], SMALL),
        (some, Decoding(4, 5)),
        (some, Decoding(4, 4, 1)),
    ):
        other = load_pixels(pictures, decoding, folder=tmp_path / "c")
        assert other.fingerprint != here.fingerprint


def test_what_changes_is_decoded_again(some: list, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    paths = {load_pixels(some, SMALL, folder=folder).path}
    paths.add(load_pixels(some, Decoding(4, 4, interpolation="bicubic"), folder=folder).path)
    paths.add(load_pixels(some, Decoding(4, 4, fit="squash"), folder=folder).path)
    boxed = [(some[0][0], (0, 0, 3, 3)), *some[1:]]
    paths.add(load_pixels(boxed, SMALL, folder=folder).path)
    save(some[0][0], np.full((5, 7, 3), 9, np.uint8))
    os.utime(some[0][0], ns=(1, 1))
    last = load_pixels(some, SMALL, folder=folder)
    assert (last.array[0] == 9).all()
    assert len(paths | {last.path}) == 5


def test_further_frames_are_counted(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 90, 180)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    save(tmp_path / "b.png", noise(8, 8))
    pictures = [(tmp_path / "a.gif", None), (tmp_path / "b.png", None)]
    assert load_pixels(pictures, SMALL, folder=tmp_path / "c").several_frames == 1


def test_what_a_killed_program_left_is_cleared(some: list, tmp_path: Path) -> None:
    first = load_pixels(some, SMALL, folder=tmp_path / "c")
    shutil.move(first.path, first.path.with_suffix(".partial"))
    again = load_pixels(some, SMALL, folder=tmp_path / "c")
    assert (again.array == first.array).all()
    assert kept(tmp_path / "c") == [first.path.name]


def test_an_interrupted_cache_is_not_there(some: list, tmp_path: Path) -> None:
    def interrupt(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_pixels(some, SMALL, folder=tmp_path / "c", progress=interrupt)
    assert kept(tmp_path / "c") == []
    assert len(load_pixels(some, SMALL, folder=tmp_path / "c")) == 70


@pytest.mark.parametrize("damage", ["array", "about", "absent"])
def test_a_damaged_cache_is_made_again(some: list, tmp_path: Path, damage: str) -> None:
    pixels = load_pixels(some, SMALL, folder=tmp_path / "c")
    expected = pixels.array.copy()
    array, about = pixels.path / "pixels.npy", pixels.path / "about.json"
    if damage == "array":
        array.write_bytes(array.read_bytes()[:-9])
    elif damage == "about":
        about.write_text("{")
    else:
        array.unlink()
    with pytest.raises(DataError, match=f"{pixels.path} holds no whole pixel cache"):
        open_pixels(pixels.path)
    assert (load_pixels(some, SMALL, folder=tmp_path / "c").array == expected).all()


def test_too_little_space_is_said_before_anything_is_decoded(
    some: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9 - 500, 500)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    law = r"cannot be kept in .*c: they take 3.36e-06 GB, and 5e-07 GB are free; free some space"
    with pytest.raises(DataError, match=law):
        load_pixels(some, SMALL, folder=tmp_path / "c")
    assert kept(tmp_path / "c") == []


def test_a_disk_that_fills_up_meanwhile(some: list, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be kept in .*: File too large; name another"):
            load_pixels(some, Decoding(100, 100), folder=tmp_path / "c")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert kept(tmp_path / "c") == []


def test_a_write_that_fails_in_a_thread(
    some: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", *rest: object, **options: object) -> object:
        target = Path("/dev/full") if mode == "r+b" else path
        return real(target, mode, *rest, **options)

    if not Path("/dev/full").exists():
        pytest.skip("a device that is always full is Linux's")
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match="No space left on device; free some space or name another"):
        load_pixels(some, Decoding(100, 100), folder=tmp_path / "c")
    assert kept(tmp_path / "c") == []


def test_a_folder_that_cannot_be_written(some: list, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be kept in .*/file/c: Not a directory; name anot"):
        load_pixels(some, SMALL, folder=tmp_path / "file" / "c")


def test_a_read_only_folder(some: list) -> None:
    """As another user, where the tests run as root, who may write anywhere."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        pictures = [(Path(shutil.copy(path, place)), box) for path, box in some]
        for path, _ in pictures:
            path.chmod(0o644)
        folder = Path(place) / "c"
        made = load_pixels(pictures, SMALL, folder=folder)
        folder.chmod(0o555)
        user = os.geteuid()
        try:
            os.seteuid(65534 if user == 0 else user)
            assert load_pixels(pictures, SMALL, folder=folder).fingerprint == made.fingerprint
            with pytest.raises(
                DataError, match=r"cannot be kept in .*: Permission denied; name an"
            ):
                load_pixels(pictures[1:], SMALL, folder=folder)
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


PROGRAM = """
import sys
from pathlib import Path
from trainables.data.pixels.cache import Decoding, load_pixels
pictures = [(path, None) for path in sorted(Path(sys.argv[1]).glob("*.png"))]
made = []
pixels = load_pixels(pictures, Decoding(64, 64), folder=sys.argv[2],
                     progress=lambda *at: made.append(at))
print(pixels.fingerprint, len(made) > 0)
"""


def test_of_two_programs_one_makes_it(some: list, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "c")]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [program.communicate()[0].split() for program in both]
    assert said[0][0] == said[1][0]
    assert sorted(made for _, made in said) == ["False", "True"]
    assert len(kept(tmp_path / "c")) == 1


def test_where_caches_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "retrieval-loss-study" / "pixels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache" / "retrieval-loss-study" / "pixels"
