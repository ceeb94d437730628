"""What the processes of one stack are told by their environment, and what of it is kept in run.env.

Secrets and log-ins are made once, so that a second `make run` prints the same ones and finds its data again.
settings.py reads run.env when DATABASE_URL is not set, so manage.py in a second terminal reaches the same stack.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

MADE_ONCE = {"SECRET_KEY": 48, "KEY_PEPPER": 48, "OPERATOR_PASSWORD": 12, "OWNER_PASSWORD": 12}
KEPT = (*MADE_ONCE, "API_KEY")


def read_env(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def write_env(path: Path, values: Mapping[str, str]) -> None:
    """In one step, and never readable by others: an interrupted run loses no secret."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    fresh.replace(path)


def kept_values(path: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The environment's word first, then what was kept, then something new."""
    made = {name: secrets.token_urlsafe(size_bytes) for name, size_bytes in MADE_ONCE.items()}
    kept = {name: value for name, value in read_env(path).items() if name in KEPT}
    return made | kept | {name: given[name] for name in ("SECRET_KEY", "KEY_PEPPER") if given.get(name)}
