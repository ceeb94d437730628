"""One Chromium for all of these tests. Its people and their server are in people.py: they need the models, and pytest
reads this file before Django is set up."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 30_000  # a machine may be busy; nothing waits longer than it has to


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Ends with the last of these tests: Playwright's loop would be in the way of others'."""
    path = next((path for path in map(shutil.which, NAMES) if path), None)
    if path is None:
        pytest.skip("no Chromium here: install Debian's package chromium to run the tests in a browser")
    # That loop stands still, but counts as running, while a test goes on; Django would refuse every query.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=WAIT_MS)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            yield browser
            browser.close()
    finally:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    if outcome.get_result().failed:
        item.user_properties.append(("has failed", True))
