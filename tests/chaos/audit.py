"""Afterwards: what became of every completion that the sandbox served, and whether clients were told the truth.

The sandbox is the provider's side: what it served, and its bill. The books are ours. Every served call has to be found
in them exactly once: charged (by the provider's figures, by an estimate, or by an estimate and a correction), or as the
operator's loss with a reason.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import dict_row

from billing import money
from completions.sandbox.calls import Call
from tests.chaos.load import Told

HOLDS = """
SELECT h.id, h.key_id, h.state, h.amount, h.actual, h.charged, h.provider_ref, h.provider, h.dispatched_at,
       extract(epoch FROM h.created_at)::float8 AS created_at, extract(epoch FROM h.resolved_at)::float8 AS resolved_at,
       u.estimated, u.cancelled, u.error_code, u.reconciliation, u.provider_ref AS usage_ref, u.attempts,
       e.entries, e.corrections, e.balance_after, e.net, x.waiting, l.reason AS loss_reason
FROM billing_hold h
LEFT JOIN billing_usage u ON u.hold_id = h.id
LEFT JOIN (SELECT hold_id, count(*) FILTER (WHERE kind <> 'correction') AS entries,
                  count(*) FILTER (WHERE kind = 'correction') AS corrections,
                  max(balance_after) FILTER (WHERE kind <> 'correction') AS balance_after, -sum(amount)::bigint AS net
           FROM billing_entry WHERE hold_id IS NOT NULL GROUP BY 1) e ON e.hold_id = h.id
LEFT JOIN (SELECT hold_id, sum(amount_micro)::bigint AS waiting FROM billing_extracharge GROUP BY 1) x
       ON x.hold_id = h.id
