"""Drop-out and stochastic depth draw from torch's global state; a trial has its own generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(generator: torch.Generator, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, torch's global random state is seeded by one draw from the generator; then restored.

    A forward pass inside depends on the generator's state alone, and the process's other draws do
    not depend on it: a run that saved the generator repeats to the last digit.

    Args:
        generator: on the CPU.
        device: of the network; a CUDA device's state is seeded and restored besides the CPU's.
    """
    device = torch.device(device)
    seed = drawn_seed(generator)
    cards = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cards):
        torch.default_generator.manual_seed(seed)
        for card in cards:
            with torch.cuda.device(card):
                torch.cuda.manual_seed(seed)
        yield


def drawn_seed(generator: torch.Generator) -> int:
    """The next of a generator on the CPU."""
    return int(torch.randint(2**63 - 1, (), generator=generator))
