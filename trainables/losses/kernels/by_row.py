"""The ranking losses of a matrix of distances, an anchor's row after the other: for the CPU.

Compiled loops, as on small batches the launches of single operations cost more than their
arithmetic. Beside the slopes, memory is of the order of one row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainables.compiled import compiled
from trainables.losses.kernels.laws import (
    ValueAndSlopes,
    checked_labels,
    checked_lists,
    checked_margin,
    checked_tau,
)

#: exp(+-this) is finite and not 0 in float64.
LARGEST_EXPONENT = 700.0

#: Of the lists that recall is taken at, where it is not: Smooth-AP.
NO_LISTS = np.empty(0)


def smooth_ap(
    distances: Tensor, labels: Tensor, tau: float, seed: bool, mean: bool = True
) -> ValueAndSlopes:
    """The smooth AP loss of distances (A, B), and its slopes (A, B) by them.

    An anchor's loss is the mean over its positives, or their sum.
    All are NaN if a distance, or a distance over tau, is NaN or infinite in the distances' dtype.
    """
    labels, tau = checked_labels(distances, labels), checked_tau(tau)
    slopes, number = torch.zeros_like(distances), torch.finfo(distances.dtype)
    # Beyond log(B / eps) of all of an anchor's positives, a logistic is 0 or 1 within eps / B, so
    # leaving such negatives out moves Sn by less than eps in all, and a slope by less than
    # eps / tau: what rounding moves them by.
    reach = math.log(max(1, distances.shape[1]) / number.eps)
    arrays, most = (distances.numpy(), labels.numpy(), slopes.numpy()), number.max * min(1, tau)
    loss = _ranks(*arrays, most, tau, reach, seed, mean, NO_LISTS, NO_LISTS)
    return distances.new_tensor(loss), slopes


def recall_at_k(
    distances: Tensor, labels: Tensor, tau: float, ks: Sequence[int], tau_k: float
) -> ValueAndSlopes:
    """The recall@k surrogate loss of distances (A, B), and its slopes (A, B) by them.

    All are NaN if a distance, or a distance over tau, is NaN or infinite in the distances' dtype.
    """
    labels, tau = checked_labels(distances, labels), checked_tau(tau)
    lengths, widths = checked_lists(ks, tau_k, distances.shape[1])
    slopes, number = torch.zeros_like(distances), torch.finfo(distances.dtype)
    # As for Smooth-AP; here a positive's slope by its rank is up to 1 / (4 tau_k).
    steepest = max(1, 1 / min(widths))
    reach = math.log(max(1, distances.shape[1]) / number.eps) + math.log(steepest)
    arrays, most = (distances.numpy(), labels.numpy(), slopes.numpy()), number.max * min(1, tau)
    lists = np.array(lengths), np.array(widths)
    loss = _ranks(*arrays, most, tau, reach, False, True, *lists)
    return distances.new_tensor(loss), slopes


def triplet(distances: Tensor, labels: Tensor, margin: float, mean: bool) -> ValueAndSlopes:
    """The triplet loss of distances (A, B), and its slopes (A, B) by them.

    All are NaN if a distance and margin are NaN or infinite in the distances' dtype.
    """
    labels, margin = checked_labels(distances, labels), checked_margin(margin)
    slopes, most = torch.zeros_like(distances), torch.finfo(distances.dtype).max - margin
    arrays = distances.numpy(), labels.numpy(), slopes.numpy()
    return distances.new_tensor(_triplet(*arrays, most, margin, mean)), slopes


@compiled
def _poison(distances: np.ndarray, most: float) -> float:
    """0, but NaN if a distance is NaN or larger than `most`."""
    anchors, batch = distances.shape
    beyond = 0
    for a in range(anchors):
        for j in range(batch):
            beyond += not abs(distances[a, j]) <= most
    return np.nan if beyond else 0.0


@compiled
def _of_class(labels: np.ndarray, anchor: int, same: bool, columns: np.ndarray) -> int:
    """Writes the anchor's positives, or its negatives, to the start of `columns`; how many."""
    many = 0
    for j in range(len(labels)):
        if (labels[j] == labels[anchor]) == same and j != anchor:
            columns[many] = j
            many += 1
    return many


