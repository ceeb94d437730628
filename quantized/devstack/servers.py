"""The two servers a run needs: those the environment names, embedded ones for the rest."""

from collections.abc import Mapping
from pathlib import Path

from quantized.devstack.places import make_private, socket_directory
from quantized.devstack.postgres import identity, start_postgres
from quantized.devstack.processes import Processes
from quantized.devstack.valkey import start_valkey

URLS = ("DATABASE_URL", "REDIS_URL")


def start_servers(root: Path, processes: Processes, given: Mapping[str, str], *, durable: bool) -> dict[str, str]:
    """DATABASE_URL and REDIS_URL of servers that answer; data of those started here is kept in `root`."""
    urls = {name: given[name] for name in URLS if given.get(name)}
    if len(urls) < len(URLS):
        sockets = socket_directory(root)
        make_private(sockets, identity().socket_owner_uid)
    if "DATABASE_URL" not in urls:
        urls["DATABASE_URL"] = start_postgres(root / "postgres", sockets, processes, durable=durable)
    if "REDIS_URL" not in urls:
        urls["REDIS_URL"] = start_valkey(root / "redis", sockets, processes, durable=durable)
    return urls
