"""Measurements, beside the peers and with the books kept. docs/benchmarks.md says what each one means."""
