"""A tenant with six weeks behind it, for the eye and for axe: members, keys, vouchers, and calls of every kind.

Every movement goes through the ledger under PostgreSQL's held clock, so the books verify. The same seed makes the same
weeks, counted back from today.
"""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction

from accounts import team
from accounts.models import ApiKey, Invitation, Membership, Organization, User
from accounts.services import add_member, create_organization, create_user, issue_key, revoke_key
from billing.credits import operations, vouchers
from billing.credits.operations import Asked
from billing.ledger import journal
from billing.ledger.commands import AnyCommand, Post, Posted, Reserve, Settle, Void
from billing.notices import alerts, webhooks
from billing.pricing import money
from billing.usage import rollups
from common.ids import generation_id
from completions.models import Route
from tests.kit.books import make_hold_id, make_receipt
from tests.kit.clock import DatabaseClock
from tests.kit.people import PASSWORD

DAYS = 42
CREDIT = 1_000_000
MODELS = {  # and how often each is asked, of a hundred
    "openai/gpt-4.1-mini": 38,
    "anthropic/claude-opus-5.5": 9,
    "openai/gpt-5.4-mini": 22,
    "openai/gpt-4o-mini": 16,
    "openai/gpt-5.4": 10,
    "openai/gpt-5-nano": 5,
}
KEYS = {"production": 60, "nightly evaluation": 25, "staging": 15}


class Populated(NamedTuple):
    owner: User
    newcomer: User  # of an organization of their own, where nothing has happened yet
    operator: User
    organization: UUID
    key: UUID
    member: int
    invitation: str  # its token
    receipt: str
    failed: str
    request: UUID  # of an operator, that waits for another one
    route: int
    provider: int
    rule: UUID
    endpoint: UUID


def populate(now: datetime) -> Populated:
    founding = create_organization("Northwind Labs", f"alice-{uuid4().hex[:6]}@northwind.example", PASSWORD)
    organization, owner = founding.organization, founding.owner
    bob = add_member(organization, create_user(f"bob-{uuid4().hex[:6]}@northwind.example"), "developer")
    add_member(organization, create_user(f"carol-{uuid4().hex[:6]}@northwind.example"), "billing")
    second = create_organization("Northwind Research", f"dana-{uuid4().hex[:6]}@northwind.example", PASSWORD)
    add_member(second.organization, owner, "viewer")
    keys = make_keys(organization, owner)
    began = now - timedelta(days=DAYS)
    made_earlier(organization, began)
    with transaction.atomic():
        clock = DatabaseClock(began)
        calls = six_weeks(organization.pk, keys, clock, now)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL search_path TO DEFAULT; DROP SCHEMA held_clock CASCADE")
    rollups.roll_up()
    rollups.rebuild(began - timedelta(days=1))
    _, [code] = vouchers.create_batch("conference", 1, 40 * CREDIT, credit_days=90, created_by="operator")
    vouchers.redeem(organization.pk, code, owner.pk)
    newcomer = create_organization("Newcomers", f"nora-{uuid4().hex[:6]}@new.example", PASSWORD).owner
    operator = User.objects.create_superuser(f"operator-{uuid4().hex[:6]}@example.com", PASSWORD)
    wanted = Asked(
        id=uuid4(),
        kind="grant",
        organization_id=organization.pk,
        reason="Their yearly contract",
        amount_micro=settings.APPROVAL_ABOVE_MICRO + CREDIT,
    )
    route = Route.objects.get(model_id="anthropic/claude-opus-5.5", provider__name="anthropic")
    return Populated(
        owner=owner,
        newcomer=newcomer,
        operator=operator,
        organization=organization.pk,
        key=keys["production"].pk,
        member=bob.pk,
        invitation=invite(organization, owner),
        receipt=generation_id(calls["answered"]),
        failed=generation_id(calls["failed"]),
        request=operations.request(wanted, operator).pk,
        route=route.pk,
        provider=route.provider_id,
        rule=alerts.create_rule(organization.pk, "low_balance", 200 * CREDIT).pk,
        endpoint=webhooks.create_endpoint(organization.pk, "https://hooks.northwind.example/quantized").endpoint.pk,
    )


def make_keys(organization: Organization, owner: User) -> dict[str, ApiKey]:
    limits: dict[str, dict[str, Any]] = {
        "production": {"limit_micro": 900 * CREDIT, "limit_period": "month"},
        "nightly evaluation": {"limit_micro": 60 * CREDIT, "limit_period": "week", "models": list(MODELS)[:3]},
        "staging": {},
    }
    keys = {name: issue_key(organization, name, created_by=owner, **given)[0] for name, given in limits.items()}
    ended, _ = issue_key(organization, "old laptop", created_by=owner)
    revoke_key(ended.pk)
    return keys


def made_earlier(organization: Organization, began: datetime) -> None:
    ApiKey.objects.filter(organization_id=organization.pk).update(created_at=began)
    ApiKey.objects.filter(organization_id=organization.pk, revoked_at=None).update(last_used_at=datetime.now(UTC))
    Membership.objects.filter(organization_id=organization.pk).update(created_at=began)


def invite(organization: Organization, owner: User) -> str:
    """The token of an invitation that waits: it stands only in a mail, so this one is told another."""
    actor = Membership.objects.get(organization=organization, user=owner)
    waiting = team.invite(actor, f"erin-{uuid4().hex[:6]}@northwind.example", "developer")
    token = uuid4().hex + uuid4().hex[:11]
    Invitation.objects.filter(pk=waiting.pk).update(digest=team.digest(token))
    return token


