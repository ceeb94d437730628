"""Whether all is well: the verifier of the books, heartbeats of tasks, and what the operator must be told."""
