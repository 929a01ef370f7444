"""A plan becomes trials under Ray, and their records."""
