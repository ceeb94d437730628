"""The suite's servers: a PostgreSQL and a Redis of its own for every run, unless DATABASE_URL and REDIS_URL are set.

Runs side by side do not meet: each has its own directory under var/test/, removed when it ends.
"""

import os
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

RUNS = VAR / "test"
PROCESSES = pytest.StashKey[Processes]()
NOWHERE = "http://127.0.0.1:9"  # the discard port: no test reaches a provider by accident


def pytest_configure(config: pytest.Config) -> None:
    """Django is set up here: pytest-django's own pytest_configure does so only once somebody has read the settings."""
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
    config.pluginmanager.import_plugin("tests.gateway_server")  # their fixtures need the models
    config.pluginmanager.import_plugin("tests.stripe_cast")
    config.pluginmanager.import_plugin("tests.browser.people")


def pytest_unconfigure(config: pytest.Config) -> None:
    if PROCESSES in config.stash:
        config.stash[PROCESSES].stop_all()
        remove_run(RUNS / str(os.getpid()))


def suite_environment(root: Path) -> dict[str, str]:
    return {
        "DJANGO_SETTINGS_MODULE": "quantized.settings",
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that commit for real run last: what they leave behind is in nobody's way."""
    items.sort(key=lambda item: "live_db" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The test database for `live_db` too: pytest-django's own makes one only for tests that it knows."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False)
    yield
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity=0)


@pytest.fixture
def live_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The test database without a transaction around the test, for tests with several processes or connections.

    Nothing is flushed afterwards (entries cannot be deleted): such a test makes its own organizations.
    """
    with django_db_blocker.unblock():
        yield
        connection.close()


@pytest.fixture
def process_environment(live_db: None) -> dict[str, str]:
    """The environment for a child process that shall see what the test commits: the test database, not the run's."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    return {**os.environ, "DATABASE_URL": url.geturl()}
