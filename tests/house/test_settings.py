"""Settings that contradict each other stop the start with one line that names them."""

import subprocess
import sys

from tests.kit import CHECKOUT


def complaint(environment: dict[str, str], **changes: str) -> str:
    command = [sys.executable, "manage.py", "check"]
    done = subprocess.run(command, cwd=CHECKOUT, env={**environment, **changes}, capture_output=True, text=True)
    return done.stderr.splitlines()[-1] if done.returncode else ""


def read(environment: dict[str, str], **changes: str) -> str:
    """What reading the settings alone complains of."""
    command = [sys.executable, "-c", "import quantized.settings"]
    return subprocess.run(command, cwd=CHECKOUT, env={**environment, **changes}, capture_output=True, text=True).stderr


def test_a_call_may_not_take_as_long_as_its_hold_lives(process_environment: dict[str, str]) -> None:
    said = complaint(process_environment, HOLD_TTL_S="100", CALL_MAX_S="100")
    assert said == "quantized: CALL_MAX_S must be below HOLD_TTL_S (100), not 100"
    assert read(process_environment, HOLD_TTL_S="100", CALL_MAX_S="99") == ""
    assert read(process_environment, HOLD_TTL_S="2") == ""  # by default it is a part of it
