"""Programs that call us with other people's clients. Each is a process of its own that is told one JSON object
on standard input and tells one on standard output. `make test` installs what they need, where it can."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx

from billing.credits import accounts
from tests.kit import CHECKOUT, TESTS
from tests.kit.live import Server
from tests.kit.tenants import Tenant, wait_closed

NODE_PROGRAMS = TESTS / "node"
PYTHON_PROGRAMS = TESTS / "clients"
PYTHON_CLIENTS = CHECKOUT / "var" / "clients"
PYTHON = PYTHON_CLIENTS / ".venv" / "bin" / "python"
TIMEOUT_S = 90
CLAUDE = {"model": "anthropic/claude-sonnet-4.6", "headers": {"X-Quantized-Provider": "anthropic"}}


def why_no_node(package: str) -> str:
    """Why a package of Node cannot be tested here; empty when it can."""
    if shutil.which("node") is None:
        return "there is no node on this machine"
    if not (NODE_PROGRAMS / "node_modules" / package).is_dir():
        return f"{package} is not installed: `make test` does it where there is npm"
    return ""


def why_no_python_clients() -> str:
    """Why the other Python clients cannot be tested here; empty when they can."""
    if not PYTHON.exists() or not (PYTHON_CLIENTS / "installed").exists():
        return "the clients are not installed in var/clients: `make test` does it, and says what keeps it from that"
    return ""


def run_node(program: str, server: Server, tenant: Tenant, **told: Any) -> dict[str, Any]:
    return _run(["node", program], NODE_PROGRAMS, server, tenant, told)


def run_python(program: str, server: Server, tenant: Tenant, **told: Any) -> dict[str, Any]:
    return _run([str(PYTHON), program], PYTHON_PROGRAMS, server, tenant, told)


def _run(command: list[str], directory: Path, server: Server, tenant: Tenant, told: dict[str, Any]) -> dict[str, Any]:
    given = json.dumps({"base_url": server.base_url, "api_key": tenant.api_key, **told})
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ended = subprocess.run(
        command, cwd=directory, env=environment, input=given, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def run_once(seen: dict[str, Any], program: str, server: Server, tenant: Tenant, **told: Any) -> dict[str, Any]:
    """For several tests of what one process saw: it is run by the first of them. `credits` is what all it did cost."""
    if program not in seen:
        run = run_node if program.endswith(".mjs") else run_python
        seen[program] = run(program, server, tenant, **told) | {"credits": credits_used(server, tenant)}
    return seen[program]


def with_more(tenant: Tenant, credits_micro: int) -> Tenant:
    accounts.grant(tenant.organization_id, credits_micro, actor="test", reason="Claude costs more")
    return tenant


def credits_used(server: Server, tenant: Tenant) -> int:
    """What all of a tenant's calls cost, once they have ended."""
    wait_closed(tenant)
    return httpx.get(f"{server.base_url}/credits", headers=tenant.headers).raise_for_status().json()["credits_used"]
