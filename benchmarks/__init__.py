"""Benchmarks: generated tapes of any size, a pytest-benchmark suite, and runs beside peers."""
