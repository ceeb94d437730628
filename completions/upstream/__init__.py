"""The gateway's only way out: an HTTP client of its own, and what can go wrong with it."""
