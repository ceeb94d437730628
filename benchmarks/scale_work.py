"""What of `make bench-scale` runs inside Django: `python -m benchmarks.scale_work`, its job on standard input.

Key look-ups that nothing remembers, every page, and one pass of each periodic task.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import django
import msgspec

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import URLPattern, get_resolver, reverse  # noqa: E402

from accounts.models import User  # noqa: E402
from accounts.principals import Directory  # noqa: E402
from benchmarks.load import percentile  # noqa: E402
from benchmarks.scale_told import Job, Page, Told  # noqa: E402
from billing.models import Usage  # noqa: E402
from billing.oversight import verifier  # noqa: E402
from billing.usage import rollups  # noqa: E402
from common.ids import generation_id  # noqa: E402
from completions.reconciliation import abandoned_calls, calls  # noqa: E402
from quantized.dashboard import urls as dashboard  # noqa: E402
from quantized.database import Reader  # noqa: E402

OPERATOR = "operator@example.com"
PAGE_VIEWS = 20
HOST = "localhost"  # among the allowed ones without being told


def work(job: Job) -> Told:
    tasks: dict[str, Callable[[], Any]] = {
        "roll-up, everything": rollups.roll_up,
        "roll-up, again": rollups.roll_up,
        "sweeper": abandoned_calls.sweep,
        "reconciliation": calls.reconcile,
    }
    tasks_s = {name: timed_s(task) for name, task in tasks.items()}
    found: list[verifier.Violation] = []
    tasks_s["verifier"] = timed_s(lambda: found.extend(verifier.violations()))
    for violation in found[:5]:
        sys.stderr.write(f"{violation}\n")
    lookups_s = asyncio.run(look_up(job.api_keys))
    return Told(
        lookup_p50_ms=percentile(lookups_s, 0.50) * 1000,
        lookup_p95_ms=percentile(lookups_s, 0.95) * 1000,
        tasks_s=tasks_s,
        pages=pages(job.owner),
        violations=len(found),
    )


def timed_s(action: Callable[[], Any]) -> float:
    started_s = time.perf_counter()
    action()
    return time.perf_counter() - started_s


async def look_up(api_keys: list[str]) -> list[float]:
    """Keys that the process has never met, one after the other."""
    reader = Reader(settings.DATABASE_URL)
    directory = Directory(settings.KEY_PEPPER, settings.PUBLIC_URL)
    times_s = []
    for key in api_keys:
        started_s = time.perf_counter()
        await directory.authenticate(f"Bearer {key}", reader.fetch_one)
        times_s.append(time.perf_counter() - started_s)
    await reader.close()
    return times_s


# --- pages --------------------------------------------------------------------------------------


def pages(owner: str) -> dict[str, Page]:
    member, operator = Client(HTTP_HOST=HOST), Client(HTTP_HOST=HOST)
    user = User.objects.get(email=owner)
    member.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[-1])
    operator.force_login(an_operator(), backend=settings.AUTHENTICATION_BACKENDS[-1])
    found = {path: viewed(member, path) for path in (*plain_paths(), *tenant_paths(user))}
    found |= {path: viewed(operator, path) for path in admin_paths()}
    return {path: page for path, page in found.items() if page is not None}


def an_operator() -> User:
    user, _ = User.objects.get_or_create(email=OPERATOR, defaults={"is_staff": True, "is_superuser": True})
    return user


def plain_paths() -> Iterator[str]:
    """Addresses of the front door that take no argument."""
    for pattern in get_resolver().url_patterns:
        if isinstance(pattern, URLPattern) and "<" not in str(pattern.pattern) and "logout" not in str(pattern.pattern):
            yield f"/{pattern.pattern}"


def tenant_paths(user: User) -> Iterator[str]:
    """The dashboard's, and those of its rows and filters."""
    for pattern in dashboard.urlpatterns:
        if "<" not in str(pattern.pattern) and not str(pattern.pattern).endswith(".csv"):
            yield f"/{pattern.pattern}"
    organization_id = user.memberships.get().organization_id
    usage = Usage.objects.filter(wallet_id=organization_id).order_by("recorded_at").first()
    if usage is not None:
        yield reverse("dashboard:receipt", args=[generation_id(usage.hold_id)])
        yield reverse("dashboard:key-edit", args=[usage.key_id])
        for query in ("outcome=failed", f"model={usage.model}", f"key={usage.key_id}"):
            yield f"{reverse('dashboard:activity')}?{query}"
        for query in ("kind=credits", "kind=corrections", "before=1000"):
            yield f"{reverse('dashboard:billing')}?{query}"


def admin_paths() -> Iterator[str]:
    yield reverse("admin:index")
    for model in admin.site._registry:
        yield reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def viewed(client: Client, path: str) -> Page | None:
    """None for what is no page."""
    first = client.get(path)
    if first.status_code != 200 or not str(first.headers.get("content-type", "")).startswith("text/html"):
        return None
    cpu_started_s = time.process_time()
    times_s = [timed_s(lambda: client.get(path)) for _ in range(PAGE_VIEWS)]
    cpu_s = time.process_time() - cpu_started_s
    return Page(percentile(times_s, 0.50) * 1000, percentile(times_s, 0.95) * 1000, cpu_s * 1000 / PAGE_VIEWS)


def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    sys.stdout.buffer.write(msgspec.json.encode(work(job)))


if __name__ == "__main__":
    main()
