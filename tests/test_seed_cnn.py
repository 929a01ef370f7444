"""The seed study's network against the same network written plainly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, max_pool2d, normalize, relu

from trainables.networks import resolve
from trainables.networks.seed_cnn import SeedCNN
from trainables.retrieval import unit_length

INPUT = resolve("seed_cnn", channels=1).input


def scale(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return INPUT.scale(images[:, None], dtype)


def plain_features(net: SeedCNN, images: Tensor) -> Tensor:
    """NCHW, ReLU before pooling, adaptive average pooling."""
    w = dict(net.named_parameters())
    x = images[:, None].to(w["conv1.weight"].dtype) / 127.5 - 1
    for name in ("conv1", "conv2"):
        weight = w[f"{name}.weight"].contiguous()
        x = max_pool2d(relu(conv2d(x, weight, w[f"{name}.bias"], padding=1)), 2)
    x = relu(conv2d(x, w["conv3.weight"].contiguous(), w["conv3.bias"], padding=1))
    return adaptive_avg_pool2d(x, 2).flatten(1)


def grey_images(rows: int = 6) -> Tensor:
    """Random uint8 images whose top half is black, so that pooling windows tie."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (rows, 28, 28), generator=generator, dtype=torch.uint8)
    images[:, :14] = 0
    return images


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_and_gradients_are_the_plain_ones(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net, images = SeedCNN().to(dtype), grey_images()
    weights = torch.randn(6, 256, dtype=dtype)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 0, "atol": 1e-12}
    fast, plain = net(scale(images, dtype)), plain_features(net, images)
    torch.testing.assert_close(fast, plain, **close)
    parameters = [p for name, p in net.named_parameters() if "conv" in name]
    found = torch.autograd.grad((fast * weights).sum(), parameters)
    expected = torch.autograd.grad((plain * weights).sum(), parameters)
    torch.testing.assert_close(found, expected, **close)


def test_bfloat16_autocast_is_close_and_float32() -> None:
    torch.manual_seed(0)
    net, images = SeedCNN(), grey_images()
    with torch.autocast("cpu", torch.bfloat16):
        features = net(scale(images))
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, net(scale(images)), rtol=0.05, atol=0.02)
    features.sum().backward()
    assert net.conv1.weight.grad is not None
    assert net.conv1.weight.grad.dtype == torch.float32


def test_sizes_and_unit_length() -> None:
    net = SeedCNN()
    features = net(scale(grey_images()))
    weights = {name: p.numel() for name, p in net.named_parameters()}
    assert sum(weights.values()) == 28_064
    torch.testing.assert_close(unit_length(features), normalize(features))
    torch.testing.assert_close(unit_length(features).norm(dim=1), torch.ones(6))


def test_its_first_weights_are_drawn_as_the_layers_come() -> None:
    torch.manual_seed(3)
    plain = [nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 32), (32, 32), (32, 64))]
    torch.manual_seed(3)
    net = SeedCNN()
    for layer, same in zip(plain, (net.conv1, net.conv2, net.conv3), strict=True):
        assert torch.equal(layer.weight, same.weight) and torch.equal(layer.bias, same.bias)


def test_pixels_become_minus_one_to_one_by_one_division() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(scale(every, dtype), every[:, None].to(dtype) / 127.5 - 1)
