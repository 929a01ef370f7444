"""Networks by name: (B, C, H, W) → (B, D), with the input that each wants; they know no classes.

To add a network is to write one file here: a module with

    known() -> list[str]                        # the names that it answers to, for suggestions
    backbone(name, channels, size) -> Backbone | None   # None where the name is not its own

A network of one's own needs no file here: `path/to/file.py:function` (`from_file`).
"""

from __future__ import annotations

from trainables.networks.embedder import FREEZES, Embedder, parameter_groups
from trainables.networks.entry import Backbone, Network, check_trainable
from trainables.networks.input import Input, NetworkError
from trainables.networks.names import resolve
from trainables.networks.randomness import seeded

__all__ = [
    "FREEZES",
    "Backbone",
    "Embedder",
    "Input",
    "Network",
    "NetworkError",
    "check_trainable",
    "parameter_groups",
    "resolve",
    "seeded",
]
