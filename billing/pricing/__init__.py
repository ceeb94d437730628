"""Prices: the classes that providers bill apart, and usage × price in integers."""
