"""Afterwards: what became of every completion that the sandbox served, and whether clients were told the truth.

The sandbox is the provider's side: what it served, and its bill. The books are ours. Every served call has to be found
in them exactly once: charged (by the provider's figures, by an estimate, or by an estimate and a correction), or as the
operator's loss with a reason.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import dict_row

from billing.pricing import money
from sandbox.calls import Call
from tests.chaos.faults import Span
from tests.chaos.load import Told
from tests.chaos.stack import FLAKY, TIMES

HOLDS = """
SELECT h.id, h.key_id, h.state, h.amount, h.actual, h.charged, h.provider_ref, h.provider, h.dispatched_at,
       extract(epoch FROM h.created_at)::float8 AS created_at, extract(epoch FROM h.resolved_at)::float8 AS resolved_at,
       u.estimated, u.cancelled, u.error_code, u.reconciliation, u.provider_ref AS usage_ref,
       coalesce(f.attempts, '{}') AS failed_attempts,
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
LEFT JOIN (SELECT hold_id, json_object_agg(provider_ref, billed_cost_usd::text) AS attempts
           FROM billing_failedattempt GROUP BY 1) f ON f.hold_id = h.id
"""
CLOCK_SLACK_S = 0.5
CALL_MAX_S = float(TIMES["CALL_MAX_S"])


class Audit(msgspec.Struct):
    """How the served calls ended, by a word each, and everything that is not as it should be."""

    served: int = 0
    twins: int = 0  # requests that were answered more than once, alike
    asked_of_the_leaving: int = 0  # requests that ended while their server was stopping
    ends: dict[str, int] = {}
    wrong: list[str] = []


def audit(
    database_url: str,
    calls: Sequence[Call],
    told: Sequence[Told],
    keys: Sequence[UUID],
    rate: money.CreditRate,
    killed: Sequence[Span],
    polite: Sequence[Span],
) -> Audit:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        holds = connection.execute(HOLDS).fetchall()
    result = Audit()
    Served(holds, told, keys, rate, result).check(calls)
    check_told(holds, told, result)
    check_twins(holds, told, result)
    check_polite(told, polite, result)
    check_holds(holds, killed, result)
    return result


class Served:
    """Each call of the sandbox's against the holds."""

    def __init__(
        self,
        holds: list[dict[str, Any]],
        told: Sequence[Told],
        keys: Sequence[UUID],
        rate: money.CreditRate,
        result: Audit,
    ) -> None:
        self.rate, self.result = rate, result
        self.keys = keys
        self.by_ref: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.by_key: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
        for hold in holds:
            for ref in {hold["provider_ref"], hold["usage_ref"], *hold["failed_attempts"]} - {"", None}:
                self.by_ref[ref].append(hold)
            self.by_key[hold["key_id"]].append(hold)
        self.told = {one.tag: one for one in told}
        self.taken: dict[UUID, list[str]] = defaultdict(
            list
        )  # by hold, the requests whose upstream calls it stands for

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
        if call.id in hold["failed_attempts"]:
            return self.failed_attempt(call, hold)
        self.taken[hold["id"]].append(call.id)
        if hold["charged"] is None:
            return self.unpaid(call, hold)
        self.check_sum(call, hold)
        if hold["corrections"]:
            return "estimated and corrected" if hold["estimated"] else "corrected"
        if hold["waiting"]:
            return "an extra charge waits for the operator"
        return "settled with an estimate" if hold["estimated"] else "settled"

    def failed_attempt(self, call: Call, hold: dict[str, Any]) -> str:
        """Another provider was asked instead: what this one billed is a loss, to the last digit."""
        told = hold["failed_attempts"][call.id]
        if told is None or Decimal(told) != call.total_usd:
            self.result.wrong.append(f"{call.id} cost {call.total_usd} USD, its failed attempt says {told}")
        return "loss: failed_attempt" if call.total_usd else "failed, and nothing billed"

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
            if hold["net"] != hold["charged"]:
                self.result.wrong.append(f"{call.id} was charged {hold['charged']}, booked are {hold['net']}")
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
        between_two = False
        for hold in self.by_key[self.keys[told.client]]:
            fits = hold["created_at"] <= call.received_at + CLOCK_SLACK_S and (
                hold["resolved_at"] is None or hold["resolved_at"] >= call.received_at - CLOCK_SLACK_S
            )
            # A server that died before it had marked anything may have asked both routes of a call.
            asked = self.taken[hold["id"]]
            is_free = not asked or (told.provider == FLAKY and asked == [told.tag])
            if fits and is_free and hold["charged"] is None:
                asked.append(told.tag)
                return f"loss: {hold['loss_reason'] or hold['error_code'] or hold['state']}, before its id was known"
            between_two |= fits and told.provider == FLAKY and hold["error_code"] == "server_lost"
        if between_two:  # the sweeper settled the first route; of the second only the day's comparison tells
            return "loss: its server died between two routes, before the second one's id was known"
        if not call.total_usd:  # an attempt at a provider that died on it, before another one answered
            return "failed, and nothing billed"
        self.result.wrong.append(f"{call.id} ({call.state}, {call.total_usd} USD, {told.tag}) is in no hold")
        return "unaccounted"

    def asked_by(self, call: Call) -> Told | None:
        body = (call.kept_body or b"").decode(errors="replace")
        at = body.find("chaos-")
        return self.told.get(body[at : body.find(".", at) + 1]) if at >= 0 else None


