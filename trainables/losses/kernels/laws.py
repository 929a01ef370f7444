"""What the kernels of the ranking losses are given, and the laws that it is held to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.laws import integer, number
from trainables.retrieval import INTEGERS

ValueAndSlopes = tuple[Tensor, Tensor]


def checked_labels(distances: Tensor, labels: Tensor) -> Tensor:
    """The labels as int64, once they and the distances are what a kernel takes.

    Args:
        distances: (A, B), A <= B, float32 or float64: from the first A of B samples to all of them.
        labels: (B,), integers, on the device of the distances.

    Raises:
        ValueError: one is not as described.
    """
    wide = distances.dtype in (torch.float32, torch.float64)
    if distances.ndim != 2 or distances.shape[0] > distances.shape[1] or not wide:
        law = "distances must be (A, B), A <= B, float32 or float64"
        raise ValueError(f"{law}, got {distances.dtype} {tuple(distances.shape)}")
    if labels.shape != distances.shape[1:] or labels.dtype not in INTEGERS:
        law = f"labels must be ({distances.shape[1]},) integers"
        raise ValueError(f"{law}, got {labels.dtype} {tuple(labels.shape)}")
    return labels.long()


def checked_tau(tau: float) -> float:
    """The temperature as a float; ValueError unless it is > 0 and a normal number of float32."""
    return number("tau", tau, "> 0", lambda x: x > 0)


def checked_margin(margin: float) -> float:
    """The margin as a float; ValueError unless it is >= 0 and 0 or a normal number of float32."""
    return number("margin", margin, ">= 0", lambda x: x >= 0)


def checked_lists(ks: Sequence[int], tau_k: float, batch: int) -> tuple[list[float], list[float]]:
    """The lengths of the lists that recall is taken at, and the temperatures of their ends.

    A list is no longer than what a batch can fill, all but the query; a temperature is tau_k times
    the length as it was given.

    Raises:
        ValueError: `ks` is empty or not of integers >= 1, or tau_k not > 0 and normal in float32.
    """
    if isinstance(ks, str) or not isinstance(ks, Sequence) or not ks:
        raise ValueError(f"k must be a list of integers >= 1, and hold one; got {ks!r}")
    given = [integer("k", k, 1) for k in ks]
    tau_k = number("tau_k", tau_k, "> 0", lambda x: x > 0)
    return [float(max(1, min(k, batch - 1))) for k in given], [tau_k * k for k in given]


def poison(numbers: Tensor) -> Tensor:
    """0, but NaN if any of the numbers is NaN or infinite: added to what must not hide that."""
    return (numbers * 0).sum()
