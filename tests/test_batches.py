"""What a step sees: batches by class, and images that are mirrored, moved and blanked."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.configurations import REFERENCES
from trainables.batches import Changes, change, draw_changes, draw_order
from trainables.orders import class_order

CONFIG = REFERENCES["cross_entropy"].replace(batch_size=12)  # which takes any batch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_random_order_takes_each_image_at_most_once() -> None:
    order = draw_order(torch.zeros(50, dtype=torch.int64), CONFIG, generator())
    assert order.shape == (4, 12)
    assert len(order.unique()) == 48


def test_a_batch_by_class_is_the_class_order_of_as_many_steps() -> None:
    labels = torch.arange(6).repeat_interleave(12)
    order = draw_order(labels, CONFIG.replace(per_class=4), generator())
    assert torch.equal(order, class_order(labels, 6, 12, 4, generator()))


def test_a_batch_by_class_that_cannot_be_is_refused() -> None:
    labels = torch.arange(3).repeat_interleave(20)
    with pytest.raises(ValueError, match=r"3 classes"):
        draw_order(labels, CONFIG.replace(per_class=2), generator())


def test_nothing_is_drawn_where_nothing_changes() -> None:
    assert draw_changes(10, 28, 28, CONFIG, generator()) is None


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
@given(st.integers(0, 999), st.booleans(), st.integers(0, 9), st.integers(0, 5), st.integers(5, 8))
def test_changes_are_those_of_a_plain_loop(
    seed: int, flip: bool, shift: int, erase: int, width: int
) -> None:
    config = CONFIG.replace(flip=flip, shift=shift, erase=erase)
    images = torch.randint(1, 256, (7, 6, width), dtype=torch.uint8, generator=generator(seed))
    changes = draw_changes(7, 6, width, config, generator(seed))
    if changes is None:
        return
    found = change(images, changes)
    for row in range(7):
        expected = plainly_changed(
            images[row].numpy(),
            bool(changes.flip[row]),
            *changes.shift[row].tolist(),
            tuple(changes.erase[row].tolist()),
            erase,
        )
        np.testing.assert_array_equal(found[row].numpy(), expected)


def test_draws_keep_to_their_ranges_and_reach_the_ends() -> None:
    config = CONFIG.replace(flip=True, shift=2, erase=3)
    changes = draw_changes(4_000, 6, 8, config, generator())
    assert changes is not None
    assert 0.45 < changes.flip.float().mean() < 0.55
    assert changes.shift.unique().tolist() == [-2, -1, 0, 1, 2]
    assert changes.erase[:, 0].unique().tolist() == [0, 1, 2, 3]
    assert changes.erase[:, 1].unique().tolist() == [0, 1, 2, 3, 4, 5]
    none = draw_changes(100, 6, 8, config.replace(flip=False), generator())
    assert none is not None
    assert not none.flip.any()


def test_a_part_of_the_changes_is_that_of_its_rows() -> None:
    changes = draw_changes(5, 4, 4, CONFIG.replace(flip=True, shift=1, erase=2), generator())
    assert changes is not None
    images = torch.randint(1, 256, (5, 4, 4), dtype=torch.uint8, generator=generator())
    part = change(images[1:3], changes.take(slice(1, 3)))
    assert torch.equal(part, change(images, changes)[1:3])
    assert isinstance(changes.to(torch.device("cpu")), Changes)
