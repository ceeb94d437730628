"""OpenRouter's wire format, strictly: requests in, answers out, and the ways both go wrong. Pure.

The shapes are those recorded in 2026; comments name what differs between years and providers.
"""
