"""A training step of a small network on a card as one launch: a CUDA graph, replayed.

Such a step is some hundred operations of a few microseconds each, and the host takes ten times as
long to launch them as the card to run them. A graph holds them all, with the memory that they work
on. It can be made of a step that reads no value, draws no random number and does the same each
time, which network and loss say of themselves by `replayed_batch`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from trainables.config import TrialConfig
from trainables.learner import Learner
from trainables.losses.combined import Combined

WARM = 3  # steps before the one that is kept, in which libraries choose and set up what they use


class Replay:
    """A step, replayed on one batch after the other; called with a batch it gives the loss ().

    All steps of a run are replayed, none is trained by warming up, and learning rates are read
    from the optimizer each time: a run that goes on from a checkpoint gives the same numbers.

    Args:
        step: a batch → its loss, once the optimizer has taken a step. What else it works on must
            stay where it is as long as this lives.
        batch: the first, of which shapes are taken; it is not trained on yet.
        learner, optimizer: what a step changes; Adam or AdamW, fused.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        batch: Sequence[Tensor],
        learner: Learner,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.batch = [part.clone() for part in batch]
        self.groups = optimizer.param_groups
        device = self.batch[0].device
        self.rates = [torch.empty((), device=device) for _ in self.groups]
        with self._rates_there():
            with as_it_was(learner, optimizer):
                warm(partial(step, *self.batch), device)
            self.again, self.loss = captured(partial(step, *self.batch), device)

    def __call__(self, *batch: Tensor) -> Tensor:
        for mine, given in zip(self.batch, batch, strict=True):
            mine.copy_(given)
        for rate, group in zip(self.rates, self.groups, strict=True):
            rate.fill_(group["lr"])
        self.again()
        return self.loss.clone()

    @contextlib.contextmanager
    def _rates_there(self) -> Iterator[None]:
        """Inside, the learning rates are tensors, which later steps find changed."""
        kept = [(group["lr"], group["capturable"]) for group in self.groups]
        for (lr, _), rate, group in zip(kept, self.rates, self.groups, strict=True):
            group["lr"], group["capturable"] = rate.fill_(lr), True
        try:
            yield
        finally:
            for (lr, capturable), group in zip(kept, self.groups, strict=True):
                group["lr"], group["capturable"] = lr, capturable


def can_replay(config: TrialConfig, learner: Learner, device: torch.device) -> bool:
    """Whether a graph is made of a run's steps: on a card, with an optimizer that takes its rates
    from there (of SGD that is not done)."""
    fits = config.optimizer != "sgd" and config.batch_size <= largest_batch(learner)
    return fits and device.type == "cuda"


def largest_batch(learner: Learner) -> float:
    """Of the steps that can be replayed; 0 if none can."""
    loss = learner.loss
    parts = [learner.network.trunk, *(loss.losses if isinstance(loss, Combined) else [loss])]
    # Its class must say so itself: what is made of that may draw or read what it does not.
    return min(vars(type(part)).get("replayed_batch", 0) for part in parts)


@contextlib.contextmanager
def as_it_was(learner: Learner, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """What changes inside is put back in its place; what the optimizer makes is zero."""
    weights = [*learner.parameters(), *learner.buffers()]
    before = [weight.detach().clone() for weight in weights]
    states = {
        weight: {name: one.clone() for name, one in tensors(state)}
        for weight, state in optimizer.state.items()
    }
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)
            for weight, state in optimizer.state.items():
                for name, one in tensors(state):
                    if weight in states:
                        one.copy_(states[weight][name])
                    else:
                        one.zero_()


def tensors(state: dict[str, Any]) -> list[tuple[str, Tensor]]:
    return [(name, one) for name, one in state.items() if isinstance(one, Tensor)]


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """One a card and process, as libraries may keep workspaces of some 32 MiB for each stream."""
    return torch.cuda.Stream(device)


def warm(step: Callable[[], Tensor], device: torch.device) -> None:
    """On a stream of its own, as what is captured must not be the first on any."""
    with torch.cuda.device(device):
        side = side_stream(device)
        side.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(side):
                for _ in range(WARM):
                    step()
        finally:  # what fails lets go of memory that the stream may not be done with
            torch.cuda.current_stream().wait_stream(side)


def captured(step: Callable[[], Tensor], device: torch.device) -> tuple[Callable[[], None], Tensor]:
    """What launches the step, and the loss that it writes. Nothing runs yet.

    Raises:
        torch.OutOfMemoryError: the card has no room for what the graph works on.
    """
    graph = torch.cuda.CUDAGraph()
    # By default torch has one stream for all cards; and other threads are not to end a capture.
    how: dict[str, Any] = {"stream": side_stream(device), "capture_error_mode": "thread_local"}
    try:
        with torch.cuda.device(device), torch.cuda.graph(graph, **how):
            loss = step()
    except RuntimeError as error:  # that the capture could not be ended may hide why
        if isinstance(error.__context__, torch.OutOfMemoryError):
            raise error.__context__ from None
        raise
    return graph.replay, loss
