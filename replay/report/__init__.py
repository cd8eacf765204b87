"""A run as one page: charts and tables in a single HTML file that needs no network."""

from replay.report.page import render

__all__ = ["render"]
