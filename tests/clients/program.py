"""What the programs share: one JSON object in, one out."""

import json
import sys
from typing import Any


def told() -> dict[str, Any]:
    return json.load(sys.stdin)


def tell(seen: dict[str, Any]) -> None:
    json.dump(seen, sys.stdout)
