from uuid import RFC_4122, UUID

import pytest

from common.ids import generation_id, hold_id_of
from common.uuid7 import uuid7

HOLD = UUID("01933e0c-6d4b-7c3a-9f00-0123456789ab")
GENERATION = "gen-01933e0c6d4b7c3a9f000123456789ab"


def test_a_generation_id_names_its_hold() -> None:
    assert generation_id(HOLD) == GENERATION
    assert hold_id_of(GENERATION) == HOLD


@pytest.mark.parametrize("text", ["", "gen-", HOLD.hex, str(HOLD), f"gen-{HOLD}", GENERATION[:-1], "gen-" + "z" * 32])
def test_any_other_text_names_none(text: str) -> None:
    assert hold_id_of(text) is None


def test_a_uuid7_says_so_itself() -> None:
    made = uuid7()
    assert (made.version, made.variant) == (7, RFC_4122)


def test_later_uuids_are_greater(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for nanoseconds in (1_700_000_000_000_000_000, 1_700_000_000_001_000_000, 1_700_000_001_000_000_000):
        monkeypatch.setattr("time.time_ns", lambda now=nanoseconds: now)
        made.append(uuid7())
    assert made == sorted(made)
    assert [id.int >> 80 for id in made] == [1_700_000_000_000, 1_700_000_000_001, 1_700_000_001_000]
