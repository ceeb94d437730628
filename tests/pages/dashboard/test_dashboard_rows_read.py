"""What a page reads does not grow with a tenant's calls: every query of every page is explained at 18,000 of them.

Rows and buffers are counted, not time, so that a busy machine changes nothing; a scan of the calls is a thousand rows
too many.
"""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization
from accounts.services import add_member, create_user
from benchmarks.books import DAYS, FILL, METERS, TABLES, WALLETS, Size, make_tenants
from benchmarks.stack import RICH_MICRO
from billing.models import Usage
from billing.oversight import verifier
from billing.usage import rollups
from common.ids import generation_id
from tests.kit.catalogs import make_route
from tests.kit.dashboard import logged_in
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db

SIZE = Size(rows=20_000, tenants=2, keys_per_tenant=1)  # the second tenant has nine tenths of them
# A month of hours of one key and one model in the roll-up, and a page of what is asked for.
ROWS_MAX = DAYS * 24 + 600
BUFFERS_MAX = 2_500
PAGES = (
    "/",
    "/first-call",
    "/keys",
    "/keys/{key}",
    "/activity",
    "/activity?outcome=failed",
    "/activity?model=openai/gpt-4.1-mini",
    "/activity?key={key}",
    "/activity?after={middle}",
    "/activity/{generation}",
    "/activity?q=gen-00000000000070008000000000000000",
    "/billing",
    "/billing?kind=credits",
    "/billing?kind=corrections",
    "/billing?before=9000",
    "/models",
    "/playground",
    "/team",
    "/settings",
)


@pytest.fixture
def large(db: None) -> UUID:
    """A tenant with 18,000 calls, by the benchmark's own SQL, under all constraints."""
    make_route()
    first = Tenant(RICH_MICRO)
    raw = connection.connection
    make_tenants(raw, first.organization_id, SIZE, settings.KEY_PEPPER)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM bench_tenant WHERE t = 1")
        [organization_id] = cursor.fetchone()
        cursor.execute("SELECT now() - interval '5 min'")
        [ends] = cursor.fetchone()
    given = {"rows": SIZE.rows, "tenants": SIZE.tenants, "keys": SIZE.keys_per_tenant, "ends": ends}
    for table in TABLES:
        raw.execute(FILL[table], given | {"due_from": SIZE.rows, "first": 0, "last": SIZE.rows - 1})
    raw.execute(WALLETS)
    raw.execute(METERS)
    rollups.roll_up()
    raw.execute("ANALYZE")
    return organization_id


@pytest.fixture
def owner(large: UUID) -> Client:
    user = create_user("owner@example.org")
    add_member(Organization.objects.get(pk=large), user, "owner")
    return logged_in(user)


def addresses(organization_id: UUID) -> Iterator[str]:
    organization = Organization.objects.get(pk=organization_id)
    middle = Usage.objects.filter(wallet_id=organization_id).order_by("recorded_at")[9_000]
    given = {
        "key": organization.keys.get().pk,
        "generation": generation_id(middle.hold_id),
        "middle": f"{middle.recorded_at:%Y-%m-%dT%H:%M:%S.%fZ}~{generation_id(middle.hold_id)}",
    }
    return (page.format_map(given) for page in PAGES)


def dearest(client: Client, address: str) -> tuple[int, int]:
    """The most rows, and the most buffers, that one query of the page reads."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    asked = [query["sql"] for query in captured if query["sql"].lstrip().startswith(("SELECT", "WITH"))]
    assert asked
    found = [explained(sql) for sql in asked]
    return max(rows for rows, _ in found), max(buffers for _, buffers in found)


def explained(sql: str) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}")
        [told] = cursor.fetchone()
    [plan] = json.loads(told) if isinstance(told, str) else told
    root = plan["Plan"]
    return round(rows_read(root)), root["Shared Hit Blocks"] + root["Shared Read Blocks"]


def rows_read(node: dict[str, Any]) -> float:
    """Of all tables under it, those filtered out again too."""
    own = 0.0
    if "Relation Name" in node:
        taken = node["Actual Rows"] + sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        own = taken * node["Actual Loops"]
    return own + sum(map(rows_read, node.get("Plans", [])))


def test_no_query_of_any_page_reads_the_calls(large: UUID, owner: Client):
    assert Usage.objects.filter(wallet_id=large).count() == 18_000
    read = {address: dearest(owner, address) for address in addresses(large)}
    assert {address: told for address, told in read.items() if told[0] > ROWS_MAX or told[1] > BUFFERS_MAX} == {}
    assert verifier.violations() == []


def test_a_missing_index_would_be_seen(large: UUID, owner: Client):
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX usage_by_wallet_and_time; DROP INDEX usage_by_time")
    rows, _ = dearest(owner, "/activity")
    assert rows > ROWS_MAX
