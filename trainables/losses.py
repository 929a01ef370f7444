"""Exact ranking losses over all pairs of a batch, in O(anchors x batch) memory.

Both losses are scalars whose gradient with respect to the anchor-to-sample distances has a closed
form, so one pass gives value and gradient, a few anchors at a time, and nothing of size
anchors x batch x batch is ever stored. Double backward is therefore not supported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainables.retrieval import squared_distances

#: Bytes of one (anchors, rows, samples) block: on the CPU it should stay in a core's L2 cache, on
#: an accelerator it should be large enough to hide the launches.
CHUNK_BYTES = {"cpu": 1 << 20, "accelerator": 1 << 28}

#: Logistics in a block from which it pays to look for saturated ones.
SEARCH_FROM = 1 << 15

Block = tuple[Tensor, Tensor, Tensor]
ValueAndSlopes = tuple[Tensor, Tensor]
Kernel = Callable[[Tensor, Tensor], ValueAndSlopes]


def smooth_ap_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    tau: float,
    anchors: int | None = None,
    numerator: str = "paper",
) -> Tensor:
    """Smooth AP loss of a batch (Brown et al., ECCV 2020, arXiv 2007.12163, eq. 6): a scalar.

    For an anchor with positives P and negatives N (itself in neither) at squared distances d,

        Sp = sum_{p' in P, p' != p} sigma(p, p'),  Sn = sum_{n in N} sigma(p, n),
        sigma(p, j) = 1 / (1 + exp(-(d_p - d_j) / tau)),
        loss = 1/|P| sum_p Sn / (1 + Sp + Sn)            "paper": 1 - smooth AP, in [0, 1)
        loss = 1/|P| sum_p (1 + Sn) / (1 + Sp + Sn)      "seed"

    averaged over the anchors that have a positive and a negative; 0 when there is none. "paper"
    tends to 1 - AP as tau -> 0 where distances differ. The result is float32, or float64 for
    float64 embeddings.

    Args:
        embeddings: (B, D), floating; bfloat16 and float16 are computed in float32.
        labels: (B,), integers, in any order and numbers.
        tau: temperature, in units of squared distance: for unit vectors, twice that of similarity.
        anchors: how many of the first samples rank the batch; None: all.
        numerator: which of the two losses above.

    Raises:
        ValueError: an argument is not as described, or not tau > 0, or not anchors >= 1.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise ValueError(f"tau must be finite and > 0, got {tau}")
    if numerator not in ("paper", "seed"):
        raise ValueError(f"numerator must be 'paper' or 'seed', got {numerator!r}")
    kernel = partial(_smooth_ap, tau=tau, seed=numerator == "seed")
    return _ranking_loss(kernel, embeddings, labels, anchors)


def triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float,
    anchors: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Triplet loss over every (anchor, positive, negative) of a batch: a scalar.

    A triplet's hinge is max(0, d_p - d_n + margin), with squared distances to the anchor
    (Schroff et al., CVPR 2015, arXiv 1503.03832, eq. 2).

    Args:
        embeddings: (B, D), floating; bfloat16 and float16 are computed in float32.
        labels: (B,), integers, in any order and numbers.
        margin: in units of squared distance, >= 0.
        anchors: how many of the first samples are anchors; None: all.
        reduction: "mean": the mean over the triplets whose hinge is > 0; "sum": the sum over an
            anchor's triplets, averaged over the anchors that have a positive and a negative. Both
            are 0 when there is nothing to average.

    Raises:
        ValueError: an argument is not as described.
    """
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin must be finite and >= 0, got {margin}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    kernel = partial(_triplet, margin=margin, mean=reduction == "mean")
    return _ranking_loss(kernel, embeddings, labels, anchors)


def _ranking_loss(
    kernel: Kernel, embeddings: Tensor, labels: Tensor, anchors: int | None
) -> Tensor:
    """`kernel` of the distances from the first `anchors` samples, once the arguments are right."""
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        kind = f"{embeddings.dtype} {tuple(embeddings.shape)}"
        raise ValueError(f"embeddings must be a 2-d floating tensor, got {kind}")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != embeddings.shape[:1] or not whole:
        kind = f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(f"labels must be ({len(embeddings)},) integers, got {kind}")
    if anchors is not None and anchors < 1:
        raise ValueError(f"anchors must be >= 1, got {anchors}")
    # Widened once, so that the gradient is rounded to the narrow type once.
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    loss: Tensor = _RankingLoss.apply(embeddings, labels, anchors, kernel)
    return loss


class _RankingLoss(torch.autograd.Function):
    """`kernel`'s scalar; its slopes (A, B) by squared distance are known from the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, labels: Tensor, anchors: int | None, kernel: Kernel
    ) -> Tensor:
        loss, slopes = kernel(squared_distances(embeddings[:anchors], embeddings), labels)
        ctx.save_for_backward(embeddings, slopes)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        # once_differentiable would let create_graph=True through here, as `grad` is a constant,
        # and a second derivative would silently miss the slopes' own dependence on embeddings.
        if torch.is_grad_enabled():
            raise RuntimeError("the ranking losses cannot be differentiated twice (create_graph)")
        y, slopes = ctx.saved_tensors
        x = y[: len(slopes)]
        # The gradient of |x - y|^2 by x is 2 (x - y), and its opposite by y.
        with torch.autocast(y.device.type, enabled=False):
            moved = torch.addmm(slopes.sum(0)[:, None] * y, slopes.T, x, alpha=-1)
            mine = moved[: len(x)].addmm_(slopes, y, alpha=-1)
            mine.addcmul_(slopes.sum(1, keepdim=True), x)
        return moved.mul_(2 * grad), None, None, None


