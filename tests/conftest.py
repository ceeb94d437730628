"""The suite's servers, databases and order.

Each process that runs tests (each worker of pytest-xdist, or pytest itself) starts a PostgreSQL and a Redis of its own,
unless DATABASE_URL and REDIS_URL are set. Runs side by side do not meet: each has its own directory under var/test/,
removed when it ends. For tests/pure alone nothing is started, and Django is not set up.

There are two test databases: in the first all tests are rolled back, so that it stays as the migrations left it; in the
other, that of `live_db`, tests commit. A test never meets rows of one that ran before it, in whatever order they run.
"""

import os
import random
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import django
import pytest
from django.db import connection
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

from quantized.devstack.errors import StackError
from quantized.devstack.places import VAR, remove_sockets
from quantized.devstack.processes import Processes, is_alive
from quantized.devstack.servers import start_servers

TESTS = Path(__file__).parent
PURE = TESTS / "pure"
RUNS = VAR / "test"
NOWHERE = "http://127.0.0.1:9"  # the discard port: no test reaches a provider by accident
PROCESSES = pytest.StashKey[Processes]()
LIVE = "live"  # the suffix of the database where tests commit

# Files are handed out one by one, to whichever worker is free; those of the long folders go first, so that no worker
# is left with one of them at the end.
LONG_FOLDERS = ("processes", "clients", "live")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", metavar="SEED", help="run files, and the tests of each, in the order of this number")


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.getoption("shuffle")
    return f"shuffled: --shuffle {seed}" if seed else None


def pytest_configure(config: pytest.Config) -> None:
    """Django is set up here: pytest-django's own pytest_configure does so only once somebody has read the settings."""
    if hands_out(config):
        remove_leftovers()
        return
    if is_pure(config):
        pytest.register_assert_rewrite("tests.kit")
        return
    if worker(config) is None:
        remove_leftovers()
    root = RUNS / str(os.getpid())
    processes = Processes(root / "log")
    config.stash[PROCESSES] = processes
    try:
        os.environ.update(start_servers(root, processes, os.environ, durable=False))
    except StackError as error:
        processes.stop_all()
        pytest.exit(str(error), returncode=1)
    os.environ.update(suite_environment(root))
    django.setup()
    pytest.register_assert_rewrite("tests.kit")  # a helper's assertion shows what it compared, as a test's does
    config.pluginmanager.import_plugin("tests.kit.tenants")  # their fixtures need the models
    config.pluginmanager.import_plugin("tests.kit.live")
    config.pluginmanager.import_plugin("tests.kit.stripe")
    config.pluginmanager.import_plugin("tests.browser.people")


def pytest_unconfigure(config: pytest.Config) -> None:
    if PROCESSES in config.stash:
        config.stash[PROCESSES].stop_all()
        remove_run(RUNS / str(os.getpid()))


def is_pure(config: pytest.Config) -> bool:
    """Nothing but tests/pure is run: without servers, without settings, without Django's applications."""
    asked = [(config.invocation_params.dir / arg.partition("::")[0]).resolve() for arg in config.args]
    return bool(asked) and all(path.is_relative_to(PURE) for path in asked)


def hands_out(config: pytest.Config) -> bool:
    """The process that tells pytest-xdist's workers what to run, and runs nothing itself."""
    return worker(config) is None and config.getoption("dist", "no") != "no" and not config.getoption("collectonly")


def worker(config: pytest.Config) -> str | None:
    given: dict[str, str] = getattr(config, "workerinput", {})
    return given.get("workerid")


def suite_environment(root: Path) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "KEY_PEPPER": secrets.token_urlsafe(48),
        "PUBLIC_URL": "http://localhost:8000",
        "OPENROUTER_API_KEY": "sandbox",
        "OPENROUTER_BASE_URL": f"{NOWHERE}/api/v1",
        "ANTHROPIC_API_KEY": "sandbox",
        "ANTHROPIC_BASE_URL": NOWHERE,
        "STRIPE_SECRET_KEY": "",
        "STRIPE_WEBHOOK_SECRET": "",
        "STRIPE_BASE_URL": NOWHERE,
        "SPOOL_DIR": str(root / "spool"),
    }


def remove_leftovers() -> None:
    """Runs that were killed: their servers ended with them, their directories are left."""
    for root in RUNS.glob("*"):
        if root.name.isdecimal() and not is_alive(int(root.name)):
            remove_run(root)


def remove_run(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    remove_sockets(root)


# --- Order -------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """No test needs another one to run before it; `--shuffle` shows that."""
    if seed := config.getoption("shuffle"):
        shuffle(items, seed)
    else:
        items.sort(key=lambda item: rank(item.path))


def shuffle(items: list[pytest.Item], seed: str) -> None:
    """A file's tests stay together: what they share is made once."""
    order = random.Random(seed)
    files = sorted({item.path for item in items})
    order.shuffle(files)
    order.shuffle(items)
    places = {file: place for place, file in enumerate(files)}
    items.sort(key=lambda item: places[item.path])


def rank(file: Path) -> int:
    folder = file.relative_to(TESTS).parts[0]
    return LONG_FOLDERS.index(folder) if folder in LONG_FOLDERS else len(LONG_FOLDERS)


# --- Databases ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest, django_test_environment: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Both test databases; pytest-django's own fixture makes one, and only for tests that it knows."""
    with django_db_blocker.unblock():
        if name := worker(request.config):  # workers may have been given one server
            connection.settings_dict["TEST"]["NAME"] = f"test_{connection.settings_dict['NAME']}_{name}"
        made = setup_databases(verbosity=0, interactive=False)
        connection.creation.clone_test_db(LIVE, verbosity=0, autoclobber=True)
    yield
    with django_db_blocker.unblock():
        connection.creation.destroy_test_db(suffix=LIVE, verbosity=0)
        teardown_databases(made, verbosity=0)


@pytest.fixture
def live_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The database where tests commit, for those with several processes or connections.

    Nothing is flushed afterwards (entries cannot be deleted): such a test makes its own organizations.
    """
    rolled_back = connection.settings_dict["NAME"]
    with django_db_blocker.unblock():
        connection.close()
        connection.settings_dict["NAME"] = connection.creation.get_test_db_clone_settings(LIVE)["NAME"]
        yield
        connection.close()
        connection.settings_dict["NAME"] = rolled_back


@pytest.fixture
def process_environment(live_db: None) -> dict[str, str]:
    """The environment for a child process that shall see what the test commits."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    return {**os.environ, "DATABASE_URL": url.geturl()}
