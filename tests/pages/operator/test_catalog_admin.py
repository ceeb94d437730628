import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from completions.catalog.loader import load_catalog
from completions.models import Model, Provider, Route
from tests.kit.catalogs import MINI, make_price, make_route
from tests.kit.tenants import make_cast

# WhiteNoise warns of the directory that `collectstatic` makes in production.
pytestmark = pytest.mark.filterwarnings("ignore:No directory at")

HERE = "https://llm.example.com/v1"
LEAVING = {"when_client_leaves": "cancel"}


@pytest.fixture
def operator(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("operator@example.org", "a long enough password"))
    return client


def provider_form(**changes: str) -> dict[str, str]:
    return {"name": "local", "kind": "openai", "base_url": HERE, **LEAVING, "enabled": "on", "secret": "", **changes}


def change(client: Client, provider: Provider, **changes: str) -> str:
    answer = client.post(reverse("admin:completions_provider_change", args=[provider.pk]), provider_form(**changes))
    return answer.content.decode()


def own_provider() -> Provider:
    provider = Provider(name="local", kind="openai", base_url=HERE)
    provider.set_secret("hidden value")
    provider.save()
    return provider


def test_a_provider_is_added_with_its_secret(operator):
    answer = operator.post(reverse("admin:completions_provider_add"), provider_form(secret="hidden value"))
    assert answer.status_code == 302
    provider = Provider.objects.get()
    assert provider.secret == "hidden value"
    assert "hidden value" not in provider.secret_encrypted


def test_what_becomes_of_a_stream_without_its_client_is_set(operator):
    provider = own_provider()
    assert "Select a valid choice" in change(operator, provider, when_client_leaves="whatever")
    change(operator, provider, when_client_leaves="drain")
    assert Provider.objects.get().when_client_leaves == "drain"
    make_route(MINI, provider)
    [route] = load_catalog().models[MINI].routes
    assert route.provider.is_drained is True


def test_a_secret_is_never_shown_again(operator):
    provider = own_provider()
    pages = [
        operator.get(reverse("admin:completions_provider_change", args=[provider.pk])).content.decode(),
        operator.get(reverse("admin:completions_provider_changelist")).content.decode(),
        change(operator, provider, base_url="nonsense", secret="another value"),
    ]
    for page in pages:
        assert "hidden value" not in page
        assert "another value" not in page
        assert provider.secret_encrypted not in page


def test_saving_without_a_secret_keeps_the_stored_one(operator):
    provider = own_provider()
    change(operator, provider, base_url=f"{HERE}/other", name="renamed")
    provider.refresh_from_db()
    assert (provider.name, provider.secret) == ("renamed", "hidden value")


def test_another_host_needs_the_secret_again(operator):
    provider = own_provider()
    assert "Enter the secret again" in change(operator, provider, base_url="https://other.example.com/v1")
    provider.refresh_from_db()
    assert (provider.base_url, provider.secret) == (HERE, "hidden value")
    change(operator, provider, base_url="https://other.example.com/v1", secret="another value")
    provider.refresh_from_db()
    assert (provider.base_url, provider.secret) == ("https://other.example.com/v1", "another value")


def test_a_secret_can_be_forgotten(operator):
    provider = own_provider()
    change(operator, provider, forget_secret="on")
    provider.refresh_from_db()
    assert provider.secret_encrypted == ""


def test_a_provider_of_the_settings_takes_no_secret_of_its_own(operator):
    form = provider_form(kind="openrouter", base_url="", secret="hidden value")
    page = operator.post(reverse("admin:completions_provider_add"), form).content.decode()
    assert "A provider with its own secret needs its own base URL." in page
    assert not Provider.objects.exists()


def test_a_route_needs_the_price_of_what_it_can_do(operator):
    route = make_route()
    form = {
        "model": route.model_id,
        "provider": route.provider_id,
        "upstream_model": "mini",
        "priority": "0",
        "capabilities": ["tools", "web_search"],
        "context_length": "1000",
        "max_output_tokens": "100",
        "rules": "{}",
        "enabled": "on",
    }
    url = reverse("admin:completions_route_change", args=[route.pk])
    cheap = make_price(web_search=None)
    assert "without a price for input, output, web_search" in operator.post(url, form).content.decode()
    assert "without a price for web_search" in operator.post(url, {**form, "price": cheap.pk}).content.decode()
    assert operator.post(url, {**form, "price": route.price_id}).status_code == 302
    route.refresh_from_db()
    assert (route.capabilities, route.context_length) == (["tools", "web_search"], 1000)


def test_the_lists_filter_and_search_in_a_constant_number_of_queries(operator, django_assert_max_num_queries):
    for number in range(12):
        make_route(f"openai/model-{number}")
    for name, query in (("route", "q=model-1&enabled__exact=1"), ("model", "q=openai"), ("provider", "q=openrouter")):
        with django_assert_max_num_queries(10):
            answer = operator.get(f"{reverse(f'admin:completions_{name}_changelist')}?{query}")
        assert answer.status_code == 200


def test_a_models_id_stays_as_it_is(operator):
    model = make_route().model
    url = reverse("admin:completions_model_change", args=[model.pk])
    form = {
        "id": "openai/other",
        "name": "Renamed",
        "owned_by": "openai",
        "created_0": "2025-04-14",
        "created_1": "00:00",
    }
    assert operator.post(url, form).status_code == 302
    assert Model.objects.get().name == "Renamed"


@pytest.mark.django_db
def test_charlie_sees_no_provider_and_changes_none():
    provider = own_provider()
    client = Client()
    client.force_login(make_cast().charlie.user)
    for name in ("provider", "model", "route"):
        assert client.get(reverse(f"admin:completions_{name}_changelist")).status_code == 302
    change(client, provider, name="stolen", secret="another value")
    provider.refresh_from_db()
    assert (provider.name, provider.secret) == ("local", "hidden value")
    assert Route.objects.count() == 0
