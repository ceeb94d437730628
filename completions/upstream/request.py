from msgspec import Struct


class UpstreamRequest(Struct, frozen=True):
    """A POST to `base_url + path`."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
