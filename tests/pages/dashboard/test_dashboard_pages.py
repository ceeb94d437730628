"""Models, playground, team, settings; and how numbers look."""

import pytest
from django.test import Client

from accounts import principals, tokens
from accounts.models import Organization, RefreshToken, TokenFamily
from accounts.services import suspend
from billing.usage.rollups import roll_up
from completions.catalog.capabilities import CAPABILITIES
from quantized.dashboard.models import LABELS
from quantized.templatetags import numbers
from tests.kit.catalogs import make_price, make_provider, make_route
from tests.kit.dashboard import call, text
from tests.kit.tenants import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def credits_micro() -> int:
    return 10_000_000


@pytest.fixture
def owner(alice: Tenant) -> Client:
    return alice.client


# --- Models -----------------------------------------------------------------------------------------


def test_every_capability_has_a_label():
    assert set(LABELS) == set(CAPABILITIES)


def test_models_are_listed_with_prices_in_dollars_and_credits(owner: Client):
    make_route()
    page = text(owner.get("/models"))
    assert "1 model served now. Prices are for a million tokens." in page
    assert "GPT-4.1 Mini openai/gpt-4.1-mini" in page
    assert "1.04 M $0.40 42.1052 cr $1.60 168.421 cr Tools Structured output JSON Log probabilities +3 1" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["a/seer", "b/talker"]),
        ({"q": "SEER"}, ["a/seer"]),
        ({"q": "mini talker"}, ["b/talker"]),
        ({"able": "image_input"}, ["a/seer"]),
        ({"able": "image_input", "q": "talker"}, []),
        ({"able": "levitation"}, ["a/seer", "b/talker"]),
    ],
)
def test_models_are_searched_and_filtered(query: dict[str, str], found: list[str], owner: Client):
    make_route("a/seer", capabilities=["image_input"])
    make_route("b/talker", capabilities=["tools"])
    page = owner.get("/models", query)
    assert [card.id for card in page.context["cards"]] == found
    assert ("No model matches" in text(page)) == (not found)


def test_a_model_page_has_every_price_of_every_provider(owner: Client):
    tiers = [{"above_prompt_tokens": 200_000, "input": "0.80", "output": "3.20"}]
    make_route(price=make_price(tiers=tiers))
    make_route(provider=make_provider("second", kind="openai", base_url="https://api.example.com/v1"), priority=1)
    page = text(owner.get("/models/openai/gpt-4.1-mini"))
    assert "openrouter Asked first · price version 1" in page
    assert "Cached input 1 M tokens $0.10 10.5263 Web searches each $0.01 1.0526" in page
    assert "Prompts above 200,000 tokens Input 1 M tokens $0.80 84.2105" in page
    assert "second Asked when those above cannot answer" in page


def test_a_model_page_tells_how_its_providers_did(owner: Client, alice: Tenant):
    make_route()
    make_route(provider=make_provider("second", kind="openai", base_url="https://api.example.com/v1"), priority=1)
    model = "openai/gpt-4.1-mini"
    failed, fine = (
        {"provider": "openrouter", "outcome": outcome, "milliseconds": 300} for outcome in ("unavailable", "ok")
    )
    for attempts in ([failed, fine], [fine], [fine]):
        call(alice, model=model, provider="openrouter", attempts=attempts, latency_ms=1_600, first_token_ms=420)
    roll_up()
    page = text(owner.get(f"/models/{model}"))
    assert "Uptime, 7 days 75 % First token, on average 420 ms Whole answer, on average 1.6 s" in page
    assert "Uptime, 7 days not asked lately First token, on average – Whole answer, on average –" in page


@pytest.mark.parametrize(("part", "shown"), [(1.0, "100 %"), (0.99999, "99.9 %"), (0.5, "50 %"), (0.0, "0 %")])
def test_a_share_is_cut_off(part: float, shown: str):
    assert numbers.share(part) == shown


def test_without_a_model_the_page_says_who_enables_them(owner: Client):
    assert "No model is served now" in text(owner.get("/models"))
    assert "No model is served now" in text(owner.get("/playground"))


# --- Playground -------------------------------------------------------------------------------------


def test_the_playground_offers_what_is_served_and_begins_with_the_one_asked_for(owner: Client):
    make_route("a/x")
    make_route("b/y", capabilities=["reasoning"])
    html = owner.get("/playground", {"model": "b/y"}).content.decode()
    assert '<option value="b/y" data-able="reasoning" selected>' in html
    assert '<option value="a/x" data-able="image_input' in html


