"""`make run` and `make smoke`: the whole product on one machine, shown to work by one completion."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import requests

from quantized.devstack.environment import kept_values, write_env
from quantized.devstack.errors import StackError
from quantized.devstack.lock import only_one
from quantized.devstack.places import CHECKOUT, remove_sockets
from quantized.devstack.processes import HOST, Processes, free_port, listens, require_free
from quantized.devstack.proof import prove_books, prove_charge
from quantized.devstack.report import LogIns, say, tell_completion, tell_places
from quantized.devstack.servers import start_servers

WATCH_PAUSE_S = 0.5
ANSWER_TIMEOUT_S = 60.0
MANAGE = (sys.executable, str(CHECKOUT / "manage.py"))
CELERY = (sys.executable, "-m", "celery", "-A", "quantized.celery")
ALONE = ("--without-mingle", "--without-gossip")  # there is no second worker to greet
OPERATOR, OWNER = "operator@example.com", "alice@example.com"
QUESTION = "What is the capital of France?"
REQUEST = {
    "model": "openai/gpt-4.1-mini",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": QUESTION},
    ],
    "max_tokens": 128,
    "temperature": 0.7,
}


class Stack(NamedTuple):
    """`root` keeps everything of this stack; `env` is what its processes are told."""

    root: Path
    url: str
    env: Mapping[str, str]
    log_ins: LogIns
    processes: Processes


def serve(root: Path, port: int) -> None:
    """`make run`: until Ctrl-C, or until a process ends that should not."""
    with running_stack(root, port) as stack:
        try:
            tell_completion(QUESTION, ask(stack))
        except StackError as error:  # a provider's trouble, or credits used up: nothing one could mend while stopped
            say(f"\nThe first completion failed: {error}")
        tell_places(stack.url, stack.log_ins, REQUEST)
        say("Ctrl-C stops everything. Logs are in var/log/, e-mails (with the codes to sign up) in var/mail/.")
        watch(stack.processes)


def smoke(root: Path, port: int) -> None:
    """`make smoke`: a new stack, one completion, the proof, and everything is gone again."""
    with running_stack(root, port, afresh=True) as stack:
        completion = ask(stack)
        tell_completion(QUESTION, completion)
        prove_charge(stack.env["DATABASE_URL"], completion)
        entries = prove_books(stack.env)
        say(f"\nAnswered, charged, and the ledger verifies ({entries} entries).")


@contextmanager
def running_stack(root: Path, port: int, *, afresh: bool = False) -> Iterator[Stack]:
    url = f"http://{HOST}:{port}"
    with only_one(root, os.getpid(), url) as lock_fd:
        require_free(port)
        if afresh:
            remove_data(root)
        processes = Processes(root / "log", held_fds=(lock_fd,))
        started_s = time.monotonic()
        say("Starting database, queue, provider, web, worker and beat ...")
        try:
            stack = start(root, url, port, processes)
            say(f"Running at {url} after {time.monotonic() - started_s:.1f} s")
            yield stack
        finally:
            processes.stop_all()
            remove_sockets(root)


def remove_data(root: Path) -> None:
    """Everything but the lock, which is held."""
    for name in ("postgres", "redis", "spool", "mail"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "run.env").unlink(missing_ok=True)


def start(root: Path, url: str, port: int, processes: Processes) -> Stack:
    kept = kept_values(root / "run.env", os.environ)
    settings = kept | {"PUBLIC_URL": url, "SPOOL_DIR": str(root / "spool")}
    settings |= {"EMAIL_URL": os.environ.get("EMAIL_URL") or f"filemail:///{root / 'mail'}"}
    settings |= start_servers(root, processes, os.environ, durable=True)
    settings |= start_upstream(processes, settings)
    write_env(root / "run.env", settings)
    env = child_environment(settings)
    api_key = prepare(env, kept)
    write_env(root / "run.env", settings | {"API_KEY": api_key})
    start_product(root, port, env, processes)
    log_ins = LogIns(OPERATOR, kept["OPERATOR_PASSWORD"], OWNER, kept["OWNER_PASSWORD"], api_key)
    return Stack(root, url, env, log_ins, processes)


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Open streams may not hold up Ctrl-C for as long as they may hold up a deployment."""
    told = {"DJANGO_SETTINGS_MODULE": "quantized.settings", "PYTHONUNBUFFERED": "1", "SHUTDOWN_GRACE_S": "3"}
    return {"EMAIL_URL": "consolemail://", **os.environ, **told, **settings}


