"""One stack per directory: whoever starts a second one learns where the first one is."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from quantized.devstack.errors import StackError
from quantized.devstack.processes import is_alive

ENDING_WITHIN_S = 20.0  # the guard of a run that was killed holds the lock while it ends what is left
PAUSE_S = 0.1


@contextmanager
def only_one(root: Path, pid: int, url: str) -> Iterator[int]:
    """The descriptor of the lock. The system gives it back when the last holder ends: it cannot be stale."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "run.lock").open("a+") as file:
        take(file, time.monotonic() + ENDING_WITHIN_S)
        file.truncate(0)
        file.write(f"{pid} {url}")
        file.flush()
        yield file.fileno()


def take(file: TextIO, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            refuse_if_running(file, deadline)
            time.sleep(PAUSE_S)
        else:
            return


def refuse_if_running(file: TextIO, deadline: float) -> None:
    file.seek(0)
    pid, _, url = file.read().partition(" ")
    if time.monotonic() > deadline or (pid.isdecimal() and is_alive(int(pid))):
        raise StackError(
            f"this checkout is already running at {url} (pid {pid}): use it, or stop it first (Ctrl-C there)"
        )
