"""A page to play on: choose a degradation, watch the search, compare results."""
