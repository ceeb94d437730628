"""Settlements that could not be written before the process had to go: a local file, replayed at start.

Every line is one command. Replaying is idempotent (a call is charged once, by its id), so a file
that was half replayed, or is replayed by two processes, changes nothing.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from billing.ledger.commands import AnyCommand

logger = logging.getLogger(__name__)

_DECODER = msgspec.json.Decoder(AnyCommand)


class Spool:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, commands: Sequence[AnyCommand]) -> None:
        """Write the commands, or log them: with a full disk, the log is the last place left. Raises nothing."""
        try:
            path = self.write(commands)
        except Exception:
            logger.critical("ledger commands that could not be spooled: %r", commands, exc_info=True)
        else:
            logger.error("%d ledger commands spooled to %s", len(commands), path)

    def write(self, commands: Sequence[AnyCommand]) -> Path:
        """Store the commands durably in a new file and return its path. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{os.getpid()}-{os.urandom(6).hex()}.jsonl"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(b"".join(msgspec.json.encode(command) + b"\n" for command in commands))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        return path

    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*.jsonl"))

    @staticmethod
    def remove(path: Path) -> None:
        path.unlink(missing_ok=True)

    @staticmethod
    def read(path: Path) -> list[AnyCommand]:
        """The commands of a file; none if another process has replayed and removed it meanwhile.

        Raises msgspec.DecodeError, a ValueError, for a file that does not hold commands alone.
        """
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [_DECODER.decode(line) for line in lines]
