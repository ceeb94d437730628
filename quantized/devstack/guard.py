"""Ends what a run started even when the run itself is killed.

A process of its own reads lines "watch PID SIGNAL" and "release PID" from a pipe that only the run holds. The end of
the pipe is the end of the run, whatever ended it: every process still watched is then sent its signal and, after a
bounded wait, its whole group SIGKILL. There is no pid file, so there is no stale one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

GRACE_S = 15.0
PAUSE_S = 0.05


class Guard:
    def __init__(self, held_fds: Sequence[int] = ()) -> None:
        """`held_fds` (the run's lock) stay open until the last process has ended."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            pass_fds=held_fds,
            start_new_session=True,
            cwd="/",
        )

    def watch(self, pid: int, stop_signal: int) -> None:
        self._tell(f"watch {pid} {int(stop_signal)}")

    def release(self, pid: int) -> None:
        self._tell(f"release {pid}")

    def close(self) -> None:
        self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        # A run whose guard was killed goes on, and still ends its processes itself.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def send(how: Callable[[int, int], None], pid: int, number: int) -> bool:
    """By os.kill or os.killpg; whether there was still somebody to send it to."""
    try:
        how(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says "not permitted" of a zombie
        return False
    return True


def end_all(watched: dict[int, int]) -> None:
    """The polite signal goes to the leader of each group, who tells its children himself; what is left after that,
    or after the wait, is killed."""
    deadline = time.monotonic() + GRACE_S
    for pid, stop_signal in reversed(watched.items()):
        send(os.kill, pid, stop_signal)
    while any(send(os.kill, pid, 0) for pid in watched) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    for pid in watched:
        send(os.killpg, pid, signal.SIGKILL)


def main() -> None:
    watched: dict[int, int] = {}
    for line in sys.stdin:
        verb, pid, *stop_signal = line.split()
        if verb == "watch":
            watched[int(pid)] = int(stop_signal[0])
        else:
            watched.pop(int(pid), None)
    end_all(watched)


if __name__ == "__main__":
    main()
