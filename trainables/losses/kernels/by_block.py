"""The ranking losses of a matrix of distances, a block of anchors at a time: for accelerators.

In small batches no value is read, which would halt the device until it is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from operator import add

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainables.losses.kernels.laws import (
    ValueAndSlopes,
    checked_labels,
    checked_lists,
    checked_margin,
    checked_tau,
    poison,
)

#: Bytes of one (anchors, rows, samples) block: enough to hide the launches.
BLOCK_BYTES = 1 << 28
#: The most samples of which lists of positives have the length of the batch. Of more, the device is
#: waited for once, for the size of the largest class: padding would be most of the work.
UNREAD = 256

Block = tuple[Tensor, Tensor, Tensor]
#: Of Sp, Sn and weight (a, r) of anchors' positives: their loss, and its slopes by Sp and by Sn.
OfRanks = Callable[[Tensor, Tensor, Tensor], Block]


class _Classes:
    """The samples of a batch by label, and its first `anchors` samples' places among them.

    Attributes: columns (B + 1,), the samples by label and then B; and of each anchor (A,), its
    class's first place in columns and its class's size, with its own place stacked in runs (3, A);
    and `most`, as many positives as an anchor has at the most, or more.
    """

    def __init__(self, labels: Tensor, anchors: int) -> None:
        self.batch, self.anchors = len(labels), anchors
        order = labels.argsort(stable=True)
        ordered, mine = labels[order], labels[:anchors]
        self.ramp = torch.arange(self.batch, device=labels.device)
        self.columns = pad(order, (0, 1), value=self.batch)
        place = torch.empty_like(order).scatter_(0, order, self.ramp)
        self.first = torch.searchsorted(ordered, mine)
        self.size = torch.searchsorted(ordered, mine, right=True) - self.first
        self.runs = torch.stack((self.first, place[:anchors], self.size))
        self.most = self.batch - 1 if self.batch <= UNREAD else max(1, _largest(self.size) - 1)

    def weights(self, dtype: torch.dtype) -> Tensor:
        """(A,): 1 / (how many anchors count) for those with a positive and a negative, else 0."""
        counts = ((self.size > 1) & (self.size < self.batch)).to(dtype)
        return counts / counts.sum().clamp_min(1)

    def blocks(self, bound: int, items: int) -> Iterator[Block]:
        """Yield (rows (a,), positives (a, most), negatives (a, B - 1)): anchors and what they
        compare.

        The lists end in the column B, which callers fill with +inf and ignore. A block holds as
        many anchors as keep a * items <= bound, and at least one.
        """
        for rows in self.ramp[: self.anchors].split(max(1, bound // max(1, items))):
            yield rows, *self._lists(rows)

    def _lists(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        # By label, an anchor's class is one run [low, low + many), with itself at `here`.
        low, here, many = self.runs.index_select(1, rows)[:, :, None]
        ramp = self.ramp[: self.most]
        same = low + ramp
        same = (same + (same >= here)).masked_fill_(ramp >= many - 1, self.batch)
        ramp = self.ramp[: self.batch - 1]
        other = (ramp + many * (ramp >= low)).masked_fill_(ramp >= self.batch - many, self.batch)
        return self.columns.take(same), self.columns.take(other)


def _largest(sizes: Tensor) -> int:
    """Of the anchors' classes. The host waits for it."""
    return int(sizes.max())


def smooth_ap(
    distances: Tensor, labels: Tensor, tau: float, seed: bool, mean: bool = True
) -> ValueAndSlopes:
    """As `by_row.smooth_ap`, to rounding."""
    labels, tau = checked_labels(distances, labels), checked_tau(tau)
    return _ranks(distances, labels, tau, mean, lambda *_: partial(_of_rank, seed=seed))


def recall_at_k(
    distances: Tensor, labels: Tensor, tau: float, ks: Sequence[int], tau_k: float
) -> ValueAndSlopes:
    """As `by_row.recall_at_k`, to rounding."""
    labels, tau = checked_labels(distances, labels), checked_tau(tau)
    lengths, widths = checked_lists(ks, tau_k, distances.shape[1])
    # Written by the device itself: a copy from the host's memory would wait for all before it.
    lists = torch.stack([distances.new_full((), one) for one in (*lengths, *widths)])
    lists = lists.view(2, len(lengths))

    def of_ranks(many: Tensor, parts: list[Block], far: Tensor) -> OfRanks:
        held = None  # of a part that is all, which needs no second pass
        if len(parts) > 1:
            held = reduce(
                add, (_held(_inside(_rank_of(*part, far), lists), part[1]) for part in parts)
            )
        return partial(_of_recall, many=many, lists=lists, held=held)

    return _ranks(distances, labels, tau, True, of_ranks)


