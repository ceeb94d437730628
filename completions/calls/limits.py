"""How fast a key may call: requests and tokens in any sixty seconds, and calls at the same time.

Exact across processes: one script in Redis counts in buckets of a second and decides on Redis'
clock. Keys without a limit never come here. When Redis is away this process grants its own share of
each limit from memory; after one time-out Redis is left alone for a while, so no call waits for it
twice. Money does not depend on any of this.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from accounts.callers import RateLimits
from completions import errors

logger = logging.getLogger(__name__)

WINDOW_S = 60
REDIS_PAUSE_S = 5.0
PENDING_RELEASES_MAX = 100_000

Limit = Literal["requests", "tokens", "concurrency"]


class Decision(msgspec.Struct, frozen=True):
    """Whether a call may start. For each limit that the key has: what remains, and when all of it is back."""

    refused_by: Limit | None
    retry_after_s: float
    remaining_requests: int
    reset_requests_s: float
    remaining_tokens: int
    reset_tokens_s: float


class Admission(NamedTuple):
    """One call as the limits counted it, with the decision; give back with `release` what was let through."""

    key_id: UUID
    call_id: str
    second: int  # Unix time: the bucket its tokens were counted in
    tokens: int
    limits: RateLimits
    decision: Decision
    is_local: bool


class PendingRelease(NamedTuple):
    """A call that Redis still counts as running and need not: to be told as soon as Redis is there. `correction` is
    added to the tokens of the bucket `second`."""

    key_id: UUID
    call_id: str
    second: int
    correction: int


# KEYS: requests, tokens, running. ARGV: limits (-1: none) of requests, tokens, concurrency; tokens; call id; call life.
# Returns: refused by (0 none, 1 requests, 2 tokens, 3 concurrency), retry after, the bucket, and for requests
# and tokens: used in the window, seconds until the newest bucket leaves it.
SCRIPT = """
local now = tonumber(redis.call('TIME')[1])
local function window(key)
    local used, newest, buckets = 0, 0, {}
    local rows = redis.call('HGETALL', key)
    for i = 1, #rows, 2 do
        local second, count = tonumber(rows[i]), tonumber(rows[i + 1])
        if second <= now - 60 then
            redis.call('HDEL', key, rows[i])
        else
            used = used + count
            if second > newest and count > 0 then newest = second end
            buckets[#buckets + 1] = {second, count}
        end
    end
    table.sort(buckets, function(a, b) return a[1] < b[1] end)
    return used, newest, buckets
end
local function wait(buckets, excess)
    for _, bucket in ipairs(buckets) do
        excess = excess - bucket[2]
        if excess <= 0 then return bucket[1] + 60 - now end
    end
    return 60
end
local limits = {tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])}
local tokens = tonumber(ARGV[4])
local requests_used, requests_newest, requests_buckets = window(KEYS[1])
local tokens_used, tokens_newest, tokens_buckets = window(KEYS[2])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
local refused, retry = 0, 0
if limits[1] >= 0 and requests_used + 1 > limits[1] then
    refused, retry = 1, wait(requests_buckets, requests_used + 1 - limits[1])
elseif limits[2] >= 0 and tokens_used + tokens > limits[2] then
    refused, retry = 2, wait(tokens_buckets, tokens_used + tokens - limits[2])
elseif limits[3] >= 0 and redis.call('ZCARD', KEYS[3]) >= limits[3] then
    refused, retry = 3, 1
else
    redis.call('HINCRBY', KEYS[1], now, 1)
    redis.call('HINCRBY', KEYS[2], now, tokens)
    redis.call('ZADD', KEYS[3], now + tonumber(ARGV[6]), ARGV[5])
    for i = 1, 2 do redis.call('EXPIRE', KEYS[i], 61) end
    redis.call('EXPIRE', KEYS[3], tonumber(ARGV[6]) + 1)
    requests_used, requests_newest = requests_used + 1, now
    tokens_used, tokens_newest = tokens_used + tokens, now
