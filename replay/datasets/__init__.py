"""Days that can be replayed: where their data is, what they hold, and what is known of them."""

from replay.datasets.facts import Compared, compare
from replay.datasets.fetch import fetch
from replay.datasets.registry import Dataset, Fact, Source, dataset, list_datasets

__all__ = ["Compared", "Dataset", "Fact", "Source", "compare", "dataset", "fetch", "list_datasets"]
