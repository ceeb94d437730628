"""Child processes: each has a name, a log, a process group of its own and a signal that stops it."""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quantized.devstack.errors import StackError
from quantized.devstack.guard import Guard, signal_group

STOP_GRACE_S = 12.0
LOG_TAIL_LINES = 12


class Process(NamedTuple):
    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals

    def has_ended(self) -> bool:
        return self.popen.poll() is not None

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


class Processes:
    """Everything one run started. Stopping goes backwards, so that nobody loses a server it is still using."""

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._guard = Guard()
        self._running: list[Process] = []

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        **options: Any,
    ) -> Process:
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        process = Process(name, popen, log, stop_signal)
        self._running.append(process)
        self._guard.watch(popen.pid, stop_signal)
        return process

    def ended(self) -> Process | None:
        """The first process that ended although nobody asked it to."""
        return next((process for process in self._running if process.has_ended()), None)

    def stop(self, process: Process) -> None:
        signal_group(process.popen.pid, process.stop_signal)
        try:
            process.popen.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            signal_group(process.popen.pid, signal.SIGKILL)
            process.popen.wait()
        signal_group(process.popen.pid, signal.SIGKILL)  # a grandchild that outlived its parent
        self._running.remove(process)
        self._guard.release(process.popen.pid)

    def stop_all(self) -> None:
        for process in reversed(self._running.copy()):
            self.stop(process)
        self._guard.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(f"port {port} cannot be used ({error.strerror}): choose another with PORT=8001") from None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_of(pid: int) -> str:
    """The command line of a process, "" if there is none: a pid alone proves nothing, pids are used again."""
    entry = Path(f"/proc/{pid}/cmdline")
    if entry.parent.parent.joinpath("self").exists():
        return entry.read_bytes().replace(b"\0", b" ").decode(errors="replace") if entry.exists() else ""
    answer = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return answer.stdout.strip()
