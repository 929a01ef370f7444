"""Figures, a file a family."""