# --- Six weeks --------------------------------------------------------------------------------------


def six_weeks(organization_id: UUID, keys: dict[str, ApiKey], clock: DatabaseClock, now: datetime) -> dict[str, UUID]:
    chance = Random(7)
    routes = {route.model_id: route for route in Route.objects.filter(model_id__in=MODELS).select_related("price")}
    rate = money.CreditRate.of(settings.CREDITS_PER_USD, settings.MARGIN)
    post(organization_id, "purchase", 2_000 * CREDIT, "Card payment")
    post(organization_id, "grant", 50 * CREDIT, "Welcome to Northwind")
    last: dict[str, UUID] = {}
    for at in moments(chance, now):
        clock.set(at)
        name = picked(chance, MODELS)
        route, key = routes[name], keys[picked(chance, KEYS)]
        call = Call(organization_id, key.pk, name, route.price_id, route.price.to_struct(), rate)
        kind, hold_id, commands = call.made(chance, at)
        journal.execute(commands)
        last[kind] = hold_id
        if kind == "answered" and chance.random() < 0.004:
            post(organization_id, "correction", 12_500, "The provider billed less", hold_id=hold_id)
    clock.set(now - timedelta(minutes=2))
    post(organization_id, "refund", -100 * CREDIT, "Asked for by mail")
    return last


def moments(chance: Random, now: datetime) -> Iterator[datetime]:
    """More from week to week, fewer at the weekend and at night; the last call was minutes ago."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(DAYS - 1, -1, -1):
        start = midnight - timedelta(days=day)
        weekday = 0.35 if start.weekday() >= 5 else 1.0
        number = round((14 + 16 * (DAYS - day) / DAYS) * weekday * chance.uniform(0.8, 1.25))
        hours = sorted(min(23.99, max(0.0, chance.gauss(13.5, 4))) for _ in range(number))
        for hour in hours:
            at = start + timedelta(hours=hour)
            if at < now - timedelta(minutes=5):
                yield at
    yield now - timedelta(minutes=4)


def picked(chance: Random, weights: dict[str, int]) -> str:
    return chance.choices(list(weights), list(weights.values()))[0]


def post(organization_id: UUID, kind: str, amount: int, reason: str, hold_id: UUID | None = None) -> None:
    [done] = journal.execute(
        [
            Post(
                wallet_id=organization_id,
                kind=kind,
                amount=amount,
                actor="operator",
                reason=reason,
                idempotency_key=str(uuid4()),
                hold_id=hold_id,
            )
        ]
    )
    assert isinstance(done, Posted), done


class Call(NamedTuple):
    wallet_id: UUID
    key_id: UUID
    model: str
    price_id: int
    price: money.Price
    rate: money.CreditRate

    def made(self, chance: Random, at: datetime) -> tuple[str, UUID, list[AnyCommand]]:
        """How it ended, its hold, and what the gateway told the ledger."""
        hold_id = make_hold_id(at)
        provider = "anthropic" if self.model.startswith("anthropic/") else "openrouter"
        usage = self.used(chance)
        cost_pico = money.cost_pico(usage, self.price)
        charged = self.rate.micro(cost_pico)
        reserve = Reserve(
            wallet_id=self.wallet_id,
            hold_id=hold_id,
            key_id=self.key_id,
            model=self.model,
            provider=provider,
            amount=charged * 3,
            floor=charged,
            life_s=600.0,
            price_id=self.price_id,
            user_id=None,
        )
        told: dict[str, Any] = {"model": self.model, "provider": provider, "price_id": self.price_id}
        told["provider_ref"] = f"gen-{hold_id.hex[:20]}"
        if chance.random() < 0.03:
            attempt = {"provider": provider, "outcome": "unavailable", "milliseconds": 30_000}
            failed = make_receipt(**told, error_code="provider_unavailable", attempts=(attempt,), latency_ms=30_004)
            void = Void(wallet_id=self.wallet_id, hold_id=hold_id, key_id=self.key_id, receipt=failed)
            return "failed", hold_id, [reserve, void]
        latency_ms = 250 + usage.completion_tokens * 9 + chance.randrange(400)
        ended = {
            "usage": usage,
            "cost_pico": cost_pico,
            "streamed": chance.random() < 0.6,
            "finish_reason": "length" if chance.random() < 0.05 else "stop",
            "attempts": ({"provider": provider, "outcome": "ok", "milliseconds": latency_ms},),
            "first_token_ms": 180 + chance.randrange(500),
            "latency_ms": latency_ms,
            "estimated": chance.random() < 0.01,
            "cancelled": chance.random() < 0.01,
        }
        receipt = make_receipt(**told, **ended)
        settle = Settle(wallet_id=self.wallet_id, hold_id=hold_id, key_id=self.key_id, actual=charged, receipt=receipt)
        return "answered", hold_id, [reserve, settle]

    @staticmethod
    def used(chance: Random) -> money.Usage:
        prompt = int(math.exp(chance.gauss(8.4, 0.9)))
        completion = int(math.exp(chance.gauss(6.3, 0.7)))
        cached = int(prompt * 0.6) if chance.random() < 0.3 else 0
        return money.Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)