end
local function reset(newest) if newest == 0 then return 0 end return newest + 60 - now end
return {refused, retry, now, requests_used, reset(requests_newest), tokens_used, reset(tokens_newest)}
"""

# KEYS: tokens, running. ARGV: bucket, correction, call id. A bucket that has left the window is left alone.
RELEASE = """
redis.call('ZREM', KEYS[2], ARGV[3])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2]) end
return 1
"""

REFUSED_BY: tuple[Limit | None, ...] = (None, "requests", "tokens", "concurrency")


class Limiter:
    def __init__(
        self,
        redis: Redis,
        *,
        call_life_s: float,
        processes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._call_life_s = math.ceil(call_life_s)
        self._processes = processes
        self._clock = clock
        self._local: dict[UUID, LocalWindow] = {}
        self._redis_away_until_s = 0.0
        self._pending: deque[PendingRelease] = deque(maxlen=PENDING_RELEASES_MAX)
        self._admit = redis.register_script(SCRIPT)
        self._release = redis.register_script(RELEASE)

    @classmethod
    def connect(cls, redis_url: str, *, timeout_s: float, call_life_s: float, processes: int) -> "Limiter":
        redis = Redis.from_url(redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        return cls(redis, call_life_s=call_life_s, processes=processes)

    async def admit(self, key_id: UUID, limits: RateLimits, tokens: int, call_id: str) -> Admission:
        """Count one more call, `call_id`, of this key, unless a limit refuses it: the admission's decision says so. A
        call that was admitted is to be given back by `release`; a refused one was not counted.

        `tokens` is the estimate that counts against the limit until then: half of the prompt's upper estimate, which is
        near what text has, and the output bound that the client named. Never raises for want of Redis."""
        if self._clock() >= self._redis_away_until_s:
            try:
                await self._give_back()
                return await self._admit_in_redis(key_id, limits, tokens, call_id)
            except (RedisError, OSError) as error:
                # Redis may have counted the call although its answer was lost.
                self._pending.append(PendingRelease(key_id, call_id, 0, 0))
                self._leave_redis_alone(error)
        return self._admit_locally(key_id, limits, tokens, call_id)

    async def release(self, admission: Admission, tokens_used: int) -> None:
        """The call has ended: another may run in its place, and the tokens it really used replace the estimate. Never
        raises for want of Redis: what Redis is to be told is kept for later."""
        if admission.is_local:
            self._window(admission.key_id).release(admission, tokens_used)
            return
        self._pending.append(
            PendingRelease(admission.key_id, admission.call_id, admission.second, tokens_used - admission.tokens)
        )
        if self._clock() < self._redis_away_until_s:
            return
        try:
            await self._give_back()
        except (RedisError, OSError) as error:
            self._leave_redis_alone(error)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _give_back(self) -> None:
        while self._pending:
            ended = self._pending.popleft()
            _, tokens, running = names(ended.key_id)
            try:
                await self._release(keys=[tokens, running], args=[ended.second, ended.correction, ended.call_id])
            except (RedisError, OSError):
                self._pending.append(ended._replace(correction=0))  # Redis may have made the correction: never twice
                raise

    async def _admit_in_redis(self, key_id: UUID, limits: RateLimits, tokens: int, call_id: str) -> Admission:
        args: list[str | int] = [
            *(-1 if limit is None else limit for limit in in_order(limits)),
            tokens,
            call_id,
            self._call_life_s,
        ]
        figures = [int(figure) for figure in await self._admit(keys=list(names(key_id)), args=args)]
        return admission_of(key_id, limits, tokens, call_id, figures, is_local=False)

    def _admit_locally(self, key_id: UUID, limits: RateLimits, tokens: int, call_id: str) -> Admission:
        share = RateLimits(
            *(limit if limit is None else max(1, limit // self._processes) for limit in in_order(limits))
        )
        figures = self._window(key_id).admit(int(self._clock()), share, tokens, call_id, self._call_life_s)
        return admission_of(key_id, share, tokens, call_id, figures, is_local=True)

    def _window(self, key_id: UUID) -> "LocalWindow":
        return self._local.setdefault(key_id, LocalWindow())

    def _leave_redis_alone(self, error: Exception) -> None:
        self._redis_away_until_s = self._clock() + REDIS_PAUSE_S
        logger.warning("Redis is away, rate limits are kept per process: %s", type(error).__name__)


class LocalWindow:
    """What SCRIPT does, for one key in this process's memory."""

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        self.tokens: dict[int, int] = {}
        self.running: dict[str, int] = {}  # call id → when its place is free at the latest

    def admit(self, now: int, limits: RateLimits, tokens: int, call_id: str, life_s: int) -> list[int]:
        for buckets in (self.requests, self.tokens):
            for second in [second for second in buckets if second <= now - WINDOW_S]:
                del buckets[second]
        self.running = {call: until for call, until in self.running.items() if until > now}
        refused, retry = self._decide(now, limits, tokens)
        if not refused:
            self.requests[now] = self.requests.get(now, 0) + 1
            self.tokens[now] = self.tokens.get(now, 0) + tokens
            self.running[call_id] = now + life_s
        windows = [(sum(b.values()), max(b) + WINDOW_S - now if b else 0) for b in (self.requests, self.tokens)]
        return [refused, retry, now, *windows[0], *windows[1]]

    def release(self, admission: Admission, tokens_used: int) -> None:
        self.running.pop(admission.call_id, None)
        if admission.second in self.tokens:
            self.tokens[admission.second] += tokens_used - admission.tokens

    def _decide(self, now: int, limits: RateLimits, tokens: int) -> tuple[int, int]:
        asked = ((self.requests, limits.requests_per_minute, 1), (self.tokens, limits.tokens_per_minute, tokens))
        for number, (buckets, limit, more) in enumerate(asked, start=1):
            if limit is not None and (excess := sum(buckets.values()) + more - limit) > 0:
                return number, wait_s(buckets, excess, now)
        if limits.concurrency is not None and len(self.running) >= limits.concurrency:
            return 3, 1
        return 0, 0


