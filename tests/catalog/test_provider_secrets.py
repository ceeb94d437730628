import pytest
from django.core.exceptions import ValidationError

from completions.catalog import secrets
from completions.models import Provider

HERE = "https://llm.example.com/v1"


def test_a_secret_opens_for_the_origin_it_was_sealed_for():
    sealed = secrets.seal("hidden value", HERE)
    assert "hidden value" not in sealed
    assert secrets.unseal(sealed, HERE) == "hidden value"
    assert secrets.unseal(sealed, "https://LLM.example.com:443/other") == "hidden value"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example.com/v1",
        "http://llm.example.com/v1",
        "https://llm.example.com:8443/v1",
        "",
        "https://[::1]",
    ],
)
def test_a_secret_opens_for_no_other_origin(elsewhere):
    with pytest.raises(secrets.SecretUnreadable, match=r"was saved for https://llm\.example\.com:443, not for"):
        secrets.unseal(secrets.seal("hidden value", HERE), elsewhere)


def test_an_old_secret_key_still_opens_as_a_fallback(settings):
    sealed = secrets.seal("hidden value", HERE)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert secrets.unseal(sealed, HERE) == "hidden value"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(secrets.SecretUnreadable, match="cannot be decrypted with SECRET_KEY or its fallbacks"):
        secrets.unseal(sealed, HERE)


def test_what_was_not_sealed_does_not_open():
    with pytest.raises(secrets.SecretUnreadable):
        secrets.unseal("hidden value", HERE)


@pytest.mark.django_db
def test_moving_a_provider_by_raw_sql_loses_its_secret():
    provider = Provider(name="local", kind="openai", base_url=HERE)
    provider.set_secret("hidden value")
    provider.save()
    Provider.objects.update(base_url="https://evil.example.com/v1")
    with pytest.raises(secrets.SecretUnreadable):
        _ = Provider.objects.get().secret


def test_an_empty_secret_is_forgotten():
    provider = Provider(name="local", kind="openai", base_url=HERE)
    provider.set_secret("hidden value")
    provider.set_secret("")
    assert (provider.secret_encrypted, provider.secret) == ("", "")


@pytest.mark.parametrize(
    "base_url",
    [
        "https://llm.example.com/v1",
        "https://8.8.8.8",
        "http://127.0.0.1:8000/v1",
        "http://localhost:11434/v1",
        "http://vllm:8000/v1",
        "http://10.1.2.3",
        "http://172.31.0.1",
        "http://192.168.1.1",
        "http://[::1]:8000",
        "http://[fd00::1]",
        "http://gpu.internal:8000",
    ],
)
def test_a_base_url_is_https_or_at_home(base_url):
    Provider(name="local", kind="openai", base_url=base_url, allow_plain_http=True).clean()


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8000/v1", "http://localhost", "http://vllm:8000"])
def test_plain_http_at_home_is_allowed_explicitly_or_not_at_all(base_url):
    with pytest.raises(ValidationError, match="if explicitly allowed"):
        Provider(name="local", kind="openai", base_url=base_url).clean()


@pytest.mark.parametrize(
    "base_url",
    [
        "http://llm.example.com",
        "http://8.8.8.8",
        "http://172.32.0.1",
        "http://169.254.169.254/latest",
        "http://100.64.0.1",
        "http://localhost.example.com",
        "ftp://localhost",
        "llm.example.com/v1",
        "https://",
        "https://user:password@llm.example.com",
        "https://llm.example.com/v1?key=1",
        "https://llm.example.com/v1#part",
        "https://llm.example.com:port",
        "https://[::1",
    ],
)
def test_a_base_url_that_leaves_home_in_clear_or_is_none_is_refused(base_url):
    with pytest.raises(ValidationError) as caught:
        Provider(name="local", kind="openai", base_url=base_url, allow_plain_http=True).clean()
    assert list(caught.value.message_dict) == ["base_url"]
