"""Who is measured, how each is installed, started and asked. All stand before the same static upstream.

Peers live in environments of their own under var/peers/ and are installed once. One that cannot be installed or
started is a line of the table that says why.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import load
from benchmarks.stack import MODEL, Server, Stack, Tenant
from benchmarks.upstream import ANSWER
from quantized.devstack.places import CHECKOUT, VAR
from quantized.devstack.processes import HOST, free_port

PEERS = VAR / "peers"
INSTALL_TIMEOUT_S = 900
LITELLM, FERROGW, PORTKEY = "1.108.7", "1.5.10", "1.15.2"
PATH = "/v1/chat/completions"
BODY = (
    b'{"model":"openai/gpt-4.1-mini","messages":[{"role":"system","content":"You are a helpful assistant."},'
    b'{"role":"user","content":"What is the capital of France?"}],"max_tokens":128,"temperature":0.7}'
)
STREAM_BODY = BODY.replace(b'"max_tokens"', b'"stream":true,"max_tokens"')


class NotHere(Exception):
    """Why a contender cannot take part."""


class Running(NamedTuple):
    """Whose processes they are, and the request it is asked."""

    server: Server
    request: load.Request
    more: tuple[load.Request, ...] = ()  # asked in turn with the first, at full load


class Contender(NamedTuple):
    name: str
    start: Callable[[Stack], Running]
    version: Callable[[], str]
    keeps_books: bool = False


def contenders(tenants: Sequence[Tenant]) -> list[Contender]:
    """The first tenant's wallet alone, the worst case; and beside it those of all of them."""
    one, many = tenants[:1], f"Quantized, 2 workers, {len(tenants)} wallets"
    return [
        Contender("Quantized, 1 worker", lambda stack: ours(stack, one, 1), our_version, keeps_books=True),
        Contender("Quantized, 2 workers", lambda stack: ours(stack, one, 2), our_version, keeps_books=True),
        Contender(many, lambda stack: ours(stack, tenants, 2), our_version, keeps_books=True),
        Contender("LiteLLM proxy, 1 worker", litellm, lambda: f"{LITELLM} (PyPI)"),
        Contender("Portkey gateway", portkey, lambda: f"{PORTKEY} (npm), node {told(['node', '--version'])}"),
        Contender("ferrogw", ferrogw, lambda: f"{FERROGW} (PyPI, a Go binary)"),
        Contender("limit: ASGI pass-through", passthrough, lambda: f"uvicorn, {sys.version.split()[0]}"),
        Contender("limit: nginx proxy_pass", nginx, nginx_version),
    ]


def ask(port: int, *headers: tuple[str, str], body: bytes = BODY) -> load.Request:
    return load.post(port, PATH, headers, body, ANSWER.encode())


# --- ours and the limits ------------------------------------------------------------------------


def our_version() -> str:
    return told(["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"])


def ours(stack: Stack, tenants: Sequence[Tenant], workers: int) -> Running:
    server = stack.start_ours(workers)
    first, *more = [ask(server.port, *tenant.headers) for tenant in tenants]
    return Running(server, first, tuple(more))


def passthrough(stack: Stack) -> Running:
    server = stack.start_module("passthrough", "benchmarks.passthrough", "--base-url", upstream_url(stack, "/v1"))
    return Running(server, ask(server.port))


NGINX = """
worker_processes 1;
error_log stderr;
pid {directory}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    upstream provider {{ server 127.0.0.1:{upstream}; keepalive 256; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        keepalive_requests 1000000;
        location / {{
            proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
        }}
    }}
}}
"""


def nginx_program() -> str:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotHere("nginx is not installed (Debian: nginx-light)")
    return found


def nginx_version() -> str:
    return told([nginx_program(), "-v"]).rpartition("/")[2]