@compiled
def _ranks(
    distances: np.ndarray,
    labels: np.ndarray,
    slopes: np.ndarray,
    most: float,
    tau: float,
    reach: float,
    seed: bool,
    mean: bool,
    ks: np.ndarray,
    widths: np.ndarray,
) -> float:
    """The loss of every positive's rank R = 1 + Sp + Sn; writes the slopes, given as 0.

    Without `ks` it is Smooth-AP, else recall at them (`_of_rank`, `_of_recall`); sigma' = sigma
    (1 - sigma) carries their slopes by Sp and Sn to d_p, and with the other sign to d_j. A positive
    is compared with itself too: that adds 1/2 to Sp, taken off here, and slopes that cancel.
    """
    anchors, batch = distances.shape
    columns, others = np.empty(batch, np.int64), np.empty(batch, np.int64)
    scaled, powers, logistics, moved = np.empty((4, batch))
    held, full = np.zeros(len(ks)), np.zeros(len(ks), np.bool_)
    total, counted = 0.0, 0
    for a in range(anchors):
        many = _of_class(labels, a, True, columns)
        negatives = _of_class(labels, a, False, others)
        if many == 0 or negatives == 0:
            continue
        counted += 1
        low, high = np.inf, -np.inf
        for k in range(many):
            scaled[k] = distances[a, columns[k]] / tau
            low, high = min(low, scaled[k]), max(high, scaled[k])
        below, end = 0, many
        for k in range(negatives):
            d = distances[a, others[k]] / tau
            if d < low - reach:
                below += 1
            elif not d > high + reach:
                scaled[end], columns[end] = d, others[k]
                end += 1
        # One exponential for each distance, where its range allows, instead of one for each pair.
        middle = low / 2 + high / 2
        narrow = high - low + 2 * reach < 2 * LARGEST_EXPONENT
        if narrow:
            for k in range(end):
                powers[k] = math.exp(scaled[k] - middle)
        before, again = total, True
        full[:] = False
        while again:  # a second time where a list is found to be full, which is rare
            total, moved[:end], held[:] = before, 0, 0
            for p in range(many):
                if not narrow:
                    for k in range(end):
                        powers[k] = math.exp(scaled[k] - scaled[p])
                over = 1 / powers[p] if narrow else 1.0
                closer = _logistics(powers[:many], over, logistics[:many]) - 0.5
                wrong = _logistics(powers[many:end], over, logistics[many:end]) + below
                rank = 1 + closer + wrong
                if len(ks):
                    weight, top, slope = _of_recall(rank, many, ks, widths, held, full)
                    by_closer = by_wrong = slope
                else:
                    among = many if mean else 1
                    weight, top, by_closer, by_wrong = _of_rank(closer, wrong, rank, among, seed)
                total += weight * top
                mine = _slopes(by_closer, logistics[:many], moved[:many])
                mine += _slopes(by_wrong, logistics[many:end], moved[many:end])
                moved[p] += mine
            again = False
            for k in range(len(ks)):
                again |= held[k] > ks[k] and not full[k]
                full[k] |= held[k] > ks[k]
        for k in range(end):
            slopes[a, columns[k]] = moved[k] / tau
    hidden, counted = _poison(distances, most), max(counted, 1)
    slopes /= counted
    slopes += hidden
    return total / counted + hidden