LEFT JOIN billing_loss l ON l.hold_id = h.id
"""
CLOCK_SLACK_S = 0.5


class Audit(msgspec.Struct):
    """How the served calls ended, by a word each, and everything that is not as it should be."""

    served: int = 0
    ends: dict[str, int] = {}
    wrong: list[str] = []


def audit(
    database_url: str, calls: Sequence[Call], told: Iterable[Told], keys: Sequence[UUID], rate: money.CreditRate
) -> Audit:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        holds = connection.execute(HOLDS).fetchall()
    result = Audit()
    told = list(told)
    Served(holds, told, keys, rate, result).check(calls)
    check_told(holds, told, result)
    check_holds(holds, result)
    return result


class Served:
    """Each call of the sandbox's against the holds."""

    def __init__(
        self, holds: list[dict[str, Any]], told: list[Told], keys: Sequence[UUID], rate: money.CreditRate, result: Audit
    ) -> None:
        self.rate, self.result = rate, result
        self.keys = keys
        self.by_ref: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.by_key: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
        for hold in holds:
            for ref in {hold["provider_ref"], hold["usage_ref"], *refs_of_attempts(hold)} - {"", None}:
                self.by_ref[ref].append(hold)
            self.by_key[hold["key_id"]].append(hold)
        self.told = {one.tag: one for one in told}
        self.taken: set[UUID] = set()

    def check(self, calls: Sequence[Call]) -> None:
        served = [call for call in calls if call.state != "refused" and call.started_at is not None]
        self.result.served = len(served)
        ends = Counter(self.end(call) for call in served)
        self.result.ends = dict(sorted(ends.items()))

    def end(self, call: Call) -> str:
        found = self.by_ref.get(call.id, [])
        if len(found) > 1:
            self.result.wrong.append(f"{call.id} is the call of {len(found)} holds")
        if found:
            return self.known(call, found[0])
        return self.unnamed(call)

    def known(self, call: Call, hold: dict[str, Any]) -> str:
        """The books know the provider's id of the call."""
        self.taken.add(hold["id"])
        if hold["usage_ref"] not in (None, call.id):
            return "loss: a failed attempt before another provider answered"
        if hold["charged"] is None:
            return self.unpaid(call, hold)
        self.check_sum(call, hold)
        if hold["corrections"]:
            return "estimated and corrected" if hold["estimated"] else "corrected"
        if hold["waiting"]:
            return "an extra charge waits for the operator"
        return "settled with an estimate" if hold["estimated"] else "settled"

    def unpaid(self, call: Call, hold: dict[str, Any]) -> str:
        """Its tenant paid nothing. What OpenRouter billed is a loss with a reason; of Anthropic's nobody tells the cost
        of one call, and the reason is how it failed."""
        if not call.total_usd:
            return "failed, and nothing billed"
        reason = hold["loss_reason"] or ("" if is_looked_up(call) else hold["error_code"])
        if not reason:
            self.result.wrong.append(
                f"{call.id} cost {call.total_usd} USD: hold {hold['id']} is {hold['state']}, no loss"
            )
        return f"loss: {reason or 'unaccounted'}"

    def check_sum(self, call: Call, hold: dict[str, Any]) -> None:
        """What OpenRouter bills is what was charged in the end, waits for the operator, or is the operator's loss."""
        if not is_looked_up(call):
            return
        expected = self.rate.micro(money.pico(call.total_usd))
        booked = hold["net"] + (hold["waiting"] or 0) + hold["actual"] - hold["charged"]
        if booked != expected and hold["actual"] == hold["charged"]:
            self.result.wrong.append(f"{call.id} should cost {expected}, booked are {booked}: hold {hold['id']}")

    def unnamed(self, call: Call) -> str:
        """We never learned its id: the client left or the process died before the answer's head. One hold of the same
        client and time, not charged, has to stand for it."""
        told = self.asked_by(call)
        if told is None:
            self.result.wrong.append(f"nobody asked for {call.id}")
            return "unaccounted"
        for hold in self.by_key[self.keys[told.client]]:
            fits = hold["created_at"] <= call.received_at + CLOCK_SLACK_S and (
                hold["resolved_at"] is None or hold["resolved_at"] >= call.received_at - CLOCK_SLACK_S
            )
            if fits and hold["id"] not in self.taken and hold["charged"] is None:
                self.taken.add(hold["id"])
                return f"loss: {hold['loss_reason'] or hold['error_code'] or hold['state']}, before its id was known"
        self.result.wrong.append(f"{call.id} ({call.state}, {call.total_usd} USD, {told.tag}) is in no hold")
        return "unaccounted"

    def asked_by(self, call: Call) -> Told | None:
        body = (call.kept_body or b"").decode(errors="replace")
        at = body.find("chaos-")
        return self.told.get(body[at : body.find(".", at) + 1]) if at >= 0 else None


def is_looked_up(call: Call) -> bool:
    """Anthropic tells no bill of one call."""
    return not call.path.endswith("/messages")


def refs_of_attempts(hold: dict[str, Any]) -> set[str]:
    return {attempt.get("provider_ref", "") for attempt in hold["attempts"] or ()}


def check_told(holds: list[dict[str, Any]], told: Iterable[Told], result: Audit) -> None:
    """credits_used is what the entry took, credits_remaining its balance; nobody was left without a word by a server
    that went politely."""
    by_id = {f"gen-{hold['id'].hex}": hold for hold in holds}
    for one in told:
        if one.used is None:
            continue
        hold = by_id.get(one.generation)
        if hold is None or hold["charged"] != one.used or one.remaining not in (None, hold["balance_after"]):
            result.wrong.append(f"{one.tag} was told {one.used} used and {one.remaining} left, the books say {hold}")


def check_holds(holds: list[dict[str, Any]], result: Audit) -> None:
    for hold in holds:
        if hold["state"] == "open":
            result.wrong.append(f"hold {hold['id']} is open")
        if (hold["entries"] or 0) > 1:
            result.wrong.append(f"hold {hold['id']} was charged {hold['entries']} times")
