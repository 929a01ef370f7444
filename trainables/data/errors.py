"""What is wrong with data, as one error that every reader of data raises."""

from __future__ import annotations


class DataError(ValueError):
    """Data that is missing, damaged, foreign, or may not be read; the message names the remedy."""
