"""Runs: the tables and manifest a replay writes, and the SQL that questions them."""
