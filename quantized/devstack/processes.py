"""Child processes: each has a name, a log, a process group of its own and a signal that stops it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quantized.devstack.errors import StackError
from quantized.devstack.guard import Guard, send

STOP_GRACE_S = 12.0
READY_WITHIN_S = 60.0
PAUSE_S = 0.05
LOG_TAIL_LINES = 12
HOST = "127.0.0.1"


class Process(NamedTuple):
    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals
    ready: Callable[[Path], bool]
    ends_last: bool

    def has_ended(self) -> bool:
        return self.popen.poll() is not None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def log_tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-LOG_TAIL_LINES:])


class Processes:
    """Everything one run started, ended together: whatever happens to the run, none of them outlives it."""

    def __init__(self, logs: Path, held_fds: Sequence[int] = ()) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._guard = Guard(held_fds)
        self._running: list[Process] = []

    @property
    def running(self) -> list[Process]:
        """Those started and not stopped, in order; they may have ended by themselves."""
        return self._running.copy()

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        ready: Callable[[Path], bool] = Path.exists,
        ends_last: bool = False,
        **options: Any,
    ) -> Process:
        """`ready` is asked, with the path of the log, by `await_ready`; what others depend on ends last."""
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
        self._guard.watch(popen.pid, stop_signal)
        process = Process(name, popen, log, stop_signal, ready, ends_last)
        self._running.append(process)
        return process

    def await_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        waiting = self._running.copy()
        while waiting := [process for process in waiting if not process.ready(process.log)]:
            self.require_alive()
            if time.monotonic() > deadline:
                raise StackError(f"{waiting[0].name} is not ready after {READY_WITHIN_S:.0f} s, see {waiting[0].log}")
            time.sleep(PAUSE_S)

    def require_alive(self) -> None:
        """Nobody asked them to end yet; the first one that did is named."""
        for process in self._running:
            if process.has_ended():
                code = process.popen.returncode
                raise StackError(f"{process.name} ended (code {code}), see {process.log}:\n{process.log_tail()}")

    def stop(self, *stopping: Process) -> None:
        """All at once, each in its own way, and within a bounded time."""
        deadline = time.monotonic() + STOP_GRACE_S
        for process in stopping:
            process.popen.send_signal(process.stop_signal)
        for process in stopping:
            self._await_end(process, deadline)
            self._running.remove(process)
            self._guard.release(process.popen.pid)

    def stop_all(self) -> None:
        for last in (False, True):
            self.stop(*(process for process in self._running if process.ends_last is last))
        self._guard.close()

    def _await_end(self, process: Process, deadline: float) -> None:
        try:
            process.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            send(os.killpg, process.popen.pid, signal.SIGKILL)
            process.popen.wait()
        send(os.killpg, process.popen.pid, signal.SIGKILL)  # children that outlived their parent


def free_port() -> int:
    """A port that nobody else is given for a minute, or half of it on macOS: time enough to start a server on it.

    A connection to it is made and ended from the side that listened. While that side waits (TIME_WAIT), the system
    hands the port out to nobody who asks for any, neither to listen nor to connect from; who names it, and sets
    SO_REUSEADDR as servers do, gets it.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, 0))
        listener.listen(1)
        address = listener.getsockname()
        with socket.create_connection(address), listener.accept()[0]:
            return int(address[1])


def require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise StackError(f"port {port} cannot be used ({why}): choose another one, PORT={port + 1}") from None


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


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
    if Path("/proc/self/cmdline").exists():
        entry = Path(f"/proc/{pid}/cmdline")
        return entry.read_bytes().replace(b"\0", b" ").decode(errors="replace") if entry.exists() else ""
    ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(ps, check=False, capture_output=True, text=True).stdout.strip()
