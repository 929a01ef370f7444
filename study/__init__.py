"""Search space → trials → chosen configurations."""