class _Classes:
    """The samples of a batch by label, and its first `anchors` samples' places among them.

    Attributes: columns (B + 1,), the samples by label and then B; and of each anchor (A,), its
    class's first place in columns and its class's size, with its own place stacked in runs (3, A).
    """

    def __init__(self, labels: Tensor, anchors: int) -> None:
        self.batch, self.anchors, self.device = len(labels), anchors, labels.device
        order = labels.argsort(stable=True)
        ordered, mine = labels[order], labels[:anchors]
        self.ramp = torch.arange(self.batch, device=self.device)
        self.columns = pad(order, (0, 1), value=self.batch)
        place = torch.empty_like(order).scatter_(0, order, self.ramp)
        self.first = torch.searchsorted(ordered, mine)
        self.size = torch.searchsorted(ordered, mine, right=True) - self.first
        self.runs = torch.stack((self.first, place[:anchors], self.size))

    def weights(self, dtype: torch.dtype) -> Tensor:
        """(A,): 1 / (how many anchors count) for those with a positive and a negative, else 0."""
        counts = ((self.size > 1) & (self.size < self.batch)).to(dtype)
        return counts / counts.sum().clamp_min(1)

    def blocks(self, bound: int, cost: Callable[[int], int]) -> Iterator[Block]:
        """Yield (rows (a,), positives (a, P), negatives (a, N)): anchors and what they compare.

        Lists shorter than P or N end in the column B, which callers fill with +inf and ignore.
        A block holds as many anchors as keep a * cost(P) <= bound, and at least one. On the CPU
        the anchors come by class size, so that P and N are nearly exact, and up to 8 times more
        of one class stay together, as they leave out the same columns. Elsewhere reading the
        sizes would halt the device, so P = N = B - 1: more arithmetic, the same result.
        """
        if _on_cpu(self.columns):
            ranked = (self.size * self.batch + self.first).argsort(descending=True)
            sizes = [size for size in self.size[ranked].tolist() if size > 1]
            firsts = self.first[ranked].tolist()
        else:
            ranked, firsts = self.ramp, list(range(self.anchors))
            sizes = [self.batch] * self.anchors
        begin = 0
        while begin < len(sizes):
            most = sizes[begin]
            limit = bound // max(1, cost(most - 1))
            run = firsts[begin : begin + most].count(firsts[begin])
            end = min(len(sizes), begin + max(1, limit, min(run, 8 * limit)))
            rows, least = ranked[begin:end], sizes[end - 1] if _on_cpu(ranked) else 1
            yield rows, *self._lists(rows, most - 1, self.batch - least)
            begin = end

    def _lists(self, rows: Tensor, positives: int, negatives: int) -> tuple[Tensor, Tensor]:
        # By label, an anchor's class is one run [low, low + many), with itself at `here`.
        low, here, many = self.runs.index_select(1, rows)[:, :, None]
        ramp = self.ramp[:positives]
        same = low + ramp
        same = (same + (same >= here)).masked_fill_(ramp >= many - 1, self.batch)
        ramp = self.ramp[:negatives]
        other = (ramp + many * (ramp >= low)).masked_fill_(ramp >= self.batch - many, self.batch)
        return self.columns.take(same), self.columns.take(other)