def test_the_browser_gets_a_short_token_of_the_member_and_no_key(alice: Tenant, owner: Client):
    make_route("a/x")
    before = TokenFamily.objects.count()
    answer = owner.post("/playground/token")
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert set(told) == {"access_token", "expires_in"}
    assert told["expires_in"] == tokens.LIFE_S
    principal = principals.load_principal(told["access_token"])
    assert (principal.organization_id, principal.role, principal.key_id) == (alice.organization_id, "owner", None)
    assert TokenFamily.objects.count() == before + 1
    token = RefreshToken.objects.get(family__organization_id=alice.organization_id)
    assert (token.expires_at - token.created_at).total_seconds() < tokens.LIFE_S + 1


def test_a_token_is_given_to_members_alone_and_by_post(client: Client, owner: Client, alice: Tenant):
    assert client.post("/playground/token").status_code == 302
    assert owner.get("/playground/token").status_code == 405
    checked = Client(enforce_csrf_checks=True)
    checked.cookies = owner.cookies
    assert checked.post("/playground/token").status_code == 403
    suspend(alice.organization_id)
    refused = owner.post("/playground/token")
    assert (refused.status_code, refused.json()) == (403, {"error": "This organization is suspended."})
    assert not TokenFamily.objects.exists()


@pytest.mark.parametrize(("role", "spends"), [("developer", True), ("billing", False), ("viewer", False)])
def test_who_may_not_spend_is_told_before_the_first_word(role: str, spends: bool, alice: Tenant):
    make_route()
    page = alice.member(role).client.get("/playground")
    assert ("may not spend the organization’s credits" in text(page)) == (not spends)
    assert ('id="send" disabled' in page.content.decode()) == (not spends)


# --- Team and settings ------------------------------------------------------------------------------


def test_the_team_is_listed_with_roles(alice: Tenant, owner: Client):
    alice.member("viewer", "bob@example.org")
    page = text(owner.get("/team"))
    assert "2 members of" in page
    assert "alice@example.org you owner just now Change role bob@example.org viewer just now Change role Remove" in page


def test_an_owner_renames_the_organization(alice: Tenant, owner: Client):
    page = owner.post("/settings", {"name": "  Alice & Sons "}, follow=True)
    assert Organization.objects.get(pk=alice.organization_id).name == "Alice & Sons"
    assert "Saved." in text(page)


@pytest.mark.parametrize(
    ("name", "says"), [("", "The name must not be empty."), ("x" * 201, "must have at most 200"), ("a\x00", "control")]
)
def test_a_name_that_is_none_is_refused_beside_its_field(name: str, says: str, alice: Tenant, owner: Client):
    before = Organization.objects.get(pk=alice.organization_id).name
    page = owner.post("/settings", {"name": name})
    assert page.status_code == 422
    assert says in text(page)
    assert 'aria-describedby="name_error"' in page.content.decode()
    assert Organization.objects.get(pk=alice.organization_id).name == before


@pytest.mark.parametrize("role", ["developer", "billing", "viewer"])
def test_others_may_not_rename_it(role: str, alice: Tenant):
    before = Organization.objects.get(pk=alice.organization_id).name
    member = alice.member(role).client
    assert member.post("/settings", {"name": "Mine"}).status_code == 403
    assert Organization.objects.get(pk=alice.organization_id).name == before
    assert "Owners and admins change the name." in text(member.get("/settings"))


# --- Numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1 k"),
        (1_234, "1.23 k"),
        (12_345, "12.3 k"),
        (999_999, "999.9 k"),
        (1_047_576, "1.04 M"),
        (12_000_000_000, "12 B"),
    ],
)
def test_tokens_are_cut_to_three_figures(number: int, shown: str):
    assert numbers.tokens(number) == shown


@pytest.mark.parametrize(
    ("micro", "shown"), [(2_500_000, "+2.5"), (-2_500_000, "−2.5"), (0, "0"), (-99, "−<0.0001"), (1, "+<0.0001")]
)
def test_movements_have_a_sign(micro: int, shown: str):
    assert numbers.signed_credits(micro) == shown


@pytest.mark.parametrize(
    ("pico", "shown"),
    [(0, "$0.00"), (10**12, "$1.00"), (10**10, "$0.01"), (1, "$0.000000000001"), (1234 * 10**12, "$1,234.00")],
)
def test_dollars_are_exact(pico: int, shown: str):
    assert numbers.usd(pico) == shown


@pytest.mark.parametrize(("milliseconds", "shown"), [(None, "–"), (0, "0 ms"), (999, "999 ms"), (1_550, "1.6 s")])
def test_durations_have_their_unit(milliseconds: int | None, shown: str):
    assert numbers.duration(milliseconds) == shown


@pytest.mark.parametrize(("part", "whole", "shown"), [(0, 0, "–"), (0, 5, "0 %"), (1, 3, "33.3 %")])
def test_shares_are_percent(part: int, whole: int, shown: str):
    assert numbers.percent(part, whole) == shown
