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

from accounts.services import create_user
from quantized.middleware import RequestIdMiddleware
from quantized.templatetags.numbers import ago, credits, exact_micro

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


# --- Members ---


@pytest.mark.django_db
def test_without_an_organization_one_is_told_whom_to_ask(client):
    client.force_login(create_user("dora@example.org"))
    assert "Ask an owner of yours to add dora@example.org" in text(client.get("/"))


@pytest.mark.django_db
def test_no_page_needs_inline_style_or_script(client):
    for page in (client.get("/"), client.get("/accounts/login/"), client.get("/nowhere")):
        html = page.content.decode()
        assert "style=" not in html
        assert "<style" not in html
        assert not re.search(r"<script(?![^>]* src=)", html)
        assert not re.search(r"\son\w+=", html)


@pytest.mark.django_db
def test_pages_may_load_from_here_alone(client):
    ours = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'"
    for address in ("/", "/accounts/login/", "/nowhere"):
        policy = client.get(address).headers["content-security-policy"]
        assert policy.startswith(ours)
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    docs = client.get("/docs").headers["content-security-policy"]
    assert "style-src 'self' 'unsafe-inline'" in docs
    assert "script-src 'self';" in docs
    assert "content-security-policy" not in client.get("/v1/models").headers


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
        assert ("Try again" in text(page)) == (status == 500)


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
        "Disallow: /activity",
        "Disallow: /admin/",
        "Disallow: /billing",
        "Disallow: /keys",
        "Disallow: /playground",
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
