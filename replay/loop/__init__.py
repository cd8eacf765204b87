"""The replay loop: compiled kernels advance the state, plain functions decide on batches of forced orders."""
