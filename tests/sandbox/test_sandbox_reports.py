"""The sandbox's Admin API: the days' counts and costs of Anthropic's calls, strict to who asks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from sandbox import cards
from sandbox.app import Config
from sandbox.server import SandboxServer

ADMIN = {"x-api-key": "sk-ant-admin-test", "anthropic-version": "2023-06-01"}
USAGE, COST = "/v1/organizations/usage_report/messages", "/v1/organizations/cost_report"
SONNET, HAIKU = "claude-sonnet-4-6", "claude-haiku-4-5"


@pytest.fixture
def upstream() -> Iterator[SandboxServer]:
    with SandboxServer(Config(claudes=cards.read(cards.CATALOG, "anthropic"))) as server:
        yield server


def ask_claude(server: SandboxServer, directive: str = "", model: str = SONNET) -> dict[str, Any]:
    answer = httpx.post(
        f"{server.origin}/v1/messages",
        headers={"x-api-key": "sk-ant-test", "anthropic-version": "2023-06-01"},
        json={
            "model": model,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "metadata": {"user_id": f"sandbox:{directive}"},
        },
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def report(server: SandboxServer, path: str, **params: Any) -> dict[str, Any]:
    answer = httpx.get(server.origin + path, params={"starting_at": f"{today()}T00:00:00Z"} | params, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def today(days: int = 0) -> str:
    return str(datetime.now(UTC).date() + timedelta(days=days))


def test_usage_by_model(upstream: SandboxServer) -> None:
    ask_claude(upstream)
    ask_claude(upstream, "completion=20 cached=4")
    ask_claude(upstream, model=HAIKU)
    told = report(upstream, USAGE, **{"group_by[]": "model"})
    assert (told["has_more"], told["next_page"], len(told["data"])) == (False, None, 1)
    [bucket] = told["data"]
    assert (bucket["starting_at"], bucket["ending_at"]) == (f"{today()}T00:00:00Z", f"{today(1)}T00:00:00Z")
    sonnet, haiku = bucket["results"]
    assert (sonnet["model"], haiku["model"]) == (SONNET, HAIKU)
    assert (sonnet["uncached_input_tokens"], sonnet["cache_read_input_tokens"], sonnet["output_tokens"]) == (26, 4, 28)
    assert sonnet["cache_creation"] == {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0}
    assert sonnet["server_tool_use"] == {"web_search_requests": 0}
    assert (haiku["uncached_input_tokens"], haiku["output_tokens"]) == (15, 8)


def test_costs_are_cents_by_model_and_kind_of_token(upstream: SandboxServer) -> None:
    ask_claude(upstream, "searches=2")
    [bucket] = report(upstream, COST, **{"group_by[]": "description"})["data"]
    shown = {(item["cost_type"], item["model"], item["token_type"]): item["amount"] for item in bucket["results"]}
    assert {kind: Decimal(amount) for kind, amount in shown.items()} == {
        ("tokens", SONNET, "uncached_input_tokens"): Decimal("0.0045"),
        ("tokens", SONNET, "output_tokens"): Decimal("0.012"),
        ("web_search", None, None): Decimal(2),
    }
    assert {item["currency"] for item in bucket["results"]} == {"USD"}


def test_without_groups_it_is_one_sum(upstream: SandboxServer) -> None:
    ask_claude(upstream)
    [bucket] = report(upstream, COST)["data"]
    [item] = bucket["results"]
    # 15 tokens at 3 USD and 8 at 15 USD per million
    assert float(item["amount"]) == pytest.approx(0.0165)
    assert (item["cost_type"], item["description"], item["model"]) == (None, None, None)


def test_a_bent_bill_is_output_tokens(upstream: SandboxServer) -> None:
    ask_claude(upstream, "billed=0.5")
    [bucket] = report(upstream, COST, **{"group_by[]": "description"})["data"]
    assert sum(float(item["amount"]) for item in bucket["results"]) == pytest.approx(50)


def test_pages_of_days(upstream: SandboxServer) -> None:
    ask_claude(upstream)
    first = report(upstream, USAGE, starting_at=f"{today(-3)}T12:34:56Z", limit=2)
    assert [bucket["starting_at"][:10] for bucket in first["data"]] == [today(-3), today(-2)]
    assert (first["has_more"], first["data"][0]["results"]) == (True, [])
    second = report(upstream, USAGE, starting_at=f"{today(-3)}T12:34:56Z", limit=2, page=first["next_page"])
    assert [bucket["starting_at"][:10] for bucket in second["data"]] == [today(-1), today()]
    assert (second["has_more"], second["next_page"]) == (False, None)
    assert second["data"][1]["results"][0]["output_tokens"] == 8


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-api-key": "sk-ant-api03-test", "anthropic-version": "2023-06-01"}, 401),
        ({"x-api-key": "sk-ant-admin-test"}, 400),
    ],
)
@pytest.mark.parametrize("path", [USAGE, COST])
def test_nobody_but_an_admin_is_told(upstream: SandboxServer, path: str, headers: dict[str, str], status: int) -> None:
    params = {"starting_at": f"{today()}T00:00:00Z"}
    answer = httpx.get(upstream.origin + path, params=params, headers=headers)
    assert answer.status_code == status
    assert answer.json()["type"] == "error"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "starting_at"),
        ("starting_at=yesterday", "starting_at"),
        ("starting_at=2026-01-01T00:00:00", "starting_at"),
        ("starting_at=2026-01-02T00:00:00Z&ending_at=2026-01-02T00:00:00Z", "ending_at"),
        ("starting_at=2026-01-01T00:00:00Z&bucket_width=1w", "bucket_width"),
        ("starting_at=2026-01-01T00:00:00Z&limit=32", "limit"),
        ("starting_at=2026-01-01T00:00:00Z&limit=x", "limit"),
        ("starting_at=2026-01-01T00:00:00Z&group_by[]=colour", "group_by"),
        ("starting_at=2026-01-01T00:00:00Z&group_by=model", "group_by"),
        ("starting_at=2026-01-01T00:00:00Z&starting_at=2026-01-01T00:00:00Z", "starting_at"),
        ("starting_at=2026-01-01T00:00:00Z&page=2", "page"),
    ],
)
@pytest.mark.parametrize("path", [USAGE, COST])
def test_what_cannot_be_asked_is_named(upstream: SandboxServer, path: str, query: str, named: str) -> None:
    answer = httpx.get(f"{upstream.origin}{path}?{query}", headers=ADMIN)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"].startswith(named)