def nginx(stack: Stack) -> Running:
    program, port, directory = nginx_program(), free_port(), stack.root / "nginx"
    directory.mkdir(exist_ok=True)
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX.format(directory=directory, upstream=stack.upstream.port, port=port))
    command = [program, "-p", str(directory), "-c", str(configuration), "-g", "daemon off;"]
    return Running(stack.start("nginx", command, port), ask(port))


# --- peers --------------------------------------------------------------------------------------


def litellm(stack: Stack) -> Running:
    directory = install_python("litellm", f"litellm[proxy]=={LITELLM}")
    configuration = stack.root / "litellm.yaml"
    configuration.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n      model: {MODEL}\n"
        f"      api_base: {upstream_url(stack, '/v1')}\n      api_key: sk-static\n"
        "litellm_settings:\n  set_verbose: false\n  telemetry: false\n"
        "general_settings:\n  master_key: sk-static\n"  # it does not start without one
    )
    port = free_port()
    command = [str(directory / "bin" / "litellm"), "--config", str(configuration), "--host", HOST, "--port", str(port)]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    server = stack.start("litellm", [*command, "--num_workers", "1"], port, env=bare_environment() | quiet)
    return Running(server, ask(port, ("authorization", "Bearer sk-static")))


def portkey(stack: Stack) -> Running:
    directory = install_node("portkey", f"@portkey-ai/gateway@{PORTKEY}")
    program = directory / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    port = free_port()
    server = stack.start(
        "portkey", ["node", str(program), f"--port={port}", "--headless"], port, env=bare_environment()
    )
    headers = [
        ("x-portkey-provider", "openai"),
        ("x-portkey-custom-host", upstream_url(stack, "/v1")),
        ("authorization", "Bearer sk-static"),
    ]
    return Running(server, ask(port, *headers))


def ferrogw(stack: Stack) -> Running:
    directory = install_python("ferrogw", f"ferrogw=={FERROGW}")
    configuration = stack.root / "ferrogw.yaml"
    configuration.write_text("strategy:\n  mode: single\ntargets:\n  - virtual_key: openai\n")
    port = free_port()
    told_it = {
        "GATEWAY_CONFIG": str(configuration),
        "MASTER_KEY": "fgw_static",
        "OPENAI_API_KEY": "sk-static",
        "OPENAI_BASE_URL": upstream_url(stack, ""),
        "RATE_LIMIT_RPS": "0",
        "ALLOW_UNAUTHENTICATED_PROXY": "true",
        "LOG_LEVEL": "error",
        "PORT": str(port),
    }
    command = [str(directory / "bin" / "ferrogw"), "serve"]
    server = stack.start("ferrogw", command, port, env=bare_environment() | told_it, cwd=stack.root)
    return Running(server, ask(port, body=BODY.replace(MODEL.encode(), b"gpt-4.1-mini")))


def upstream_url(stack: Stack, path: str) -> str:
    return f"http://{HOST}:{stack.upstream.port}{path}"


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}


# --- installing ---------------------------------------------------------------------------------


def install_python(name: str, requirement: str) -> Path:
    directory = PEERS / name
    commands = [
        [sys.executable, "-m", "venv", "--clear", str(directory)],
        [str(directory / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-input", requirement],
    ]
    return install(directory, requirement, commands)


def install_node(name: str, requirement: str) -> Path:
    if shutil.which("npm") is None:
        raise NotHere("npm is not installed")
    directory = PEERS / name
    command = ["npm", "install", "--prefix", str(directory), "--silent", "--no-audit", "--no-fund", requirement]
    return install(directory, requirement, [command])


def install(directory: Path, requirement: str, commands: Sequence[Sequence[str]]) -> Path:
    """Once: a note in the directory says what it holds."""
    note = directory / "installed"
    if note.exists() and note.read_text() == requirement:
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    for command in commands:
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise NotHere(f"{requirement} was not installed within {INSTALL_TIMEOUT_S} s") from None
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NotHere(f"{requirement} cannot be installed: {reason}")
    note.write_text(requirement)
    return directory


def told(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip()
