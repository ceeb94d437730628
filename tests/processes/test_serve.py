"""`manage.py serve`: one line when it cannot start, a clean end when it is told to stop."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from quantized.devstack.places import CHECKOUT
from quantized.devstack.processes import HOST, free_port, listens

READY_WITHIN_S = 30.0


def serve(*arguments: str, env: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, CHECKOUT / "manage.py", "serve", *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def served(port: int, workers: int, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with serve("--port", str(port), "--workers", str(workers), env=env) as process:
        try:
            deadline = time.monotonic() + READY_WITHIN_S
            while not is_alive(port) and time.monotonic() < deadline:
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def is_alive(port: int) -> bool:
    return listens(port) and requests.get(f"http://{HOST}:{port}/healthz", timeout=10).ok


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serve("--port", str(port), env=dict(os.environ)) as process:
            said = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert said.startswith(f"CommandError: cannot listen on {HOST}:{port}: ")
    assert said.count("\n") == 1


def test_without_a_database_it_does_not_start() -> None:
    env = {**os.environ, "DATABASE_URL": "postgres://quantized@/quantized?host=/nowhere"}
    with serve("--port", str(free_port()), env=env) as process:
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert said.endswith("CommandError: the server could not start, see above\n")
    assert "Traceback" not in said


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_told_to_stop_it_ends_well(
    workers: int, stop_signal: signal.Signals, process_environment: dict[str, str]
) -> None:
    port = free_port()
    with served(port, workers, process_environment) as process:
        answer = requests.get(f"http://{HOST}:{port}/healthz", timeout=10)
        process.send_signal(stop_signal)
        said = process.communicate(timeout=30)[1]
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert process.returncode == 0
    assert "Traceback" not in said
    assert not listens(port)
