"""The ranking losses of a matrix of distances: compiled loops for a CPU, blocks for a GPU."""
