"""What is varied, and how the next trial is chosen."""
