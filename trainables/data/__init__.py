"""Data by name or path: who trains, who judges, who is retrieved.

    dataset = resolve("photos/", Asked(input=network.input))
    dataset.split()                      # what a study may read
    dataset.test(reading)                # the test images, with a line of the ledger

`tables` turn a folder, a CSV or an unpacked benchmark into one table; `protocols` say which of its
rows train and which judge; `pixels` decode them once. `python -m trainables.data` says where
Fashion-MNIST is, downloading it if need be; `python -m trainables.data PATH` prints the data card
of one's own pictures.

To add a data set that is known by its name is to write one file here: a module with

    NAME = "its_name"
    open_data(asked: Asked) -> Dataset
"""

from __future__ import annotations

from trainables.data.entry import Asked, Dataset
from trainables.data.errors import DataError
from trainables.data.images import JudgedImages, LabelledImages, Roles, Split
from trainables.data.names import resolve

__all__ = [
    "Asked",
    "DataError",
    "Dataset",
    "JudgedImages",
    "LabelledImages",
    "Roles",
    "Split",
    "resolve",
]
