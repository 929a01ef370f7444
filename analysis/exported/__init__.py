"""A trained network in files that need nothing of this project."""
