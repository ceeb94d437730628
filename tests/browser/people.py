"""People at their browsers: a context of the one Chromium each; their server; and the mails it wrote to them.

Whatever a browser complains of (an error of a script, a refusal of the Content-Security-Policy, a file that is not
there) fails the test. What people saw last in a test that failed lies in var/test/browser/.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize

from accounts.models import User
from quantized.devstack.places import VAR
from quantized.devstack.processes import free_port
from tests.browser.pages import Shown
from tests.browser.populated import Populated, populate
from tests.kit.live import Server

SEEN = VAR / "test" / "browser"
SIGNUP_CREDIT_MICRO = 5_000_000
WAIT_MS = 30_000  # a machine may be busy; nothing waits longer than it has to
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
MAIL_END = re.compile(rb"^-{79}\n", re.MULTILINE)  # as Django's file back end ends each


class People:
    """Opens browsers for people, and keeps what went wrong in any of them."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self.browser = browser
        self.origin = origin
        self.contexts: list[BrowserContext] = []
        self.traced: set[BrowserContext] = set()
        self.problems: list[str] = []
        self.expected: list[str] = []

    def stranger(self, *, is_traced: bool = True, **options: Any) -> Page:
        given = {"base_url": self.origin, "viewport": DESKTOP, "locale": "en-GB", "timezone_id": "UTC"} | options
        context = self.browser.new_context(**given)
        context.set_default_timeout(WAIT_MS)
        context.set_default_navigation_timeout(WAIT_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=self.origin)
        self.contexts.append(context)
        if is_traced:
            context.tracing.start(snapshots=True)
            self.traced.add(context)
        page = context.new_page()
        page.on("console", self.note)
        page.on("pageerror", lambda error: self.problems.append(f"{page.url}: {error}"))
        return page

    def member(self, user: User, **options: Any) -> Page:
        """Who has logged in already: one test walks through the form, the others need not."""
        page = self.stranger(**options)
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME]
        user.usersession_set.create(session_key=session.value, ip="127.0.0.1", user_agent="Chromium")
        page.context.add_cookies([{"name": session.key, "value": session.value, "url": self.origin}])
        return page

    def opened(self, shown: Shown, populated: Populated) -> Page:
        """One of the pages of pages.py, with everything on it. Nothing is done there, so nothing is traced."""
        if shown.who == "stranger":
            page = self.stranger(is_traced=False)
        else:
            page = self.member(getattr(populated, shown.who), is_traced=False)
        if shown.status != 200:
            self.expect(str(shown.status))
        response = page.goto(shown.path.format_map(populated._asdict()))
        assert response is not None
        assert response.status == shown.status
        return page

    @staticmethod
    def look(page: Page, shown: Shown, colours: Literal["light", "dark"], size: ViewportSize) -> None:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=colours, reduced_motion="reduce")
        if shown.who == "operator":
            page.reload()  # the admin asks for the colours once

    def expect(self, words: str) -> None:
        """This test makes the browser complain of it."""
        self.expected.append(words)

    def note(self, message: ConsoleMessage) -> None:
        """A refusal of the Content-Security-Policy is told here too."""
        if message.type in ("error", "warning") and not any(words in message.text for words in self.expected):
            self.problems.append(f"{message.location['url']}: {message.text}")

    def leave(self, keep_in: Path | None) -> None:
        """`keep_in`: where what they saw last goes, after a test that failed."""
        for number, context in enumerate(self.contexts):
            if keep_in is not None:
                keep_in.mkdir(parents=True, exist_ok=True)
                if context in self.traced:
                    context.tracing.stop(path=keep_in / f"trace-{number}.zip")
                for page in context.pages:
                    page.screenshot(path=keep_in / f"page-{number}.png", full_page=True)
                    (keep_in / f"page-{number}.html").write_text(page.content())
            context.close()


class Mailbox:
    """What `EMAIL_URL=filemail://` wrote."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def letters(self, address: str) -> list[EmailMessage]:
        return [letter for letter in self.all() if address in str(letter["To"])]

    def last(self, address: str) -> str:
        """The words of the newest letter to them."""
        body = self.letters(address)[-1].get_body(("plain",))
        assert body is not None
        return str(body.get_content())

    def code(self, address: str) -> str:
        """On a line of its own."""
        found = re.search(r"^([A-Z0-9]{4}-[A-Z0-9]{4})$", self.last(address), re.MULTILINE)
        assert found, self.last(address)
        return found[1]

    def link(self, address: str) -> str:
        found = re.search(r"^(https?://\S+)$", self.last(address), re.MULTILINE)
        assert found, self.last(address)
        return found[1]

    def all(self) -> Iterator[EmailMessage]:
        for file in sorted(self.directory.glob("*.log"), key=lambda path: path.stat().st_mtime_ns):
            for written in MAIL_END.split(file.read_bytes()):
                if written.strip():
                    yield message_from_bytes(written, policy=policy.default)


@pytest.fixture(scope="session")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Mailbox:
    return Mailbox(tmp_path_factory.mktemp("mail"))


@pytest.fixture
def site(
    server_environment: dict[str, str],
    shared_servers: dict[str, Server],
    mailbox: Mailbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Where the pages are. Under a name: security keys belong to names, not to addresses."""
    if "browser" not in shared_servers:
        port = free_port()
        told = {
            "PUBLIC_URL": f"http://localhost:{port}",
            "EMAIL_URL": f"filemail:///{mailbox.directory}",  # an absolute path brings a slash of its own
            "SIGNUP_CREDIT_MICRO": str(SIGNUP_CREDIT_MICRO),
        }
        log = tmp_path_factory.mktemp("browser") / "server.log"
        server = Server(server_environment | told, log, port=port)
        server.wait_ready()
        shared_servers["browser"] = server
    return f"http://localhost:{shared_servers['browser'].port}"


@pytest.fixture
def people(chromium: Browser, site: str, request: pytest.FixtureRequest) -> Iterator[People]:
    crowd = People(chromium, site)
    yield crowd
    has_failed = ("has failed", True) in request.node.user_properties or crowd.problems
    crowd.leave(SEEN / re.sub(r"[^\w-]+", "-", request.node.name) if has_failed else None)
    assert crowd.problems == []


@pytest.fixture(scope="session")
def populations() -> list[Populated]:
    """None yet, or the one."""
    return []


@pytest.fixture
def populated(site: str, populations: list[Populated]) -> Populated:
    if not populations:
        populations.append(populate(datetime.now(UTC)))
    return populations[0]
