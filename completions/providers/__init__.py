"""Kinds of providers: record.py says what one is, kinds.py lists them, each is a folder of its own."""
