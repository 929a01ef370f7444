"""Choices, the final test, and what its numbers say."""
