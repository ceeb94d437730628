"""Ends what a run started even when the run itself is killed.

A process of its own reads lines "watch PID SIGNAL" and "release PID" from a pipe that only the run holds. The end of
the pipe is the end of the run, whatever ended it: every process group still watched is then sent its signal and,
after a bounded wait, SIGKILL. No pid file, so no stale one.
"""

import os
import signal
import subprocess
import sys
import time

GRACE_S = 15.0
PAUSE_S = 0.05


class Guard:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
        )

    def watch(self, pid: int, stop_signal: int) -> None:
        self._tell(f"watch {pid} {int(stop_signal)}")

    def release(self, pid: int) -> None:
        self._tell(f"release {pid}")

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(GRACE_S * 2)

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()


def signal_group(pid: int, number: int) -> bool:
    """Whether the group that `pid` leads was still there to be signalled."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_groups(watched: dict[int, int]) -> None:
    deadline = time.monotonic() + GRACE_S
    alive = [pid for pid, number in reversed(watched.items()) if signal_group(pid, number)]
    while alive and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        alive = [pid for pid in alive if signal_group(pid, 0)]
    for pid in alive:
        signal_group(pid, signal.SIGKILL)


def main() -> None:
    watched: dict[int, int] = {}
    for line in sys.stdin:
        verb, pid, *number = line.split()
        if verb == "watch":
            watched[int(pid)] = int(number[0])
        else:
            watched.pop(int(pid), None)
    end_groups(watched)


if __name__ == "__main__":
    main()
