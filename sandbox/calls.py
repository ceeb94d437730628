"""What the sandbox remembers of the calls it got: counts, times and names, never what was said.

With `keep` (in-process tests only) a call also holds its headers and body.
"""

import time
from collections import Counter, OrderedDict
from decimal import Decimal
from typing import Any, Literal

import msgspec

from sandbox.bill import NOTHING, Bill

CALLS_MAX = 20_000

State = Literal["received", "started", "finished", "cancelled", "refused", "failed"]


class Call(msgspec.Struct, kw_only=True):
    """One request for an answer. Times are Unix seconds.

    received → refused (answered with an error status), or → started (the first byte is out) →
    finished | cancelled (the client of a stream left) | failed (a fault ended it).
    """

    id: str
    path: str
    received_at: float
    state: State = "received"
    model: str = ""
    provider: str = ""
    stream: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    disconnected_at: float | None = None
    status: int | None = None
    refusal: str = ""
    fault: str = ""
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    delivered_tokens: int = 0
    bill: Bill = NOTHING
    billed_usd: Decimal | None = None
    generation_ms: float = 0
    max_tokens: int | None = None
    fields: list[str] = []
    header_names: list[str] = []
    body_bytes: int = 0
    body_sha256: str = ""
    user: str = ""
    kept_headers: dict[str, str] | None = None
    kept_body: bytes | None = None

    @property
    def is_over(self) -> bool:
        return self.finished_at is not None

    @property
    def total_usd(self) -> Decimal:
        return self.bill.cost_usd if self.billed_usd is None else self.billed_usd

    def view(self) -> dict[str, Any]:
        """As `GET /_sandbox/calls` shows it: kept headers and bodies stay in the process."""
        hidden = ("kept_headers", "kept_body", "bill", "billed_usd", "user")
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in hidden}
        usage = self.bill.usage
        return shown | {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost": float(self.bill.cost_usd),
            "total_cost": float(self.total_usd),
            "client_disconnected": self.disconnected_at is not None,
        }


class Journal:
    """The newest calls, and counters over all of them."""

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self.reset()

    def reset(self) -> None:
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._open: set[str] = set()
        self._over: Counter[str] = Counter()
        self.received = 0
        self.usage_usd = Decimal(0)

    def open(self, call: Call) -> None:
        self.received += 1
        self._calls[call.id] = call
        self._open.add(call.id)
        if len(self._calls) > CALLS_MAX:
            self._calls.popitem(last=False)

    def close(self, call: Call, state: State) -> None:
        call.state = state
        call.finished_at = time.time()
        if call.id not in self._open:
            return  # it began before a reset: nobody asks for it any more
        self._open.discard(call.id)
        self._over[state] += 1
        self.usage_usd += call.bill.cost_usd

    @property
    def calls(self) -> list[Call]:
        return list(self._calls.values())

    def find(self, generation_id: str) -> Call | None:
        """A call that ended long enough ago to be known, and was more than a refusal."""
        call = self._calls.get(generation_id)
        if call is None or call.finished_at is None or call.state == "refused":
            return None
        return call if time.time() >= call.finished_at + call.generation_ms / 1000 else None

    def counters(self) -> dict[str, int]:
        over = {state: self._over[state] for state in ("finished", "cancelled", "refused", "failed")}
        return {"received": self.received, **over, "in_flight": len(self._open)}
