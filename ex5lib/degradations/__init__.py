"""Degradations: known ones, ones with unknown parameters, and what a degradation hides."""