def is_looked_up(call: Call) -> bool:
    """Anthropic tells no bill of one call."""
    return not call.path.endswith("/messages")


def check_told(holds: list[dict[str, Any]], told: Sequence[Told], result: Audit) -> None:
    """credits_used is what the entry took, credits_remaining its balance."""
    by_id = {f"gen-{hold['id'].hex}": hold for hold in holds}
    for one in told:
        if one.used is None:
            continue
        hold = by_id.get(one.generation)
        if hold is None or hold["charged"] != one.used or one.remaining not in (None, hold["balance_after"]):
            result.wrong.append(f"{one.tag} was told {one.used} used and {one.remaining} left, the books say {hold}")


def check_twins(holds: list[dict[str, Any]], told: Sequence[Told], result: Audit) -> None:
    """Requests with one Idempotency-Key that were answered got one answer, of one call."""
    families: dict[str, list[Told]] = defaultdict(list)
    for one in told:
        if one.idempotency_key and one.status == 200 and one.used is not None:
            families[one.idempotency_key].append(one)
    for key, family in families.items():
        if len({(one.generation, one.said, one.used, one.remaining) for one in family}) > 1:
            result.wrong.append(f"{key} was answered in different ways: {family}")
    result.twins = sum(len(family) > 1 for family in families.values())


def check_polite(told: Sequence[Told], polite: Sequence[Span], result: Audit) -> None:
    """Nobody was left without a word by a server that was asked to go: a whole answer, a whole error, or no connection
    at all."""
    for one in told:
        is_clear = one.is_whole or one.left or one.trouble == "ConnectionRefusedError"
        if any(one.port == span.port and span.began_at <= one.ended_at <= span.ended_at for span in polite):
            result.asked_of_the_leaving += 1
            if not is_clear:
                result.wrong.append(f"a server that was asked to go left {one.tag} without a word: {one}")


def check_holds(holds: list[dict[str, Any]], killed: Sequence[Span], result: Audit) -> None:
    for hold in holds:
        is_lost = (hold["state"] == "expired" and hold["charged"] is None) or hold["error_code"] == "server_lost"
        if is_lost and not any(
            hold["created_at"] - CLOCK_SLACK_S <= span.began_at <= hold["created_at"] + CALL_MAX_S + CLOCK_SLACK_S
            for span in killed
        ):
            result.wrong.append(f"hold {hold['id']} was never closed, although nobody was killed while it was open")
        if hold["state"] == "open":
            result.wrong.append(f"hold {hold['id']} is open")
        if (hold["entries"] or 0) > 1:
            result.wrong.append(f"hold {hold['id']} was charged {hold['entries']} times")
