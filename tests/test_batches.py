"""Which images a step sees: a random order, or batches by class."""

import pytest
import torch

from tests.configurations import REFERENCES
from trainables.batches import draw_order
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
