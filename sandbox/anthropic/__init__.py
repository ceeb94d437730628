"""Anthropic's Messages API, strictly: requests in, answers out, and the ways both go wrong.

What the real API refuses is refused in its words, by the model's generation. The rules here are written
from its documentation and apart from the catalog's, so that the two can be held against each other.
"""