def start_upstream(processes: Processes, settings: Mapping[str, str]) -> dict[str, str]:
    """The real provider if there is a key for it, the sandbox otherwise. A real key is not copied to the disk.
    Beside a real OpenRouter nothing is played: its models must not fall over to made-up answers."""
    given = {name: os.environ[name] for name in ("OPENROUTER_BASE_URL", "ANTHROPIC_BASE_URL") if os.environ.get(name)}
    if os.environ.get("OPENROUTER_API_KEY"):
        return given
    port = free_port()
    command = [*MANAGE, "sandbox", "--port", str(port)]
    processes.start("sandbox", command, env=child_environment(settings), ready=lambda log: listens(port))
    played = {"OPENROUTER_API_KEY": "sandbox", "OPENROUTER_BASE_URL": f"http://{HOST}:{port}/api/v1"}
    if not os.environ.get("ANTHROPIC_API_KEY"):
        played |= {"ANTHROPIC_API_KEY": "sandbox", "ANTHROPIC_BASE_URL": f"http://{HOST}:{port}"}
    return given | played


def prepare(env: Mapping[str, str], kept: Mapping[str, str]) -> str:
    """Migrations, catalog, operator and tenant; the tenant's API key. Log-ins go by standard input: a command line
    can be read by everybody on the machine."""
    wanted = {
        "operator": {"email": OPERATOR, "password": kept["OPERATOR_PASSWORD"]},
        "owner": {"email": OWNER, "password": kept["OWNER_PASSWORD"]},
        "api_key": kept.get("API_KEY", ""),
    }
    command = [*MANAGE, "prepare", "--json"]
    answer = subprocess.run(command, check=False, env=env, input=json.dumps(wanted), capture_output=True, text=True)
    if answer.returncode != 0:
        said = answer.stderr.strip().removeprefix("CommandError: ")
        raise StackError(f"the database could not be prepared: {said}")
    return str(json.loads(answer.stdout)["api_key"])


def start_product(root: Path, port: int, env: Mapping[str, str], processes: Processes) -> None:
    worker = [*CELERY, "worker", "--loglevel", "INFO", "--concurrency", "1", *ALONE]
    beat = [*CELERY, "beat", "--loglevel", "INFO", "--schedule", str(root / "beat")]
    ready_url = f"http://{HOST}:{port}/readyz"
    processes.start("web", [*MANAGE, "serve", "--port", str(port)], env=env, ready=lambda log: answers(ready_url))
    processes.start("worker", worker, env=env, ready=lambda log: "ready." in log.read_text())
    processes.start("beat", beat, env=env, ready=lambda log: "beat: Starting" in log.read_text())
    processes.await_ready()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=ANSWER_TIMEOUT_S).ok
    except requests.ConnectionError:
        return False


def ask(stack: Stack) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {stack.log_ins.api_key}"}
    url = f"{stack.url}/v1/chat/completions"
    try:
        answer = requests.post(url, json=REQUEST, headers=headers, timeout=ANSWER_TIMEOUT_S)
    except requests.RequestException as error:
        raise StackError(f"no answer from {url}: {error}") from error
    try:
        completion: dict[str, Any] = answer.json()
    except requests.JSONDecodeError:
        completion = {}
    if not answer.ok or "usage" not in completion:
        raise StackError(f"{url} answered {answer.status_code}: {answer.text}")
    return completion


def watch(processes: Processes) -> None:
    """Also ends when whoever started us was killed, so that nothing is left holding the port."""
    parent_pid = os.getppid()
    while os.getppid() == parent_pid:
        processes.require_alive()
        time.sleep(WATCH_PAUSE_S)
