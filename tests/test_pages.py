import asyncio
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import Http404, HttpResponse
from django.template.loader import render_to_string
from django.test import Client, override_settings
from django.urls import include, path

from accounts.models import ApiKey
from accounts.services import add_member, create_user, issue_key, revoke_key, suspend
from billing.models import Wallet
from quantized.middleware import RequestIdMiddleware
from quantized.templatetags.numbers import ago, credits, exact_micro
from tests.cast import make_cast

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def text(page):
    """What a reader sees, in one line."""
    html = re.sub(r"<(script|style).*?</\1>", " ", page.content.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\xa0", " ").split())


# --- The way in ---


@pytest.mark.django_db
def test_strangers_see_what_it_is_and_how_to_call_it(client):
    page = text(client.get("/"))
    assert f"curl -X POST {settings.PUBLIC_URL}/v1/chat/completions" in page
    assert "Log in" in page
    assert "Log out" not in page


@pytest.mark.django_db
def test_an_owner_logs_in_and_out(client):
    create_user("dora@example.org", "dora-secret-1")
    page = client.post("/accounts/login/", {"login": "Dora@example.org", "password": "dora-secret-1"}, follow=True)
    assert page.redirect_chain == [("/", 302)]
    assert "dora@example.org" in text(page)
    assert "Log out" not in text(client.post("/accounts/logout/", follow=True))


@pytest.mark.django_db
def test_a_wrong_password_keeps_what_was_typed_and_says_nothing_more(client):
    create_user("dora@example.org", "dora-secret-1")
    for email in ("dora@example.org", "nobody@example.org"):
        page = client.post("/accounts/login/", {"login": email, "password": "wrong"})
        assert "E-mail and password do not match an account." in text(page)
        assert f'value="{email}"' in page.content.decode()


@pytest.mark.django_db
def test_log_in_sends_nobody_to_a_foreign_site(client):
    create_user("dora@example.org", "dora-secret-1")
    data = {"login": "dora@example.org", "password": "dora-secret-1", "next": "https://evil.example/"}
    assert client.post("/accounts/login/", data).headers["location"] == "/"


# --- The overview ---


@pytest.mark.django_db
def test_a_member_sees_the_ledgers_numbers(client):
    cast = make_cast()
    Wallet.objects.filter(pk=cast.organization.pk).update(posted=12_345_678_900, held=2_400)
    client.force_login(cast.bob)
    page = client.get("/")
    assert "Balance 12,345.6789 credits" in text(page)
    assert "Held for running calls 0.0024 credits" in text(page)
    assert 'title="12,345,678,900 micro-credits"' in page.content.decode()
    assert 'title="2,400 micro-credits"' in page.content.decode()


@pytest.mark.django_db
def test_an_unlimited_wallet_says_so(client):
    cast = make_cast()
    Wallet.objects.filter(pk=cast.organization.pk).update(unlimited=True, posted=-5)
    client.force_login(cast.bob)
    assert "Balance Unlimited" in text(client.get("/"))


@pytest.mark.django_db
def test_keys_are_listed_masked_with_limit_and_state(client):
    cast = make_cast()
    tomorrow = datetime.now(UTC) + timedelta(days=1, minutes=1)
    key, token = issue_key(cast.organization, "nightly", limit_micro=50_000_000, limit_period="month")
    issue_key(cast.organization, "brief", expires_at=tomorrow)
    revoke_key(issue_key(cast.organization, "lost")[0].pk)
    issue_key(cast.organization, "late")
    ApiKey.objects.filter(name="late").update(expires_at=datetime(2001, 1, 1, tzinfo=UTC))
    issue_key(cast.others, "not yours")
    client.force_login(cast.bob)
    page = client.get("/")
    shown = text(page)
    assert f"nightly {key.prefix}…{key.last_four} active 50 a month never just now" in shown
    assert "active, ends in 1 day" in shown
    assert re.search(r"late \S+ expired", shown)
    assert re.search(r"lost \S+ revoked", shown)
    assert "not yours" not in shown
    assert token not in page.content.decode()
    assert "API keys 4" in shown


@pytest.mark.django_db
def test_without_a_key_the_page_says_how_to_get_one(client):
    cast = make_cast()
    client.force_login(cast.alice)
    assert f"manage.py issuekey {cast.organization.pk}" in text(client.get("/"))


@pytest.mark.django_db
def test_charlie_gets_a_404_for_our_organization_as_for_one_that_is_not_there(client):
    cast = make_cast()
    issue_key(cast.organization, "ours")
    client.force_login(cast.charlie)
    missing = "11111111-1111-4111-8111-111111111111"
    for organization in (cast.organization.pk, missing, "nonsense"):
        page = client.get("/", {"organization": str(organization)})
        assert page.status_code == 404
        assert "There is nothing here" in text(page)
        assert "Alice" not in text(page)
    assert "Alice" not in text(client.get("/"))


@pytest.mark.django_db
def test_a_member_of_two_organizations_switches(client):
    cast = make_cast()
    add_member(cast.others, cast.bob, "viewer")
    client.force_login(cast.bob)
    assert "Alice &amp; Co developer" in text(client.get("/"))
    assert "Charlie&#x27;s viewer" in text(client.get("/", {"organization": str(cast.others.pk)}))


@pytest.mark.django_db
def test_a_suspended_organization_is_told(client):
    cast = make_cast()
    suspend(cast.organization.pk)
    client.force_login(cast.alice)
    assert "This organization is suspended" in text(client.get("/"))


@pytest.mark.django_db
def test_without_an_organization_one_is_told_whom_to_ask(client):
    client.force_login(create_user("dora@example.org"))
    assert "Ask an owner of yours to add dora@example.org" in text(client.get("/"))


@pytest.mark.django_db
def test_many_keys_are_paged_with_the_same_number_of_queries(client, django_assert_num_queries):
    cast = make_cast()
    client.force_login(cast.alice)
    issue_key(cast.organization)
    with django_assert_num_queries(6):
        client.get("/")
    for number in range(60):
        issue_key(cast.organization, f"key {number}")
    with django_assert_num_queries(6):
        page = text(client.get("/"))
    assert "1–50 of 61" in page
    assert "key 59 " in page
    assert "key 9 " not in page
    assert "key 9 " in text(client.get("/", {"page": 2}))


@pytest.mark.django_db
def test_no_page_needs_inline_style_or_script(client):
    cast = make_cast()
    issue_key(cast.organization)
    pages = [client.get("/"), client.get("/accounts/login/"), client.get("/nowhere")]
    client.force_login(cast.alice)
    for page in [*pages, client.get("/")]:
        html = page.content.decode()
        assert "style=" not in html
        assert "<style" not in html
        assert "<script" not in html
        assert not re.search(r"\son\w+=", html)


# --- When it fails ---


def broken(request):
    raise RuntimeError("the secret cause")


def missing(request):
    raise Http404


urlpatterns = [
    path("broken", broken),
    path("v1/broken", broken),
    path("v1/missing", missing),
    path("", include("quantized.urls")),
]
handler400 = "quantized.pages.bad_request"
handler403 = "quantized.pages.forbidden"
handler404 = "quantized.pages.not_found"
handler500 = "quantized.pages.server_error"


@pytest.fixture
def failing_client(client):
    client.raise_request_exception = False
    with override_settings(ROOT_URLCONF=__name__):
        yield client


@pytest.mark.parametrize("address", ["/v1/nowhere", "/v1/", "/v1", "/v1/missing"])
def test_under_v1_what_is_not_there_is_a_json_404(failing_client, address):
    answer = failing_client.get(address)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "error": {"message": "Not found.", "type": "not_found_error", "param": None, "code": "not_found"}
    }
    assert answer.headers["x-request-id"].startswith("req-")


