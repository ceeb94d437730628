"""A client's end of the line, without a socket, for whatever speaks to an asyncio transport."""

import asyncio
from typing import Any


class Client(asyncio.Transport):
    """What was written to it, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default
