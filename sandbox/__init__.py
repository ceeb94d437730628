"""The sandbox upstream: a real HTTP server on loopback that speaks its providers' wire formats.

It serves tests, benchmarks and demos through the production adapters, so everything between the
gateway's door and the provider's socket is the same code there as in production. Pure ASGI: it
needs neither Django's settings nor a database. docs/sandbox.md lists what it can be told.
"""