def _ranks(
    distances: Tensor,
    labels: Tensor,
    tau: float,
    mean: bool,
    of_ranks: Callable[[Tensor, list[Block], Tensor], OfRanks],
) -> ValueAndSlopes:
    """The loss of every positive's rank, as `by_row._ranks`, and its slopes; of an anchor the mean
    over its positives, or their sum.

    `of_ranks` is told of a block of anchors: the numbers of their positives (a, 1), parts of these
    (ranked, weight, near) and far, as `_smooth_ranks` takes them.
    """
    classes, bound = _Classes(labels, len(distances)), BLOCK_BYTES // distances.element_size()
    scaled = distances / tau
    hidden = loss = poison(scaled)
    scaled = pad(scaled, (0, 1), value=math.inf)
    slopes = torch.zeros_like(scaled)
    sizes = (classes.size - 1).clamp_min(1)
    weights = classes.weights(scaled.dtype) / (sizes if mean else 1)
    items = classes.most * (classes.most + classes.batch)
    for rows, positives, negatives in classes.blocks(bound, items):
        mine, padded = scaled.index_select(0, rows), positives == classes.batch
        near, far = mine.gather(1, positives), mine.gather(1, negatives)
        weight = weights.index_select(0, rows)[:, None].masked_fill(padded, 0)
        # A padded row must stay finite (inf - inf is NaN); its weight is 0.
        ranked = near.masked_fill(padded, 0)
        step = max(1, bound // max(1, len(rows) * (near.shape[1] + far.shape[1])))
        split = zip(torch.split(ranked, step, 1), torch.split(weight, step, 1), strict=True)
        parts = [(*part, near) for part in split]
        of = of_ranks(sizes.index_select(0, rows)[:, None], parts, far)
        values, by_ranked, by_near, by_far = zip(
            *(_smooth_ranks(*part, far, of) for part in parts), strict=True
        )
        loss = loss + reduce(add, values)
        mine = torch.zeros_like(mine).scatter_(1, negatives, -reduce(add, by_far))
        mine.scatter_(1, positives, torch.cat(by_ranked, 1) - reduce(add, by_near))
        slopes.index_copy_(0, rows, mine)
    return loss, slopes[:, :-1].div_(tau).add_(hidden)


def _smooth_ranks(
    ranked: Tensor, weight: Tensor, near: Tensor, far: Tensor, of_ranks: OfRanks
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss of the positives `ranked` (a, r), and its slopes by them, by near and by far.

    All distances are over tau; near is (a, P), far (a, N), weight (a, r). The last two slopes
    returned are without their sign.
    """
    to_near = torch.sigmoid_(ranked[:, :, None] - near[:, None])
    to_far = torch.sigmoid_(ranked[:, :, None] - far[:, None])
    loss, by_closer, by_wrong = of_ranks(to_near.sum(2) - 0.5, to_far.sum(2), weight)
    to_near = _sigmoid_slopes(by_closer, to_near)
    to_far = _sigmoid_slopes(by_wrong, to_far)
    return loss, to_near.sum(2) + to_far.sum(2), to_near.sum(1), to_far.sum(1)


def _of_rank(closer: Tensor, wrong: Tensor, weight: Tensor, seed: bool) -> Block:
    """The Smooth-AP loss, with the derivatives that `by_row._of_rank` states."""
    rank = 1 + closer + wrong
    top, by_wrong = (1 + wrong, closer) if seed else (wrong, 1 + closer)
    scale = weight / rank
    loss = (scale * top).sum()
    scale = scale / rank
    return loss, scale * -top, scale * by_wrong


def _of_recall(
    closer: Tensor,
    wrong: Tensor,
    weight: Tensor,
    many: Tensor,
    lists: Tensor,
    held: Tensor | None,
) -> Block:
    """The recall@k loss, as `by_row._of_recall`; held (a, K) if these are not all the positives."""
    inside, (ks, widths) = _inside(1 + closer + wrong, lists), lists
    held = _held(inside, weight) if held is None else held
    # The weight of a positive is over `many`, its class's number of positives.
    weight = (weight[:, :, None] / len(ks)) * (held <= ks)[:, None]
    share = (many / torch.minimum(many.to(ks.dtype), ks))[:, None]
    loss = (weight * (1 - share * inside)).sum()
    slope = (weight * share * inside * (1 - inside) / widths).sum(2)
    return loss, slope, slope


def _inside(rank: Tensor, lists: Tensor) -> Tensor:
    """How far each list of K (lists (2, K)) holds what has a rank (a, r): (a, r, K) in [0, 1]."""
    ks, widths = lists
    return torch.sigmoid_((ks - rank[:, :, None]) / widths)


def _held(inside: Tensor, weight: Tensor) -> Tensor:
    """What each list holds of each anchor's positives, (a, K): those with weight (a, r)."""
    return (inside * (weight > 0)[:, :, None]).sum(1)


def _rank_of(ranked: Tensor, _: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """The smooth rank of each positive `ranked` (a, r)."""
    closer = torch.sigmoid_(ranked[:, :, None] - near[:, None]).sum(2) - 0.5
    return 1 + closer + torch.sigmoid_(ranked[:, :, None] - far[:, None]).sum(2)


def _sigmoid_slopes(weight: Tensor, sigmoid: Tensor) -> Tensor:
    """weight (a, r) times sigmoid * (1 - sigmoid) (a, r, n), in one pass."""
    weights = weight[:, :, None].expand_as(sigmoid)
    slopes: Tensor = torch.ops.aten.sigmoid_backward(weights, sigmoid)
    return slopes


def triplet(distances: Tensor, labels: Tensor, margin: float, mean: bool) -> ValueAndSlopes:
    """As `by_row.triplet`, to rounding."""
    labels, margin = checked_labels(distances, labels), checked_margin(margin)
    classes, bound = _Classes(labels, len(distances)), BLOCK_BYTES // distances.element_size()
    hidden, padded = poison(distances + margin), pad(distances, (0, 1), value=math.inf)
    slopes = torch.zeros_like(padded)
    loss, violating = (torch.zeros((), dtype=torch.float64, device=labels.device),) * 2
    weights = torch.ones_like(padded[:, 0]) if mean else classes.weights(padded.dtype)
    for rows, positives, negatives in classes.blocks(bound, classes.batch):
        mine, weight = padded.index_select(0, rows), weights.index_select(0, rows)[:, None]
        near, far = mine.gather(1, positives) + margin, mine.gather(1, negatives)
        hinges, by_near, by_far = _hinges(near, far)
        loss = loss + (hinges * weight[:, 0]).sum()
        violating = violating + by_far.sum(dtype=torch.float64)
        mine = torch.zeros_like(mine).scatter_(1, negatives, -by_far)
        slopes.index_copy_(0, rows, mine.scatter_(1, positives, by_near).mul_(weight))
    scale = 1 / violating.clamp_min(1) if mean else torch.ones_like(violating)
    return (loss * scale).to(distances.dtype) + hidden, slopes[:, :-1].mul_(scale).add_(hidden)


def _hinges(near: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hinge sums (a,) of max(0, near_p - far_n), and how often near (a, P), far (a, N) violate.

    With near sorted from the largest, far_n violates with the first r_n of it, found by bisection,
    and its hinges sum to (sum of those) - r_n far_n: O((P + N) log P) instead of P N. Sums are in
    float64, as differences of long sums lose digits. Entries of +inf are padding.
    """
    padded = near.isinf()
    minus, by = near.neg().masked_fill(padded, math.inf).sort(dim=1)
    last = torch.searchsorted(minus, -far)
    sums = pad(minus.double().masked_fill(minus.isinf(), 0).cumsum(1), (1, 0))
    hinges = -sums.gather(1, last) - last * far.masked_fill(far.isinf(), 0).double()
    # A negative that violates with r positives does so with those at places 0 .. r - 1.
    ends = torch.zeros_like(sums).scatter_add_(1, last, torch.ones_like(hinges))
    counts = ends.flip(1).cumsum(1).flip(1)[:, 1:].to(near.dtype)
    by_near = torch.zeros_like(near).scatter_(1, by, counts)
    return hinges.sum(1), by_near, last.to(near.dtype)
