"""The short form of `make chaos`: every kind of blow once, under load, and every served call is accounted for."""

import json
import subprocess
import sys

import pytest

from quantized.devstack.places import CHECKOUT
from tests.chaos.faults import KINDS

SECONDS = 10  # and on, until every kind of blow has come


@pytest.mark.timeout(600)
def test_nothing_is_lost_while_everything_dies():
    command = [sys.executable, "-m", "tests.chaos", "--seconds", str(SECONDS), "--json"]
    answer = subprocess.run(command, check=False, cwd=CHECKOUT, capture_output=True, text=True)
    assert answer.stdout, answer.stderr[-4000:]
    figures = json.loads(answer.stdout)
    assert figures["wrong"] == [], figures["seed"]
    assert answer.returncode == 0
    assert figures["violations"] == 0
    assert figures["served"] == sum(figures["of these"].values())
    assert figures["of these"]["settled"] > 20
    assert figures["of these"]["loss: failed_attempt"] > 0
    assert figures["files of spooled settlements, replayed"] > 0
    assert set(figures["blows"]) == set(KINDS)
