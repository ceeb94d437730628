"""The operator's first page: is the business well, and are the books? Everything is gathered here, in a fixed number of
queries, and each figure leads to the rows behind it. Days are UTC's, as the ledger's."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from billing.models import Heartbeat, VerifierRun
from billing.oversight import standing as overview
from billing.oversight.standing import Low, Standing
from billing.usage import figures
from billing.usage.figures import Health, Totals
from billing.usage.report import Span
from common.numbers import MICRO, rounded_dollars
from common.periodic import late_after
from completions.calls.processes import CircuitState, Servers, servers
from completions.models import Provider
from quantized.operator import chart
from quantized.schedule import PERIODIC_TASKS

UTC = ZoneInfo("UTC")
DAYS = 30
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MAY_SEE = "billing.view_entry"
VERIFIER_LATE = {
    VerifierRun.Kind.INCREMENTAL: PERIODIC_TASKS["billing.tasks.verify_new"].late_after,
    VerifierRun.Kind.COMPLETE: PERIODIC_TASKS["billing.tasks.verify_all"].late_after,
}


class Money(msgspec.Struct, frozen=True):
    """A span's revenue, cost at par and margin, in micro-credits and in dollars."""

    totals: Totals

    @property
    def revenue_usd(self) -> str:
        return dollars(self.totals.credits_used)

    @property
    def cost_usd(self) -> str:
        return dollars(self.totals.cost_micro)

    @property
    def margin_percent(self) -> str:
        used = self.totals.credits_used
        return f"{Decimal(self.totals.margin_micro) / used * 100:.1f} %" if used > 0 else "–"


class ProviderLine(msgspec.Struct, frozen=True):
    """One provider over all its models."""

    id: int | None
    name: str
    is_enabled: bool
    circuit: CircuitState
    requests: int
    errors: int
    attempts: int
    failed: int
    skipped: int
    latency_ms: int | None

    @property
    def uptime(self) -> str:
        up = figures.uptime(self.attempts, self.failed, self.skipped)
        return "–" if up is None else f"{up * 100:.1f} %"

    @property
    def tone(self) -> str:
        return {"open": "bad", "half_open": "warn"}.get(self.circuit.state, "good")


class TaskLine(msgspec.Struct, frozen=True):
    task: str
    at: datetime | None
    is_late: bool
    error: str


class Run(msgspec.Struct, frozen=True):
    row: VerifierRun
    is_well: bool
    is_late: bool


class FirstPage(msgspec.Struct, frozen=True):
    now: datetime
    as_of: datetime | None
    today: Money
    month: Money
    chart: chart.Chart
    standing: Standing
    providers: Sequence[ProviderLine]
    servers: Servers
    low: Sequence[Low]
    runs: Sequence[Run]
    task_lines: Sequence[TaskLine]

    @property
    def books_are_well(self) -> bool:
        return bool(self.runs) and all(run.is_well and not run.is_late for run in self.runs)

    @property
    def late(self) -> list[TaskLine]:
        return [beat for beat in self.task_lines if beat.is_late]


def context(request: HttpRequest, page: dict[str, Any]) -> dict[str, Any]:
    """What unfold asks for its first page. Who may not read the ledger is told nothing of the business."""
    if not request.user.has_perm(MAY_SEE):
        return page
    return page | {"first": gather(timezone.now()), "title": "Overview"}


def gather(now: datetime) -> FirstPage:
    days = figures.operator_by_day(figures.last_days(now, DAYS, UTC))
    serving = servers(now)
    return FirstPage(
        now=now,
        as_of=figures.as_of(),
        today=Money(days[-1].totals),
        month=Money(added([day.totals for day in days])),
        chart=chart.drawn([(day.day, day.totals.credits_used, day.totals.cost_micro) for day in days]),
        standing=overview.standing(now - DAYS * DAY),
        providers=provider_lines(now - DAY, now, serving),
        servers=serving,
        low=overview.running_low(now),
        runs=[judged(row, now) for row in overview.last_runs()],
        task_lines=[task_line_of(row, now) for row in overview.heartbeats()],
    )


def added(totals: Sequence[Totals]) -> Totals:
    """Figure by figure. Every one of them is a sum."""
    names = Totals.__struct_fields__
    return Totals(*(sum(getattr(one, name) for one in totals) for name in names))


def provider_lines(start: datetime, end: datetime, serving: Servers) -> list[ProviderLine]:
    """Every provider there is, and those that were asked and are there no more. Two queries."""
    known = {row.name: row for row in Provider.objects.order_by("name").defer("secret_encrypted")}
    found: dict[str, list[Health]] = {name: [] for name in known}
    for health in figures.provider_health(Span(start, end, UTC)):
        found.setdefault(health.provider, []).append(health)
    return [line(name, known.get(name), healths, serving) for name, healths in found.items()]


def line(name: str, row: Provider | None, healths: Sequence[Health], serving: Servers) -> ProviderLine:
    timed = [(health.latency_ms, health.requests) for health in healths if health.latency_ms is not None]
    weight = sum(requests for _, requests in timed)
    return ProviderLine(
        id=row.pk if row else None,
        name=name,
        is_enabled=bool(row and row.enabled),
        circuit=serving.circuit(name),
        requests=sum(health.requests for health in healths),
        errors=sum(health.errors for health in healths),
        attempts=sum(health.attempts for health in healths),
        failed=sum(health.failed for health in healths),
        skipped=sum(health.skipped for health in healths),
        latency_ms=sum(ms * requests for ms, requests in timed) // weight if weight else None,
    )


def judged(row: VerifierRun, now: datetime) -> Run:
    is_late = now - row.started_at > VERIFIER_LATE[VerifierRun.Kind(row.kind)]
    return Run(row, not row.violations and not row.error, is_late)


def task_line_of(row: Heartbeat, now: datetime) -> TaskLine:
    is_late = row.succeeded_at is None or now - row.succeeded_at > late_after(row.task)
    failed_last = row.failed_at is not None and (row.succeeded_at is None or row.failed_at > row.succeeded_at)
    return TaskLine(
        row.task.replace(".tasks.", ": ").replace("_", " "), row.succeeded_at, is_late, row.error if failed_last else ""
    )


def dollars(micro: int) -> str:
    """At today's rate of credits."""
    return rounded_dollars(Decimal(micro) / MICRO / settings.CREDITS_PER_USD)
