"""Kinds of providers: kinds.py has the table, each kind a folder or file of its own."""
