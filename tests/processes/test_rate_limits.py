"""Rate limits: exact across processes, truthful in their headers, and still there when Redis is not."""

import asyncio
import os
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyreqwest.client import ClientBuilder

from accounts.callers import RateLimits
from completions.calls.limits import REDIS_PAUSE_S, Admission, Limiter, LocalWindow, headers, names
from sandbox.server import SandboxServer
from tests.kit import MODEL
from tests.kit.live import Server, start_server
from tests.kit.tenants import Tenant

CALL_LIFE_S = 30
NOWHERE = "redis://127.0.0.1:9"


def limited(tenant: Tenant, **limits: Any) -> Tenant:
    """The tenant with another key, which has these limits."""
    return tenant.with_key(name="limited", **limits)


def ask(server: Server, tenant: Tenant, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Name a river."}], "max_tokens": 16, **fields}
    return httpx.post(f"{server.base_url}/chat/completions", headers=tenant.headers, json=body, timeout=20)


async def ask_at_once(servers: list[Server], tenant: Tenant, count: int, directive: str = "") -> Counter[int]:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Name a river."}],
        "max_tokens": 16,
        "metadata": {"sandbox": directive},
    }
    async with ClientBuilder().build() as client:

        async def one(server: Server) -> int:
            url = f"{server.base_url}/chat/completions"
            return (await client.post(url).headers(tenant.headers).body_json(body).build().send()).status

        return Counter(await asyncio.gather(*(one(servers[n % len(servers)]) for n in range(count))))


# --- Redis and memory count alike -----------------------------------------------------------------


def in_redis(*steps: tuple[Any, ...]) -> list[Any]:
    """Run a program against the scripts; the key is new every time."""

    async def story() -> list[Any]:
        limiter = Limiter.connect(os.environ["REDIS_URL"], timeout_s=5, call_life_s=CALL_LIFE_S, processes=1)
        key_id = uuid.uuid4()
        try:
            return await play(limiter, key_id, steps)
        finally:
            await limiter.close()

    return asyncio.run(story())


async def play(limiter: Limiter, key_id: uuid.UUID, steps: tuple[tuple[Any, ...], ...]) -> list[Any]:
    admissions: list[Admission] = []
    told = []
    for name, *values in steps:
        if name == "admit":
            limits, tokens = values
            admission = await limiter.admit(key_id, limits, tokens, f"call-{len(admissions)}")
            assert not admission.is_local
            admissions.append(admission)
            told.append(
                (
                    admission.decision.refused_by,
                    admission.decision.remaining_requests,
                    admission.decision.remaining_tokens,
                )
            )
        elif admissions:
            place, used = values
            admission = admissions.pop(place % len(admissions))
            if admission.decision.refused_by is None:
                await limiter.release(admission, used)
    return told


limits_of_keys = st.builds(
    RateLimits,
    requests_per_minute=st.none() | st.integers(1, 5),
    tokens_per_minute=st.none() | st.integers(1, 50),
    concurrency=st.none() | st.integers(1, 3),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    limits_of_keys,
    st.lists(
        st.tuples(st.just("admit"), st.integers(0, 20))
        | st.tuples(st.just("release"), st.integers(0, 9), st.integers(0, 30)),
        max_size=15,
    ),
)
def test_memory_decides_as_redis_does(limits: RateLimits, steps: list[tuple[Any, ...]]):
    program = tuple((step[0], limits, step[1]) if step[0] == "admit" else step for step in steps)
    window, now = LocalWindow(), int(time.time())
    admissions: list[tuple[str, int, int, bool]] = []
    told: list[Any] = []
    for name, *values in program:
        if name == "admit":
            figures = window.admit(now, limits, values[1], f"call-{len(told)}", CALL_LIFE_S)
            admissions.append((f"call-{len(told)}", now, values[1], figures[0] == 0))
            told.append(figures[0])
        elif admissions:
            call_id, second, tokens, admitted = admissions.pop(values[0] % len(admissions))
            if admitted:
                window.release(Admission(uuid.uuid4(), call_id, second, tokens, limits, None, True), values[1])  # type: ignore[arg-type]
    by_redis = [REFUSALS.index(refused_by) for refused_by, _, _ in in_redis(*program)]
    assert by_redis == told


REFUSALS = (None, "requests", "tokens", "concurrency")


def test_a_window_frees_what_is_older_than_a_minute():
    window, limits = LocalWindow(), RateLimits(requests_per_minute=2)
    assert [window.admit(1000, limits, 0, "a", 30)[0], window.admit(1030, limits, 0, "b", 30)[0]] == [0, 0]
    assert window.admit(1059, limits, 0, "c", 30)[:2] == [1, 1]
    assert window.admit(1060, limits, 0, "c", 30)[0] == 0
    assert window.admit(1061, limits, 0, "d", 30)[:2] == [1, 29]


def test_tokens_are_corrected_when_the_call_ends():
    limits = RateLimits(tokens_per_minute=100)
    told = in_redis(("admit", limits, 80), ("admit", limits, 30), ("release", 0, 20), ("admit", limits, 30))
    assert told == [(None, 0, 20), ("tokens", 0, 20), (None, 0, 50)]


def test_redis_forgets_a_key_that_rests():
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    before = set(client.keys("quantized:limits:*"))
    in_redis(("admit", RateLimits(requests_per_minute=1), 5))
    made = set(client.keys("quantized:limits:*")) - before
    assert len(made) == 3
    assert all(0 < client.ttl(name) <= 61 for name in made)
    client.close()
    assert names(uuid.UUID(int=1))[0] == "quantized:limits:{00000000000000000000000000000001}:requests"


