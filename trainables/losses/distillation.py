"""Distillation: what a teacher says of a batch's similarities, beside any loss."""

from __future__ import annotations

from torch import Tensor

from trainables.retrieval import unit_length


def similarity_loss(features: Tensor, targets: Tensor) -> Tensor:
    """The mean squared difference of the two cosines of each pair of a batch's places; an image
    that stands at two of them is a pair too, whose cosines are 1.

    After Tung and Mori, ICCV 2019, arXiv 1907.09682, whose matrices of similarities are scaled row
    by row; here they are cosines, which is what retrieval ranks by, as in Park et al., CVPR 2019,
    arXiv 1904.05068. The widths of the two may differ.

    Args:
        features: (B, D) of the student, not of unit length; B >= 2.
        targets: (B, T), of unit length: the teacher's embeddings.

    Returns:
        A scalar that backpropagates to the features.
    """
    mine, wanted = unit_length(features), targets.to(features.dtype)
    difference = (mine @ mine.T - wanted @ wanted.T).square()
    count = len(features)
    return (difference.sum() - difference.diagonal().sum()) / (count * (count - 1))
