"""The keys behind access tokens: made once, sealed, rotated, and replaced when nobody can open them any more."""

import json
import logging
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction

from accounts import signing_keys, tokens
from accounts.models import SigningKey
from common import sealing

pytestmark = pytest.mark.django_db


def test_the_first_key_is_made_when_it_is_needed():
    assert signing_keys.public_keys() == {}
    kid, private_key = signing_keys.active()
    assert signing_keys.active()[0] == kid
    assert signing_keys.public_keys() == {kid: tokens.public_text(private_key)}


def test_looking_for_the_public_keys_makes_it_too():
    [published] = signing_keys.jwks()["keys"]
    assert published["kid"] == signing_keys.active()[0]


def test_who_comes_second_takes_the_first_ones_key():
    first = signing_keys.make()
    assert signing_keys.make_first() == first
    assert SigningKey.objects.count() == 1


def test_the_private_half_is_sealed_and_goes_when_it_retires():
    kid, private_key = signing_keys.active()
    row = SigningKey.objects.get(pk=kid)
    assert private_key.private_bytes_raw() not in row.private_key_sealed.encode()
    assert sealing.unseal(row.private_key_sealed, "signing key") == private_key.private_bytes_raw()
    with pytest.raises(sealing.Unreadable):
        sealing.unseal(row.private_key_sealed, "provider secret")
    signing_keys.rotate()
    row.refresh_from_db()
    assert row.private_key_sealed == ""


def test_a_new_secret_key_with_the_old_one_as_a_fallback_changes_nothing(settings):
    kid, _ = signing_keys.active()
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert signing_keys.active()[0] == kid


def test_a_key_that_no_secret_key_opens_is_replaced_and_goes_on_verifying(settings, caplog):
    kid, _ = signing_keys.active()
    settings.SECRET_KEY = "n" * 50
    with caplog.at_level(logging.WARNING):
        new, _ = signing_keys.active()
    assert new != kid
    assert list(signing_keys.public_keys()) == [new, kid]
    assert f"signing key {kid} is replaced" in caplog.text


def test_rotation_tells_what_is_still_accepted():
    first = signing_keys.rotate()
    second = called("rotatesigningkey")
    assert second["still_accepted"] == [first.kid]
    third = called("rotatesigningkey")
    assert sorted(third["still_accepted"]) == sorted([first.kid, second["kid"]])
    assert called("rotatesigningkey", "--refuse-old")["still_accepted"] == []
    assert SigningKey.objects.count() == 1


def called(*arguments):
    out = StringIO()
    call_command(*arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"algorithm": "HS256"}, "accounts_signingkey_algorithm"),
        ({"private_key_sealed": ""}, "accounts_signingkey_retired_without_private_half"),
        ({"retired_at": "2026-01-01T00:00Z"}, "accounts_signingkey_retired_without_private_half"),
    ],
)
def test_the_database_refuses_a_senseless_key(change, constraint):
    signing_keys.active()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        SigningKey.objects.update(**change)


def test_there_is_one_active_key():
    signing_keys.active()
    with pytest.raises(IntegrityError, match="accounts_signingkey_one_active"), transaction.atomic():
        signing_keys.make()