# --- Over a socket ----------------------------------------------------------------------------------


def test_two_servers_grant_exactly_the_limit(
    server_environment: dict[str, str], gateway: Server, alice: Tenant, tmp_path: Path
):
    tenant = limited(alice, requests_per_minute=7)
    with start_server(server_environment, tmp_path) as other:
        assert asyncio.run(ask_at_once([gateway, other], tenant, 35)) == {200: 7, 429: 28}


def test_concurrency_is_exact_and_a_place_is_free_when_the_answer_is_there(
    gateway: Server, sandbox: SandboxServer, alice: Tenant
):
    tenant = limited(alice, concurrency=3)
    assert asyncio.run(ask_at_once([gateway], tenant, 12, "first_ms=1500")) == {200: 3, 429: 9}
    assert [ask(gateway, tenant).status_code for _ in range(5)] == [200] * 5
    streamed = [ask(gateway, tenant, stream=True).status_code for _ in range(5)]
    assert streamed == [200] * 5


def test_the_headers_tell_the_truth(gateway: Server, alice: Tenant):
    tenant = limited(alice, requests_per_minute=2, tokens_per_minute=100_000)
    first, second, refused = (ask(gateway, tenant) for _ in range(3))
    assert [first.status_code, second.status_code, refused.status_code] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in (first, second, refused)] == ["2"] * 3
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in (first, second, refused)] == ["1", "0", "0"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert first.headers["x-ratelimit-limit-tokens"] == "100000"
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "2 requests per minute" in error["message"]


def test_a_call_larger_than_the_limit_is_told_so(gateway: Server, alice: Tenant):
    tenant = limited(alice, tokens_per_minute=50)
    refused = ask(gateway, tenant, max_tokens=500)
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    assert refused.headers["x-should-retry"] == "false"
    assert ask(gateway, tenant, max_tokens=8).status_code == 200


def test_a_refused_hold_gives_its_place_back(gateway: Server, alice: Tenant):
    tenant = limited(alice, concurrency=1)
    assert ask(gateway, tenant, max_tokens=30_000).status_code == 402
    assert ask(gateway, tenant).status_code == 200


def test_a_key_without_limits_has_no_headers(gateway: Server, alice: Tenant):
    assert not [name for name in ask(gateway, alice).headers if name.startswith("x-ratelimit")]


def test_without_redis_a_process_grants_its_share(server_environment: dict[str, str], alice: Tenant, tmp_path: Path):
    tenant = limited(alice, requests_per_minute=8)
    environment = {**server_environment, "REDIS_URL": NOWHERE, "SERVER_PROCESSES": "2"}
    with start_server(environment, tmp_path) as server:
        assert asyncio.run(ask_at_once([server], tenant, 20)) == {200: 4, 429: 16}


class Scripts:
    """A Redis whose scripts are played, or those of a real one, which time out after they were heard, or before."""

    def __init__(self, real: redis.asyncio.Redis | None = None) -> None:
        self.real = real
        self.calls = 0
        self.is_late, self.is_deaf = False, real is None

    def register_script(self, script: str) -> Any:
        registered = self.real.register_script(script) if self.real else None

        async def run(**told: Any) -> Any:
            self.calls += 1
            if self.is_deaf or registered is None:
                raise redis.exceptions.TimeoutError
            answer = await registered(**told)
            if self.is_late:
                raise redis.exceptions.TimeoutError
            return answer

        return run

    async def aclose(self) -> None:
        if self.real:
            await self.real.aclose()


def test_redis_is_left_alone_after_one_failure():
    async def story() -> tuple[list[bool], int]:
        away = Scripts()
        limiter = Limiter(away, call_life_s=CALL_LIFE_S, processes=1)  # type: ignore[arg-type]
        key_id, limits = uuid.uuid4(), RateLimits(requests_per_minute=5)
        admissions = [await limiter.admit(key_id, limits, 0, str(n)) for n in range(4)]
        await limiter.close()
        return [admission.is_local for admission in admissions], away.calls

    assert asyncio.run(story()) == ([True] * 4, 1)


@pytest.mark.parametrize(("limits", "expected"), [(RateLimits(concurrency=1), 0), (RateLimits(5, 5, 5), 6)])
def test_only_limits_that_exist_are_told(limits: RateLimits, expected: int):
    window = LocalWindow()
    told = window.admit(1000, limits, 1, "a", 30)
    limiter = Limiter(Scripts(), call_life_s=1, processes=1)  # type: ignore[arg-type]
    admission = asyncio.run(limiter.admit(uuid.uuid4(), limits, 1, "a"))
    assert told[0] == 0
    assert len(headers(admission)) == expected


@pytest.mark.parametrize("trouble", ["an admission is answered too late", "a call ends while Redis is away"])
def test_places_are_given_back_when_redis_is_there_again(trouble: str):
    async def story() -> str | None:
        now = [1000.0]
        scripts = Scripts(redis.asyncio.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5))
        limiter = Limiter(scripts, call_life_s=1200, processes=1, clock=lambda: now[0])  # type: ignore[arg-type]
        key_id, limits = uuid.uuid4(), RateLimits(concurrency=1)
        scripts.is_late = trouble.startswith("an admission")
        admission = await limiter.admit(key_id, limits, 0, "first")
        assert admission.is_local == scripts.is_late
        scripts.is_late, scripts.is_deaf = False, True
        await limiter.release(admission, 0)
        scripts.is_deaf = False
        now[0] += REDIS_PAUSE_S
        again = await limiter.admit(key_id, limits, 0, "second")
        await limiter.close()
        assert not again.is_local
        return again.decision.refused_by

    assert asyncio.run(story()) is None
