"""A network of one's own: `--network study/examples/small_cnn.py:small_cnn`.

Four convolutions with batch norm, each followed by a max-pool to a half, then the mean over what is
left: 390,000 weights and an embedding of 256 for pictures of 32 pixels or more.
"""

from torch import nn

LR = 3e-3  # Adam's, with which a search begins


def small_cnn(channels: int) -> nn.Module:
    """Pictures (B, channels, H, W) → features (B, 256)."""
    layers: list[nn.Module] = []
    for width in (32, 64, 128, 256):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