def test_under_v1_our_own_failure_is_a_json_500_without_its_cause(failing_client):
    answer = failing_client.get("/v1/broken")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "api_error"
    assert "secret cause" not in answer.content.decode()
    assert answer.headers["x-request-id"].startswith("req-")


def test_under_v1_a_foreign_host_is_a_json_400(failing_client):
    answer = failing_client.get("/v1/models", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_elsewhere_a_failure_is_a_page_with_the_request_id(failing_client):
    for address, status, words in (("/nowhere", 404, "There is nothing here"), ("/broken", 500, "on our side")):
        page = failing_client.get(address, headers={"x-request-id": "my-request-1"})
        assert page.status_code == status
        assert page.headers["content-type"].startswith("text/html")
        assert words in text(page)
        assert "my-request-1" in text(page)
        assert "secret cause" not in text(page)


def test_a_path_that_only_begins_like_v1_is_a_page(failing_client):
    assert failing_client.get("/v10").headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("template", ["400.html", "403.html", "403_csrf.html", "404.html", "500.html"])
def test_a_failure_is_told_without_a_database(template):
    assert "req-1" in render_to_string(template, {"request_id": "req-1"})


@pytest.mark.django_db
def test_a_form_without_its_token_says_that_nothing_changed():
    page = Client(enforce_csrf_checks=True).post("/accounts/login/", {})
    assert page.status_code == 403
    assert "This form has expired" in text(page)


# --- The request's id ---


@pytest.mark.parametrize("given", ["0f8fad5b-d9cb-469f-a165-70867728950e", "req_abc.DEF-123", "a" * 128])
def test_a_sane_request_id_is_kept(client, given):
    assert client.get("/robots.txt", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", ["", "short", "a" * 129, "with space 123", "line\\nbreak-12", "<script>alert", "é" * 9]
)
def test_any_other_is_replaced(client, given):
    answer = client.get("/robots.txt", headers={"x-request-id": given})
    assert re.fullmatch(r"req-[0-9a-f]{32}", answer.headers["x-request-id"])


def test_every_request_has_its_own(client):
    assert len({client.get("/robots.txt").headers["x-request-id"] for _ in range(20)}) == 20


def test_under_an_async_handler_nothing_hops_to_a_thread(rf):
    async def answer(request):
        return HttpResponse(threading.current_thread().name)

    middleware = RequestIdMiddleware(answer)
    assert iscoroutinefunction(middleware)
    response = asyncio.run(middleware(rf.get("/", headers={"x-request-id": "my-request-1"})))
    assert response.headers["x-request-id"] == "my-request-1"
    assert response.content.decode() == threading.main_thread().name


# --- Small things ---


def test_robots_stay_out_of_what_is_not_for_them(client):
    assert client.get("/robots.txt").content.decode().splitlines() == [
        "User-agent: *",
        "Disallow: /accounts/",
        "Disallow: /admin/",
        "Disallow: /v1/",
    ]


def test_the_icon_is_where_browsers_look(client):
    address = client.get("/favicon.ico").headers["location"]
    icon = client.get(address)
    assert icon.headers["content-type"] == "image/svg+xml"
    assert icon.getvalue().startswith(b"<svg")


@pytest.mark.parametrize(
    ("micro", "shown", "exact"),
    [
        (0, "0", "0 micro-credits"),
        (1_000_000, "1", "1,000,000 micro-credits"),
        (997_600, "0.9976", "997,600 micro-credits"),
        (2_400, "0.0024", "2,400 micro-credits"),
        (99, "0", "99 micro-credits"),
        (999_999, "0.9999", "999,999 micro-credits"),
        (1_234_567_100_000, "1,234,567.1", "1,234,567,100,000 micro-credits"),
        (-2_500_000, "−2.5", "−2,500,000 micro-credits"),
    ],
)
def test_credits_are_cut_to_four_decimals_and_exact_on_hover(micro, shown, exact):
    assert credits(micro) == shown
    assert exact_micro(micro) == exact


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "just now"), (-59, "just now"), (-60, "1 minute ago"), (-7260, "2 hours ago"), (90, "in 1 minute")],
)
def test_times_are_told_by_their_distance(seconds, shown):
    assert ago(NOW + timedelta(seconds=seconds), NOW).replace("\xa0", " ") == shown
