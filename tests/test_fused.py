"""The fused layer against the three layers that it stands for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from trainables.fused import conv_pool_relu
from trainables.networks.seed_cnn import SeedCNN


def layer_by_layer(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return max_pool2d(conv2d(images, weight, bias, padding=1), 2).relu()


def case(
    batch: int, height: int, width: int, channels: int, dtype: torch.dtype, levels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, weights and biases of small whole numbers, exact in any order of summing: with few
    levels, many sums of a window tie."""
    generator = torch.Generator().manual_seed(batch + height * width)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-levels, levels + 1, shape, generator=generator).to(dtype)

    weight, bias = whole(channels, 1, 3, 3), whole(channels)
    return whole(batch, 1, height, width), weight.requires_grad_(), bias.requires_grad_()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(*(st.integers(2, 9),) * 2, st.integers(1, 5), st.integers(0, 3)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    levels=st.sampled_from([0, 1, 5]),
    last=st.booleans(),
)
def test_values_and_gradients_are_those_of_the_layers(
    sizes: tuple[int, int, int, int], dtype: torch.dtype, levels: int, last: bool
) -> None:
    height, width, channels, batch = sizes
    images, weight, bias = case(batch, height, width, channels, dtype, levels)
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    if batch == 0:  # torch's own backward of an empty batch gives None
        assert conv_pool_relu(images, weight, bias).shape == (0, channels, height // 2, width // 2)
        return
    found, expected = conv_pool_relu(images, weight, bias), layer_by_layer(images, weight, bias)
    assert found.dtype == dtype
    assert torch.equal(found, expected)
    slopes = torch.arange(found.numel(), dtype=dtype).view(found.shape) % 7 - 3
    mine = torch.autograd.grad((found * slopes).sum(), (weight, bias))
    theirs = torch.autograd.grad((expected * slopes).sum(), (weight, bias))
    for one, other in zip(mine, theirs, strict=True):
        assert torch.equal(one, other)


def test_gradcheck() -> None:
    images, weight, bias = case(2, 7, 6, 3, torch.float64, 2)
    images = images + torch.rand(images.shape, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda w, b: conv_pool_relu(images, w, b), (weight, bias))


def test_a_number_that_is_none_shows() -> None:
    """NaN in a weight is NaN in all of its channel, and in no other."""
    images, weight, bias = case(2, 6, 6, 3, torch.float32, 3)
    with torch.no_grad():
        weight[1, 0, 0, 0] = math.nan
    out = conv_pool_relu(images, weight, bias)
    assert out[:, 1, 1:, 1:].isnan().all()
    assert out[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("pixel", range(36))
def test_a_pixel_that_is_none_shows_as_in_the_layers(pixel: int) -> None:
    """Wherever in its windows of the pooling it stands, first or not."""
    images, weight, bias = case(1, 6, 6, 2, torch.float32, 3)
    images.view(-1)[pixel] = math.nan
    expected = layer_by_layer(images, weight, bias)
    assert expected.isnan().any()
    torch.testing.assert_close(
        conv_pool_relu(images, weight, bias), expected, rtol=0, atol=0, equal_nan=True
    )


def test_wrong_arguments() -> None:
    images, weight, bias = case(2, 6, 6, 3, torch.float32, 3)
    for wrong in (
        (images[:, 0], weight, bias),
        (images.expand(-1, 2, -1, -1), weight, bias),
        (images, weight[:, :, :2], bias),
        (images, weight, bias[:2]),
        (images, weight, bias[:, None]),
        (images[:, :, :1], weight, bias),
    ):
        with pytest.raises(ValueError, match=r"images must be \(B, 1, H, W\).*; got \("):
            conv_pool_relu(*wrong)
    with pytest.raises(ValueError, match="images get no gradient here"):
        conv_pool_relu(images.requires_grad_(), weight, bias)
    with pytest.raises(ValueError, match=r"one dtype.*float64, torch\.float32"):
        conv_pool_relu(images.detach().double(), weight, bias)
    with pytest.raises(ValueError, match=r"float32 or float64; got torch\.float16"):
        conv_pool_relu(images.detach().half(), weight.half(), bias.half())


def test_the_network_gives_the_same_where_images_want_a_gradient() -> None:
    torch.manual_seed(0)
    net = SeedCNN().double()
    images = torch.rand(70, 1, 28, 28, dtype=torch.float64) * 2 - 1
    plain = images.clone().requires_grad_()
    torch.testing.assert_close(net(images), net(plain), rtol=0, atol=1e-13)
    net(plain).sum().backward()
    assert plain.grad is not None and plain.grad.abs().sum() > 0