@compiled
def _of_rank(
    closer: float, wrong: float, rank: float, among: int, seed: bool
) -> tuple[float, float, float, float]:
    """A positive's part of its anchor's Smooth-AP loss, in two factors, and its slopes by Sp, Sn.

    With R = 1 + Sp + Sn, the quotient rule gives

        "paper", Sn / R:        d/dSn = (1 + Sp) / R^2,  d/dSp = -Sn / R^2
        "seed",  (1 + Sn) / R:  d/dSn = Sp / R^2,        d/dSp = -(1 + Sn) / R^2

    all over how many positives it is one `among`: 1 for a sum of them.
    """
    top, by_wrong = (1 + wrong, closer) if seed else (wrong, 1 + closer)
    weight = 1 / (rank * among)
    steep = weight / rank
    return weight, top, -steep * top, steep * by_wrong


@compiled
def _of_recall(
    rank: float,
    many: int,
    ks: np.ndarray,
    widths: np.ndarray,
    held: np.ndarray,
    full: np.ndarray,
) -> tuple[float, float, float]:
    """A positive's part of its anchor's recall@k loss, in two factors, and its slope by R.

    Adds what each list holds of it to `held`. A list that is full, as it holds more than k, has
    recall 1.
    """
    missed = slope = 0.0
    for i in range(len(ks)):
        inside = 1 / (1 + math.exp(min((rank - ks[i]) / widths[i], LARGEST_EXPONENT)))
        held[i] += inside
        if not full[i]:
            share = 1 / min(ks[i], many)
            missed += 1 / many - share * inside
            slope += share * inside * (1 - inside) / widths[i]
    weight = 1 / len(ks)
    return weight, missed, weight * slope


@compiled
def _logistics(powers: np.ndarray, over: float, logistics: np.ndarray) -> float:
    """1 / (1 + powers * over), and their sum."""
    total = 0.0
    for k in range(len(powers)):
        logistic = 1 / (1 + powers[k] * over)
        logistics[k] = logistic
        total += logistic
    return total


@compiled
def _slopes(weight: float, logistics: np.ndarray, moved: np.ndarray) -> float:
    """The sum of weight * logistic * (1 - logistic), each taken off its place in `moved`."""
    total = 0.0
    for k in range(len(logistics)):
        slope = weight * logistics[k] * (1 - logistics[k])
        moved[k] -= slope
        total += slope
    return total


@compiled
def _triplet(
    distances: np.ndarray,
    labels: np.ndarray,
    slopes: np.ndarray,
    most: float,
    margin: float,
    mean: bool,
) -> float:
    """The loss; writes the slopes, given as 0.

    With d_p + margin sorted, a negative's hinges are those from some place on, found by bisection,
    and sum to (sum of those) - (how many) d_n: O((P + N) log P) an anchor instead of P N. Sums are
    in float64, as differences of long sums lose digits.
    """
    anchors, batch = distances.shape
    positives, negatives = np.empty(batch, np.int64), np.empty(batch, np.int64)
    total, violating, counted = 0.0, 0, 0
    for a in range(anchors):
        many = _of_class(labels, a, True, positives)
        others = _of_class(labels, a, False, negatives)
        if many == 0 or others == 0:
            continue
        counted += 1
        near = np.empty(many)
        for k in range(many):
            near[k] = distances[a, positives[k]] + margin
        order = np.argsort(near)
        near = near[order]
        sums = np.zeros(many + 1)
        starts = np.zeros(many + 1, np.int64)  # negatives whose hinges begin at each place
        for k in range(many - 1, -1, -1):
            sums[k] = sums[k + 1] + near[k]
        for k in range(others):
            d = distances[a, negatives[k]]
            place = np.searchsorted(near, d, side="right")
            violations = many - place
            starts[place] += 1
            total += sums[place] - violations * d
            violating += violations
            slopes[a, negatives[k]] = -violations
        begun = 0
        for k in range(many):
            begun += starts[k]
            slopes[a, positives[order[k]]] = begun
    hidden, averaged = _poison(distances, most), max(violating if mean else counted, 1)
    slopes /= averaged
    slopes += hidden
    return total / averaged + hidden
