"""What the programs share: one JSON object in, one out, and what an error says of itself."""

import json
import sys
from typing import Any


def told() -> dict[str, Any]:
    return json.load(sys.stdin)


def tell(seen: dict[str, Any]) -> None:
    json.dump(seen, sys.stdout)


def classes(error: Exception) -> list[str]:
    """The classes an application could catch, most specific first."""
    return [kind.__name__ for kind in type(error).__mro__ if kind not in (Exception, BaseException, object)]
