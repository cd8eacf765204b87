"""Tapes: the canonical Parquet form of a recorded day; ``schema`` names the columns."""
