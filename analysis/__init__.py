"""A finished study → tables, figures, one report."""
