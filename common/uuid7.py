"""UUIDs in the order of time (RFC 9562, version 7): unique without asking the database, and kind to its indexes. Pure
but for the clock and the system's randomness."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """48 bits of Unix time in milliseconds, version and variant, and 74 random bits. Two of the same millisecond are
    in no order."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds << 80) | random
    value = value & ~(0xF << 76) | (7 << 76)
    value = value & ~(0x3 << 62) | (2 << 62)
    return UUID(int=value)
