"""`make run` and `make smoke`, whole: processes, sockets, signals, and money at the end."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from django.core.management import call_command

from accounts.models import ApiKey, User
from accounts.services import revoke_key
from billing.models import Entry
from quantized.devstack.environment import read_env
from quantized.devstack.errors import StackError
from quantized.devstack.places import CHECKOUT, socket_directory
from quantized.devstack.processes import free_port, listens
from quantized.devstack.proof import prove_charge
from quantized.devstack.report import curl_line

READY_WITHIN_S = 60.0
GIVEN = (
    *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "KEY_PEPPER", "OPENROUTER_API_KEY", "OPENROUTER_BASE_URL"),
    *("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
)
RUN = (
    "import sys; from pathlib import Path; from quantized.devstack import __main__ as it; it.VAR = Path(sys.argv[1]); "
)


def start(verb: str, var: Path, port: int) -> subprocess.Popen[str]:
    """What the Makefile starts, with its data elsewhere, and without the servers of this suite."""
    env = {name: value for name, value in os.environ.items() if name not in GIVEN} | {"PORT": str(port)}
    command = [sys.executable, "-c", f"{RUN} sys.exit(it.main([{verb!r}]))", str(var)]
    return subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    assert process.stdout
    lines: list[str] = []
    deadline = time.monotonic() + READY_WITHIN_S
    while words not in "".join(lines[-1:]) and time.monotonic() < deadline and process.poll() is None:
        lines.append(process.stdout.readline())
    return lines


def value(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.strip().startswith(name)).split(name)[1].strip()


def test_smoke_proves_one_charge_and_leaves_nothing_running(tmp_path: Path) -> None:
    port = free_port()
    with start("smoke", tmp_path, port) as process:
        said, complaints = process.communicate(timeout=READY_WITHIN_S)
    lines = said.splitlines()
    assert (process.returncode, complaints) == (0, "")
    assert value(lines, "answer ") == "The capital of France is Paris."
    assert value(lines, "credits_used") == "2400 micro-credits"
    assert value(lines, "credits_remaining") == "997600 micro-credits"
    assert lines[-1] == "Answered, charged, and the ledger verifies (2 entries)."
    assert not listens(port)
    assert not socket_directory(tmp_path / "smoke").exists()


@pytest.mark.timeout(300)  # two whole stacks, one after the other
def test_run_serves_until_it_is_told_to_stop_or_a_process_dies_and_keeps_its_data(tmp_path: Path) -> None:
    """The second run on the same data is ended by the death of its database: it ends all, and names what died."""
    first, code, complaints = run_once(tmp_path, stop)
    assert (code, complaints) == (0, "")
    second, code, complaints = run_once(tmp_path, kill_the_database)
    assert code == 1
    assert complaints.startswith(f"quantized: postgres ended (code -9), see {tmp_path}/log/postgres.log:\n")
    kept = ("API key", "Operator", "Owner of Acme")
    assert [value(first, name) for name in kept] == [value(second, name) for name in kept]
    # Each run sends one completion and run_once another one, 2,400 micro-credits each.
    assert value(first, "credits_remaining") == "997600 micro-credits"
    assert value(second, "credits_remaining") == "992800 micro-credits"


def run_once(var: Path, end: Callable[[Path, subprocess.Popen[str]], None]) -> tuple[list[str], int | None, str]:
    """What it said, its exit code, and its complaints."""
    port = free_port()
    with start("run", var, port) as process:
        try:
            lines = read_until(process, "Ctrl-C")
            curl = shlex.split(next(line for line in lines if line.startswith("curl ")))
            answer = requests.post(curl[1], data=curl[-1], headers=headers_of(curl), timeout=30)
            assert answer.json()["usage"]["credits_used"] == 2400
            assert manage(var, "verifyledger")["violations"] == []
            end(var, process)
            complaints = process.communicate(timeout=READY_WITHIN_S)[1]
        finally:
            if process.poll() is None:
                process.terminate()
    assert not listens(port)
    return lines, process.returncode, complaints


def stop(var: Path, run: subprocess.Popen[str]) -> None:
    run.send_signal(signal.SIGTERM)


def kill_the_database(var: Path, run: subprocess.Popen[str]) -> None:
    os.kill(int((var / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)


def headers_of(curl: list[str]) -> dict[str, str]:
    given = [curl[place + 1] for place, part in enumerate(curl) if part == "-H"]
    return dict(header.split(": ", 1) for header in given)


def manage(var: Path, command: str) -> dict[str, Any]:
    env = {**os.environ, **read_env(var / "run.env")}
    answer = subprocess.run(
        [sys.executable, CHECKOUT / "manage.py", command, "--json"], env=env, capture_output=True, check=True
    )
    return dict(json.loads(answer.stdout))


# --- The database is brought up to date ----------------------------------------------------------------


@pytest.fixture
def prepare(db: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def run(api_key: str = "", password: str = "first") -> str:
        log_ins = {name: {"email": f"{name}@example.com", "password": password} for name in ("operator", "owner")}
        given = json.dumps({**log_ins, "api_key": api_key}).encode()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        answer = io.StringIO()
        call_command("prepare", json=True, stdout=answer)
        return str(json.loads(answer.getvalue())["api_key"])

    return run


def test_prepare_makes_an_operator_and_a_tenant_once(prepare: Callable[..., str]) -> None:
    api_key = prepare()
    assert prepare(api_key) == api_key
    operator = User.objects.get(email="operator@example.com")
    assert (operator.is_superuser, operator.is_staff, operator.check_password("first")) == (True, True, True)
    assert ApiKey.objects.count() == 1
    assert [entry.amount for entry in Entry.objects.all()] == [1_000_000]


def test_prepare_replaces_a_key_that_no_longer_works(prepare: Callable[..., str]) -> None:
    api_key = prepare()
    revoke_key(ApiKey.objects.get().pk)
    other_key = prepare(api_key)
    assert other_key != api_key
    assert prepare(other_key) == other_key


def test_prepare_lets_in_who_is_told_the_password(prepare: Callable[..., str]) -> None:
    prepare()
    prepare(password="second")
    assert all(user.check_password("second") for user in User.objects.all())


# --- The proof -----------------------------------------------------------------------------------------


def test_an_answer_that_was_not_charged_is_no_proof() -> None:
    with pytest.raises(StackError, match="answered but not charged: credits_used is 0"):
        prove_charge("unused", {"id": "gen-1", "usage": {"credits_used": 0, "credits_remaining": 1}})


def test_an_answer_that_differs_from_the_ledger_is_no_proof(process_environment: dict[str, str]) -> None:
    completion = {"id": f"gen-{uuid4().hex}", "usage": {"credits_used": 2400, "credits_remaining": 997600}}
    with pytest.raises(StackError, match=r"says 2400 taken and 997600 left, the ledger says \[\]"):
        prove_charge(process_environment["DATABASE_URL"], completion)


def test_the_curl_line_survives_the_shell() -> None:
    request = {"messages": [{"role": "user", "content": 'What\'s "this" $HOME?'}]}
    words = shlex.split(curl_line("http://127.0.0.1:8000", "sk-quantized-x", request))
    assert words[:2] == ["curl", "http://127.0.0.1:8000/v1/chat/completions"]
    assert "Authorization: Bearer sk-quantized-x" in words
    assert json.loads(words[-1]) == request
