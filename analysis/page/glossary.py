"""What the words of a report mean: the heads of its tables, and the knobs."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.found.words import words

# A head of a table that says too little by itself.
HEADS = {
    "trial": "the loss that was searched for, and the trial's number in that search",
    "follows": "the trial whose configuration it has, for more epochs or on a fresh seed",
    "configurations": "trials that each began one; the others go on with it, or repeat it",
    "epochs": "how many were trained: of the number asked for, unless the trial ended early",
    "seconds": "of training and evaluation, summed over trials that ran side by side",
    "configuration": "chosen by the search, or the seed study's, which is the reference",
    "protocol": "which images are queries and which are searched, as said above",
    "runs": "trainings from different seeds, of the configuration that each search chose",
    "confirming runs": "trainings of the chosen and the reference configuration from fresh seeds",
    "corrected p": "of no difference, corrected for the number of pairs; small: a difference",
    "P(first above second)": "how often the first has the higher mAP, over all pairs of runs (of "
    "searches, each the mean of its runs, where the search was repeated)",
    "smallest that could be shown": "the true difference that 80 % of such designs would show",
    "verdict": "shown, equivalent (within the margin), or not resolved by this design",
    "default": "the value that the search begins with",
    "used by": "the losses or optimizers that have this knob",
}

# The signs in the formulas of `trainables.metrics.METRICS`, each of which is of one query.
RANKING = {
    "R": "how many images are relevant to the query, which are those of its class",
    "G": "how many images are ranked",
    "rel(i)": "1 if the image at rank i is relevant, else 0",
    "P(i)": "1/i Σ_{j≤i} rel(j), the precision at rank i; each metric is the mean over the queries "
    "that have a relevant image",
}

# A knob, by the field that it sets, or by its name where its values are not the field's.
KNOBS = {
    "optimizer": "the rule by which the weights are changed",
    "lr": "the size of a step of the optimizer",
    "lr_factor": "the learning rate, as a multiple of the usual one for optimizer and batch",
    "momentum": "how much of the step before is kept in the next one",
    "weight_decay": "how strongly the weights are drawn to zero",
    "batch_size": "training images in a step",
    "per_class": "how many images of a class a batch has; none: images in random order",
    "schedule": "whether the learning rate stays or falls to 0 along a cosine",
    "warmup": "the share of all steps over which the learning rate first rises",
    "averaging": "how much of the averaged weights is kept in a step; 0: no averaging",
    "flip": "training images are mirrored at random",
    "shift": "by up to how many pixels training images are moved at random",
    "crop": "the least share of a training image's area that a random part has, which is scaled to "
    "the network's size; none: the centre is taken",
    "jitter": "by up to which share brightness, contrast and saturation are changed at random",
    "embedding_dim": "the numbers of an embedding, by a linear head; none: the network's own",
    "head_lr": "of the linear head, as a multiple of the learning rate",
    "teacher_weight": "of what a teacher says of the images' similarities, beside the loss",
    "loss_lr": "of the loss's own weights, as a multiple of the learning rate",
    "erase": "the side of a square, in pixels, that is blanked at random in training images",
    "temperature": "divides the cosines: the smaller, the sharper",
    "label_smoothing": "the share of the target that is spread over all classes",
    "anchors": "the images of a batch that the others are ranked for",
    "margin": "by how much farther another class must be: of triplet, in squared distance",
    "reduction": "how the triplets of a batch become one number",
    "tau": "how soft the ranking is, in squared distance; the smaller, the closer to true AP",
    "numerator": "of Smooth-AP's fraction: of the paper, or of the seed study",
}


# Of a knob of a library's loss, whose unit the knob says.
THEIRS = "an argument of its library's loss, {unit}"


def scored(name: str) -> Mapping[str, str]:
    """What the heads of a table mean in which trials are chosen by a metric, `validation mAP`."""
    return {name: "of the trial's best epoch", "best epoch": f"the epoch of the highest {name}"}


MEANINGS = {words(field): meaning for field, meaning in KNOBS.items()} | HEADS