def wait_s(buckets: dict[int, int], excess: int, now: int) -> int:
    """Seconds until at least `excess` has left the window; `buckets` are counts by Unix second."""
    for second in sorted(buckets):
        excess -= buckets[second]
        if excess <= 0:
            return second + WINDOW_S - now
    return WINDOW_S


def admission_of(
    key_id: UUID, limits: RateLimits, tokens: int, call_id: str, figures: list[int], *, is_local: bool
) -> Admission:
    refused, retry, second, requests_used, requests_reset, tokens_used, tokens_reset = figures
    decision = Decision(
        refused_by=REFUSED_BY[refused],
        retry_after_s=retry,
        remaining_requests=max(0, (limits.requests_per_minute or 0) - requests_used),
        reset_requests_s=requests_reset,
        remaining_tokens=max(0, (limits.tokens_per_minute or 0) - tokens_used),
        reset_tokens_s=tokens_reset,
    )
    return Admission(key_id, call_id, second, tokens, limits, decision, is_local)


def rate_limited(admission: Admission) -> errors.RateLimited:
    limits, decision = admission.limits, admission.decision
    reasons = {
        "requests": f"more than {limits.requests_per_minute} requests per minute",
        "tokens": f"more than {limits.tokens_per_minute} tokens per minute",
        "concurrency": f"more than {limits.concurrency} calls at the same time",
    }
    message = f"This API key may not make {reasons[decision.refused_by or 'requests']}."
    if limits.tokens_per_minute is not None and admission.tokens > limits.tokens_per_minute:
        message += f" This one alone may use {admission.tokens} tokens; ask for less."
        return errors.RateLimited(message, limits=headers(admission))
    return errors.RateLimited(message, retry_after_s=decision.retry_after_s, limits=headers(admission))


def headers(admission: Admission) -> dict[str, str]:
    """The `x-ratelimit-*` headers that OpenAI's SDKs read, for the limits that the key has."""
    limits, decision = admission.limits, admission.decision
    found: dict[str, str] = {}
    if limits.requests_per_minute is not None:
        found["x-ratelimit-limit-requests"] = str(limits.requests_per_minute)
        found["x-ratelimit-remaining-requests"] = str(decision.remaining_requests)
        found["x-ratelimit-reset-requests"] = f"{decision.reset_requests_s:g}s"
    if limits.tokens_per_minute is not None:
        found["x-ratelimit-limit-tokens"] = str(limits.tokens_per_minute)
        found["x-ratelimit-remaining-tokens"] = str(decision.remaining_tokens)
        found["x-ratelimit-reset-tokens"] = f"{decision.reset_tokens_s:g}s"
    return found


def in_order(limits: RateLimits) -> tuple[int | None, int | None, int | None]:
    return limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency


def names(key_id: UUID) -> tuple[str, str, str]:
    """The Redis keys of requests, tokens and running calls. One hash tag: they live on the same node of a cluster."""
    base = f"quantized:limits:{{{key_id.hex}}}"
    return f"{base}:requests", f"{base}:tokens", f"{base}:running"
