"""Asking providers what they billed: single calls, whole days, and calls that a crash left open."""
