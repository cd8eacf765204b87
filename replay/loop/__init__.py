"""The replay loop: compiled kernels advance the state by steps, plain functions decide on batches of forced orders."""
