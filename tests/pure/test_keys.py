import hashlib
import hmac
import math
import zlib

import pytest

from accounts import keys

PEPPER = "p" * 32


def test_a_key_is_the_prefix_thirty_random_characters_and_a_checksum():
    key = keys.mint()
    assert key.startswith("sk-quantized-")
    assert len(key) == 13 + 30 + 6
    assert set(key.removeprefix("sk-quantized-")) <= set(keys.ALPHABET)


def test_a_key_has_at_least_160_random_bits():
    assert len(keys.ALPHABET) == len(set(keys.ALPHABET)) == 62
    assert keys.BODY_CHARACTERS * math.log2(62) >= 160


def test_no_two_keys_are_the_same():
    assert len({keys.mint() for _ in range(1000)}) == 1000


def test_minted_keys_are_well_formed():
    assert all(keys.well_formed(keys.mint()) for _ in range(1000))


@pytest.mark.parametrize(
    ("body", "expected"),
    [("0" * 30, "2C8GjS"), ("AbcDefGhiJklMnoPqrStuVwxYz0123", "4ctQfT")],
)
def test_the_checksum_is_crc32_in_base62(body, expected):
    number = 0
    for character in expected:
        number = number * 62 + keys.ALPHABET.index(character)
    assert number == zlib.crc32(body.encode())
    assert keys.checksum(body) == expected


def test_every_changed_character_is_noticed():
    key = keys.mint()
    for place in range(len(key)):
        other = "x" if key[place] != "x" else "y"
        assert not keys.well_formed(key[:place] + other + key[place + 1 :])


@pytest.mark.parametrize(
    "wrong",
    ["", "sk-quantized-", "sk-", "null", "sk-quantized-" + "é" * 36, "sk-quantized-" + "٣" * 36, "a" * 100_000],
)
def test_what_was_never_a_key_is_not_well_formed(wrong):
    assert not keys.well_formed(wrong)


def test_nothing_around_a_key_is_tolerated():
    key = keys.mint()
    for wrong in (key[:-1], key + "0", " " + key, key + "\n", key.upper(), key.replace("sk-quantized", "sk-or")):
        assert not keys.well_formed(wrong)


def test_the_digest_is_hmac_sha256_of_the_whole_key():
    key = keys.mint()
    assert keys.digest(key, PEPPER) == hmac.new(PEPPER.encode(), key.encode(), hashlib.sha256).digest()
    assert keys.digest(key, PEPPER) != keys.digest(key, PEPPER + "p")


def test_what_is_displayed_leaves_the_key_unguessable():
    key = keys.mint()
    prefix, last_four = keys.display(key)
    assert (len(prefix), len(last_four)) == (16, 4)
    assert key.startswith(prefix)
    assert key.endswith(last_four)
    hidden_bits = keys.BODY_CHARACTERS * math.log2(62) - 3 * math.log2(62) - 32  # the shown ones, and a whole checksum
    assert hidden_bits >= 128
