"""What a run says at the terminal: plain lines that can be read, copied and searched."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests

PAGES = {"Home": "/", "Admin": "/admin/", "Docs": "/docs"}
PROBE_TIMEOUT_S = 10.0


class LogIns(NamedTuple):
    operator: str
    operator_password: str
    owner: str
    owner_password: str
    api_key: str


def say(line: str = "") -> None:
    print(line, flush=True)


def table(rows: Mapping[str, object]) -> None:
    for name, value in rows.items():
        say(f"  {name:<18} {value}")


def tell_completion(question: str, answer: Mapping[str, Any]) -> None:
    usage = answer["usage"]
    say()
    table(
        {
            "question": question,
            "answer": answer["choices"][0]["message"]["content"],
            "credits_used": f"{usage['credits_used']} micro-credits",
            "credits_remaining": f"{usage['credits_remaining']} micro-credits",
        }
    )


def tell_places(url: str, log_ins: LogIns, request: Mapping[str, Any]) -> None:
    say()
    table({name: url + path for name, path in PAGES.items() if is_served(url + path)})
    table(
        {
            "API": f"{url}/v1",
            "API key": log_ins.api_key,
            "Operator": f"{log_ins.operator}  {log_ins.operator_password}",
            "Owner of Acme": f"{log_ins.owner}  {log_ins.owner_password}",
        }
    )
    say()
    say(curl_line(url, log_ins.api_key, request))
    say()


def is_served(url: str) -> bool:
    """A page that is not there is not announced."""
    return requests.get(url, timeout=PROBE_TIMEOUT_S).ok


def curl_line(url: str, api_key: str, request: Mapping[str, Any]) -> str:
    headers = (f"Authorization: Bearer {api_key}", "Content-Type: application/json")
    options = [part for header in headers for part in ("-H", header)]
    return shlex.join(["curl", f"{url}/v1/chat/completions", *options, "-d", json.dumps(request)])
