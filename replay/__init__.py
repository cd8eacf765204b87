"""Historical replay of crypto perpetual futures: exact books, exchange rules as configuration."""

__version__ = "0.1.0"
