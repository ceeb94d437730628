"""The HTTP API under /v1: the one view of calls, and the endpoints beside it."""
