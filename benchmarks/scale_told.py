"""What the two halves of `make bench-scale` say to each other."""

import msgspec


class Job(msgspec.Struct):
    owner: str
    api_keys: list[str]


class Page(msgspec.Struct):
    p50_ms: float
    p95_ms: float
    cpu_ms: float  # of the server's process alone: what a busy machine leaves as it is


class Told(msgspec.Struct):
    lookup_p50_ms: float
    lookup_p95_ms: float
    tasks_s: dict[str, float]
    pages: dict[str, Page]
    violations: int
