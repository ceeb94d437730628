"""What one server process owns beside Django: made at start-up, drained at shutdown, nothing at module level."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from django.conf import settings
from django.db import connection

from accounts.principals import KEYS_CHANGED, USED_SQL, Directory
from billing.ledger import rates
from billing.ledger.spool import Spool
from billing.ledger.wire import Wire
from billing.ledger.writer import Writer
from billing.pricing.money import CreditRate
from completions.calls.circuits import Circuits
from completions.calls.gateway import Gateway
from completions.calls.holds import Terms
from completions.calls.limits import Limiter
from completions.calls.processes import LOOK_EVERY_S, ProcessReport
from completions.calls.sinks import StreamTimes
from completions.catalog.loader import load_catalog
from completions.upstream.client import Upstream
from quantized.database import Listener, Reader
from quantized.metrics import SHARE_EVERY_S, Metrics

logger = logging.getLogger(__name__)

T = TypeVar("T")

CATALOG_CHANGED = "catalog"
CATALOG_LIFE_S = 60  # the safety net under the notification
USED_KEYS_EVERY_S = 30


class Runtime:
    """See `Serving` in completions/api/base.py for what the model API needs of it. What leads out of the process, the
    ledger's wire, the providers and the reader of single rows, may be given by who plays it."""

    def __init__(
        self, *, wire: Wire | None = None, upstream: Upstream | None = None, reader: Reader | None = None
    ) -> None:
        self.reader = reader or Reader(settings.DATABASE_URL)
        spool = Spool(settings.SPOOL_DIR)
        self.writer = Writer(settings.DATABASE_URL, spool, queue_max=settings.LEDGER_QUEUE_MAX, wire=wire)
        self.directory = Directory(settings.KEY_PEPPER, settings.PUBLIC_URL)
        self.upstream = upstream or Upstream(
            connect_timeout_s=settings.UPSTREAM_CONNECT_TIMEOUT_S, read_timeout_s=settings.UPSTREAM_READ_TIMEOUT_S
        )
        self.terms = Terms(CreditRate.of(settings.CREDITS_PER_USD, settings.MARGIN))
        self.gateway = Gateway(
            self.writer,
            self.upstream,
            self.reader,
            Limiter.connect(
                settings.REDIS_URL,
                timeout_s=settings.REDIS_TIMEOUT_S,
                call_life_s=settings.HOLD_TTL_S,
                processes=settings.SERVER_PROCESSES,
            ),
            self.terms,
            Circuits(failures_max=settings.CIRCUIT_FAILURES, open_s=settings.CIRCUIT_OPEN_S),
            output_floor_tokens=settings.OUTPUT_FLOOR_TOKENS,
            hold_life_s=settings.HOLD_TTL_S,
            call_max_s=settings.CALL_MAX_S,
            stream_times=StreamTimes(settings.FIRST_EVENT_WAIT_S, settings.KEEPALIVE_S, settings.DRAIN_MAX_S),
        )
        self.answers = self.gateway.metrics.answers  # of the model API's lane, counted by it: endpoint, HTTP status
        self.metrics = Metrics(self.gateway, self.writer, self.reader, settings.SPOOL_DIR, settings.METRICS_DIR)
        self.process_report = ProcessReport(self.reader, self.writer, self.gateway)
        self.listener = Listener(settings.DATABASE_URL, self._notified, self._listening)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Raises when the database cannot be used: better no server than one that refuses every call."""
        await self.writer.start()
        # The settings are this process's for life: one look for the row that every hold of it will name.
        self.terms.rate = (await asyncio.to_thread(read_apart, rates.current)).to_struct()
        await self._load_catalog()
        self._tasks = [
            asyncio.create_task(self.listener.run(), name="listener"),
            asyncio.create_task(every(CATALOG_LIFE_S, self._load_catalog), name="catalog"),
            asyncio.create_task(every(USED_KEYS_EVERY_S, self._store_used_keys), name="used-keys"),
            asyncio.create_task(every(SHARE_EVERY_S, self.metrics.share), name="metrics"),
            asyncio.create_task(every(LOOK_EVERY_S, self.process_report.write), name="process report"),
        ]

    async def end_calls(self, waited_s: float) -> None:
        """The stop began so long ago: let calls finish within what is left of the grace, then end them."""
        await self.gateway.drain(max(0.0, settings.SHUTDOWN_GRACE_S - waited_s))

    async def close(self) -> None:
        """Let calls finish, then write what they cost. Settlements that cannot be written are spooled."""
        await self.gateway.drain(settings.SHUTDOWN_GRACE_S)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self.writer.connected:  # a database that is gone is not waited for: the row is dead after a while
            await self.process_report.withdraw()
        await self.writer.close(settings.SHUTDOWN_GRACE_S)
        await self.metrics.close()
        await self.upstream.close()
        await self.gateway.close_connections()
        await self.reader.close()

    async def readiness(self) -> dict[str, bool]:
        """Able to serve? The database answers, the ledger can write, some provider is there."""
        return {
            "database": await self.reader.is_alive(),
            "ledger": self.writer.connected,
            "provider": bool(self.terms.catalog.models),
        }

    # --- what changes while it runs ---------------------------------------------------------

    async def _notified(self, payload: str) -> None:
        if payload == KEYS_CHANGED:
            self.directory.invalidate()
        elif payload == CATALOG_CHANGED:
            await self._load_catalog()

    async def _listening(self, is_listening: bool) -> None:
        self.directory.listening(is_listening)
        if is_listening:
            await self._load_catalog()  # what changed while nobody listened

    async def _load_catalog(self) -> None:
        self.terms.catalog = await asyncio.to_thread(read_apart, load_catalog)

    async def _store_used_keys(self) -> None:
        if used := self.directory.take_used():
            await self.reader.execute(USED_SQL, (used,))


def read_apart(read: Callable[[], T]) -> T:
    """In a thread of its own: the connection it used must not outlive the call."""
    try:
        return read()
    finally:
        connection.close()


async def every(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    """Repeat until cancelled; a failure is logged, and the next time may do better."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await action()
        except Exception:
            logger.exception("a periodic action failed")
