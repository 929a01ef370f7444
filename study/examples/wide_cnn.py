"""A larger network, as a teacher of a smaller one: `--network study/examples/wide_cnn.py:wide_cnn`.

Three pairs of convolutions with batch norm, of 64, 128 and 256 channels, each pair followed by a
max-pool to a half, then the mean over what is left: 1.1 million weights and an embedding of 256. An
image of 28 x 28 pixels costs 40 times what it costs `seed_cnn`.
"""

from torch import nn

LR = 3e-3  # Adam's, with which a search begins


def wide_cnn(channels: int) -> nn.Module:
    """Pictures (B, channels, H, W) → features (B, 256)."""
    layers: list[nn.Module] = []
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
