"""`manage.py sandbox`: a process of its own, one line when it is ready, gone when told."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from django.core.management import CommandError, call_command

from tests.kit import CHECKOUT, MODEL
from tests.kit.sandbox import chat

AUTHORIZED = {"authorization": "Bearer sk-or-test"}


@contextmanager
def running(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "manage.py", "sandbox", *options]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=10)


def test_it_serves_the_catalogs_models_and_says_where() -> None:
    with running("--port", "0", "--json", "--default", "tokens=20") as process:
        told = json.loads(process.stdout.readline())
        answer = httpx.post(f"{told['base_url']}/chat/completions", json=chat(), headers=AUTHORIZED).json()
        models = httpx.get(f"{told['base_url']}/models").json()["data"]
        claudes = httpx.get(f"{told['anthropic_base_url']}/v1/models", headers={"x-api-key": "k"}).json()["data"]
        assert httpx.get(told["calls"]).json()["counters"]["finished"] == 1
    assert claudes[0]["id"] == "claude-haiku-5-5"
    assert answer["usage"]["completion_tokens"] == 20
    assert MODEL in {model["id"] for model in models}


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_says_one_line_and_ends_when_told(told: signal.Signals) -> None:
    with running("--port", "0") as process:
        line = process.stdout.readline()
        process.send_signal(told)
        rest, errors = process.communicate(timeout=10)
    assert re.fullmatch(
        r"sandbox upstream ready at http://127\.0\.0\.1:\d+/api/v1, as Anthropic at http://127\.0\.0\.1:\d+ "
        r"\(calls: http://127\.0\.0\.1:\d+/_sandbox/calls\)\n",
        line,
    )
    assert (rest, errors, process.returncode) == ("", "", 0)


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with running("--port", port) as process:
            out, errors = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert errors == f"CommandError: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_default_that_cannot_be_read_is_one_clear_line() -> None:
    with pytest.raises(CommandError) as refused:
        call_command("sandbox", "--port", "0", "--default", "speed=9")
    assert str(refused.value) == "--default: Object contains unknown field `speed`"


def test_the_application_needs_no_settings_and_no_database() -> None:
    code = (
        "import sys\n"
        "from sandbox.app import make_app\n"
        "from sandbox import cards, server\n"
        "make_app()\n"
        "assert 'django' not in sys.modules, 'django was imported'\n"
    )
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