def _smooth_ap(distances: Tensor, labels: Tensor, tau: float, seed: bool) -> ValueAndSlopes:
    """The smooth AP loss of distances (A, B), and its slopes (A, B) by them."""
    classes, bound = _Classes(labels, len(distances)), _block_items(distances)
    scaled = pad(distances / tau, (0, 1), value=math.inf)
    slopes, loss = torch.zeros_like(scaled), scaled.new_zeros(())
    weights = classes.weights(scaled.dtype) / (classes.size - 1).clamp_min(1)
    for rows, positives, negatives in classes.blocks(bound, lambda p: p * classes.batch):
        mine, padded = scaled.index_select(0, rows), positives == classes.batch
        near, far = mine.gather(1, positives), mine.gather(1, negatives)
        weight = weights.index_select(0, rows)[:, None].masked_fill(padded, 0)
        below, live = _saturated(near, far, padded)
        if live is not None:
            far, negatives = far[:, live], negatives[:, live]
        # A padded row must stay finite (inf - inf is NaN); its weight is 0.
        ranked = near.masked_fill(padded, 0)
        step = max(1, bound // max(1, len(rows) * (near.shape[1] + far.shape[1])))
        parts = [
            _smooth_ranks(*part, near, far, below, seed)
            for part in zip(torch.split(ranked, step, 1), torch.split(weight, step, 1), strict=True)
        ]
        values, by_ranked, by_near, by_far = zip(*parts, strict=True)
        loss += reduce(add, values)
        mine = torch.zeros_like(mine).scatter_(1, negatives, -reduce(add, by_far))
        mine.scatter_(1, positives, torch.cat(by_ranked, 1) - reduce(add, by_near))
        slopes.index_copy_(0, rows, mine)
    return loss, slopes[:, :-1].div_(tau)


def _smooth_ranks(
    ranked: Tensor, weight: Tensor, near: Tensor, far: Tensor, below: Tensor | int, seed: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss of the positives `ranked` (a, r), and its slopes by them, by near and by far.

    All distances are over tau; near is (a, P), far (a, N), `below` the negatives known to rank
    before every positive, weight (a, r). With R = 1 + Sp + Sn, the quotient rule gives

        "paper", Sn / R:        d/dSn = (1 + Sp) / R^2,  d/dSp = -Sn / R^2
        "seed",  (1 + Sn) / R:  d/dSn = Sp / R^2,        d/dSp = -(1 + Sn) / R^2

    and sigma' = sigma (1 - sigma) carries each to d_p, and with the other sign to d_j. The last
    two slopes returned are without that sign. A positive is compared with itself too: that adds
    1/2 to Sp, taken off here, and slopes that cancel.
    """
    to_near = torch.sigmoid_(ranked[:, :, None] - near[:, None])
    to_far = torch.sigmoid_(ranked[:, :, None] - far[:, None])
    closer = to_near.sum(2) - 0.5
    wrong = to_far.sum(2) + below
    rank = 1 + closer + wrong
    top, by_wrong = (1 + wrong, closer) if seed else (wrong, 1 + closer)
    scale = weight / rank
    loss = (scale * top).sum()
    scale = scale / rank
    to_near = _sigmoid_slopes(scale * -top, to_near)
    to_far = _sigmoid_slopes(scale * by_wrong, to_far)
    return loss, to_near.sum(2) + to_far.sum(2), to_near.sum(1), to_far.sum(1)


def _sigmoid_slopes(weight: Tensor, sigmoid: Tensor) -> Tensor:
    """weight (a, r) times sigmoid * (1 - sigmoid) (a, r, n), in one pass."""
    weights = weight[:, :, None].expand_as(sigmoid)
    slopes: Tensor = torch.ops.aten.sigmoid_backward(weights, sigmoid)
    return slopes


def _saturated(near: Tensor, far: Tensor, padded: Tensor) -> tuple[Tensor | int, Tensor | None]:
    """Negatives that need no logistic: how many rank first, (a, 1), and which columns remain.

    Beyond reach = log(B / eps) of all positives of all of the block's anchors, a logistic is 0 or
    1 within eps / B, so leaving a column out moves Sn by less than eps in all, and a slope by
    less than eps / tau: what rounding moves them by. (0, None) when no column can go. Not looked
    for in a small block, where looking costs as much, or off the CPU, where the answer's size
    would have to be read.
    """
    if not _on_cpu(near) or near.numel() * far.shape[1] < SEARCH_FROM:
        return 0, None
    reach = math.log((near.shape[1] + far.shape[1] + 1) / torch.finfo(near.dtype).eps)
    first = far < near.amin(1, keepdim=True) - reach
    last = far > near.masked_fill(padded, -math.inf).amax(1, keepdim=True) + reach
    gone = (first | last).all(0)
    if not gone.any():
        return 0, None
    return (first & gone).sum(1, keepdim=True), (~gone).nonzero()[:, 0]


def _triplet(distances: Tensor, labels: Tensor, margin: float, mean: bool) -> ValueAndSlopes:
    """The triplet loss of distances (A, B), and its slopes (A, B) by them."""
    classes, bound = _Classes(labels, len(distances)), _block_items(distances)
    padded = pad(distances, (0, 1), value=math.inf)
    slopes = torch.zeros_like(padded)
    loss, violating = (torch.zeros((), dtype=torch.float64, device=labels.device),) * 2
    weights = torch.ones_like(padded[:, 0]) if mean else classes.weights(padded.dtype)
    for rows, positives, negatives in classes.blocks(bound, lambda p: classes.batch):
        mine, weight = padded.index_select(0, rows), weights.index_select(0, rows)[:, None]
        near, far = mine.gather(1, positives) + margin, mine.gather(1, negatives)
        hinges, by_near, by_far = _hinges(near, far)
        loss = loss + (hinges * weight[:, 0]).sum()
        violating = violating + by_far.sum(dtype=torch.float64)
        mine = torch.zeros_like(mine).scatter_(1, negatives, -by_far)
        slopes.index_copy_(0, rows, mine.scatter_(1, positives, by_near).mul_(weight))
    scale = 1 / violating.clamp_min(1) if mean else torch.ones_like(violating)
    return (loss * scale).to(distances.dtype), slopes[:, :-1].mul_(scale)


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


def _on_cpu(tensor: Tensor) -> bool:
    """Whether reading a value is free, rather than halting the device until it is known."""
    return tensor.device.type == "cpu"


def _block_items(like: Tensor) -> int:
    return CHUNK_BYTES["cpu" if _on_cpu(like) else "accelerator"] // like.element_size()
