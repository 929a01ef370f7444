"""What a page to look around in has: pictures, each with its nearest by every loss, and a map."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from analysis.figures.retrieval_grid import on_black, picture, shown_size
from analysis.found.words import listed
from analysis.gallery.networks import Chosen
from study.judge.evaluation import nearest_places
from study.results.images import Images
from trainables.data import LabelledImages, Roles
from trainables.metrics import evaluate_roles
from trainables.trained import embed

MOST = 10_000  # pictures on a page, which are numbered in 16 bits
CLASSES = 25  # that it has at least, where there are so many
SHOWN = 24  # of the nearest
SIDE = 48  # pixels of a picture at most
QUALITY = 80  # of WebP, for pictures of many colours


class View(NamedTuple):
    """Of one network, of N pictures.

    Attributes:
        title: of its loss.
        nearest: (N, k) places of pictures, nearest first.
        distances: (N, k) squared Euclidean.
        average_precision: (N,) of those that ask under the protocol, over the whole gallery; NaN of
            the others, and where nothing is relevant.
        place: (N, 2) on the map, in [0, 1].
        share: of the embeddings' variance that the map shows.
    """

    title: str
    nearest: NDArray[np.int64]
    distances: NDArray[np.float32]
    average_precision: NDArray[np.float64]
    place: NDArray[np.float64]
    share: float


class Exploration(NamedTuple):
    """N pictures and the views of them.

    Attributes:
        data: the pictures.
        names: N.
        classes: the name of label 0, 1, ...
        relevant: (N,) how many of the gallery each should find.
        views: by loss.
        left_out: which of the study's pictures are not among them, for readers; empty if all are.
    """

    data: LabelledImages
    names: tuple[str, ...]
    classes: tuple[str, ...]
    relevant: NDArray[np.int64]
    views: Mapping[str, View]
    left_out: str


def explore(images: Images, networks: Mapping[str, Chosen], most: int = MOST) -> Exploration:
    """The images of the first protocol, queries and gallery. Each asks the gallery for its nearest;
    the average precision is of the protocol's queries.

    Args:
        networks: by the title of their loss.
        most: pictures to take, as `thinned` has it where there are more.
    """
    roles = next(iter(images.protocols.values()))
    places, left_out = np.union1d(roles.queries, roles.gallery), ""
    if len(places) > most:
        places, left_out = thinned(places, images.data.labels[places], most)
    data, roles = images.data.take(places), roles.among(places)
    names = [images.names[at] if images.names else f"validation image {at}" for at in places]
    views = {
        chosen.loss: _view(title, embed(chosen.network, data), data, roles)
        for title, chosen in networks.items()
    }
    relevant = _all_ask(roles, len(data)).relevant(data.labels)
    return Exploration(data, tuple(names), images.classes, relevant, views, left_out)


def thinned(
    places: NDArray[np.int64], labels: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], str]:
    """At most so many of N places, and which are left out. Classes are taken whole, so that what is
    relevant to a picture is there, but for large ones, of which others must leave some room."""
    classes, sizes = np.unique(labels, return_counts=True)
    each = max(most // CLASSES, most // len(classes), 1)
    order = np.random.default_rng(0).permutation(len(classes))
    fit = order[np.minimum(sizes, each)[order].cumsum() <= most]
    kept = []
    for label in classes[fit]:
        mine = places[labels == label]
        spaced = np.linspace(0, len(mine) - 1, min(len(mine), each)).round().astype(int)
        kept.append(mine[spaced])
    taken = np.sort(np.concatenate(kept))
    how = []
    if len(fit) < len(classes):
        how.append(f"of {len(fit):,} of {len(classes):,} classes, drawn at random")
    if sizes[fit].max() > each:
        how.append(f"at most {each:,} of a class, evenly spaced")
    return taken, f"They are {listed(how)}; {len(places) - len(taken):,} more are not shown"


def _all_ask(roles: Roles, count: int) -> Roles:
    return Roles(np.arange(count), roles.gallery, roles.groups)


def _view(title: str, embeddings: Tensor, data: LabelledImages, roles: Roles) -> View:
    every = _all_ask(roles, len(data))
    near = nearest_places(embeddings, every, min(SHOWN, every.ranked))
    gaps = torch.empty(near.shape)  # a rank at a time: all at once is N x SHOWN x D
    for rank, rows in enumerate(torch.from_numpy(near).T):
        gaps[:, rank] = (embeddings - embeddings[rows]).square().sum(1)
    result = evaluate_roles(embeddings, torch.from_numpy(data.labels), roles)
    precisions = np.full(len(data), np.nan)
    precisions[roles.queries] = result.average_precision
    place, share = principal_plane(embeddings)
    return View(title, near, gaps.numpy(), precisions, place, share)


def principal_plane(embeddings: Tensor) -> tuple[NDArray[np.float64], float]:
    """(N, 2) in [0, 1], one scale for both: the embeddings (N, D) along the two directions in which
    they vary most, and the share of their variance that these have.

    A direction's sign, which is free, makes the coordinate farthest from the mean positive.
    """
    centred = (embeddings - embeddings.mean(0)).double()
    variances, directions = torch.linalg.eigh(centred.T @ centred)
    places = (centred @ directions[:, [-1, -2]]).numpy()
    farthest = np.abs(places).argmax(0)
    places *= np.where(places[farthest, [0, 1]] < 0, -1, 1)
    extent = np.ptp(places, axis=0).max() or 1.0
    total = float(variances.clamp_min(0).sum()) or 1.0
    share = float(variances[-2:].clamp_min(0).sum()) / total
    return (places - places.min(0)) / extent, share


def atlas(data: LabelledImages) -> tuple[str, tuple[int, int], int]:
    """All pictures in one, as a data URI; the (height, width) of each; how many there are in a row.

    Grey pictures on black are shown dark on light.
    """
    height, width = shown_size(data.shape, SIDE)
    columns = math.ceil(math.sqrt(len(data)))
    lines = math.ceil(len(data) / columns)
    grey = data.shape[0] == 1
    sheet = np.zeros((lines * height, columns * width, data.shape[0]), np.uint8)
    for place in range(len(data)):
        line, column = divmod(place, columns)
        y, x = line * height, column * width
        sheet[y : y + height, x : x + width] = picture(data, place, SIDE)
    if grey and on_black(data, np.arange(min(len(data), 200))):
        sheet = 255 - sheet
    made = Image.fromarray(sheet[..., 0] if grey else sheet)
    packed = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if grey else {"quality": QUALITY}
    made.save(packed, "WEBP", **options)
    return f"data:image/webp;base64,{_text(packed.getvalue())}", (height, width), columns


def as_json(found: Exploration) -> str:
    """What the page's script reads; arrays are little-endian, in base64."""
    views = [
        {
            "loss": loss,
            "title": view.title,
            "share": view.share,
            "map": float(np.nanmean(view.average_precision)),
            "nearest": _packed(view.nearest.astype(np.uint16)),
            "distances": _packed(view.distances.astype(np.float32)),
            "precision": _packed(view.average_precision.astype(np.float32)),
            "places": _packed(view.place.astype(np.float32)),
        }
        for loss, view in found.views.items()
    ]
    source, size, columns = atlas(found.data)
    return json.dumps(
        {
            "labels": _packed(found.data.labels.astype(np.uint32)),
            "classes": found.classes,
            "relevant": _packed(found.relevant.astype(np.uint32)),
            "names": found.names,
            "views": views,
            "atlas": {"source": source, "height": size[0], "width": size[1], "columns": columns},
        }
    )


def _packed(array: NDArray[Any]) -> str:
    return _text(array.astype(array.dtype.newbyteorder("<")).tobytes())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
