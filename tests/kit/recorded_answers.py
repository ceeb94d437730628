"""What the product answers, byte by byte, as it was once recorded: how calls are made, normalised and kept.

A story (tests/kit/recorded_calls.py) makes calls as a tenant of its own; each exchange is kept with its request, the
status, the headers, the exact body, and, of a call that held credits, its receipt and its rows in the books. What is
different in every run (ids, times, milliseconds, secrets) is replaced by a name between angle brackets, and nothing
else is. The same value has the same name throughout a story: `<generation:1>` in a header, in each chunk of a stream
and in the ledger is one id.

Recordings live in tests/recordings/answers, one file for each family of stories. A body stands there as JSON only if
writing that JSON compactly gives its very bytes, else as the text it is; so equal recordings are equal bytes.
tests/live/test_recorded_answers.py replays them and says how they are taken anew.
"""

import base64
import http.client
import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from django.db import connection
from django.test import override_settings

from tests.kit import TESTS
from tests.kit.calls import PATH, TIMEOUT_S, Answer, call, read_answer
from tests.kit.live import Server
from tests.kit.tenants import Tenant, make_tenant, wait_closed

DIRECTORY = TESTS / "recordings" / "answers"
LINE_CHARS_MAX = 118

QUICK_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # of those who never log in

Transform = Callable[[bytes], bytes]

# --- What is different in every run ------------------------------------------------------------------

DAY_S = 86_400
# Numbered in the order in which a story meets them: the same value again has the same number.
NUMBERED = {
    "generation": re.compile(r"gen-[0-9a-f]{32}"),
    "api key": re.compile(r"sk-quantized-[0-9A-Za-z]{20,}"),
    "refresh token": re.compile(r"rt-quantized-[0-9A-Za-z_-]{20,}"),
    "access token": re.compile(r"eyJ[0-9A-Za-z_-]+\.eyJ[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+"),
    "sound": re.compile(r"\baudio_[0-9A-Za-z]{20}\b"),
    "upstream call": re.compile(r"\bgen-[0-9]{10}-[0-9A-Za-z]{20}\b|\bmsg_01[0-9A-Za-z]{22}\b"),
    "uuid": re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
}
ALIKE = (
    (re.compile(r"\breq-[0-9a-f]{32}\b"), "<request>"),
    (re.compile(r"\btenant-[0-9a-f]{12}\b"), "<tenant>"),
    (re.compile(r"\bmember-[0-9a-f]{12}\b"), "<member>"),
    (re.compile(r'"prefix":"sk-quantized-[0-9A-Za-z]{3}"'), '"prefix":"<prefix>"'),
    (re.compile(r'"last_four":"[0-9A-Za-z]{4}"'), '"last_four":"<last four>"'),
    # When a key was used is stored a moment after it was.
    (re.compile(r'"last_used_at":(null|"[0-9TZ:.-]+")'), '"last_used_at":"<time or null>"'),
    (re.compile(r'"limit_resets_at":"[0-9-]{10}T00:00:00Z"'), '"limit_resets_at":"<midnight>"'),
    (re.compile(r'"(milliseconds|first_token_ms|latency_ms)":[0-9]+'), r'"\1":"<ms>"'),
    (re.compile(r'"kid":"[0-9A-Za-z_-]{16}"'), '"kid":"<kid>"'),
    (re.compile(r'"x":"[0-9A-Za-z_-]{43}"'), '"x":"<public key>"'),
    (re.compile(r"\btry again in [0-9]+ s\b"), "try again in <seconds> s"),
    # Keys that were retired in this run, by whichever test: each has the shape of the first.
    (re.compile(r'(\{"[^{}]*"kid":"<kid>"[^{}]*\})(,\1)+'), r"\1"),
)
UNIX = re.compile(r'"(created|expires_at|iat)":([0-9]{10})\b')
# With parts of a second, as clocks tell it: times in our own words have none.
TIME = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,6}(Z|[+-][0-9]{2}:[0-9]{2})")
# Where a report says its days, and where it is asked for them.
DATE = re.compile(
    r'(?:(?<="from":")|(?<="to":")|(?<="group":")|(?<=\bfrom=)|(?<=\bto=)|(?<=\n)|(?<=\busage-)'
    r"|(?<=\busage-[0-9]{4}-[0-9]{2}-[0-9]{2}-))[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])"
)
REPORT_DAYS_MAX = 400
HASH = re.compile(r"\b[0-9a-f]{32}\b")
WAITS = re.compile(r"[0-9]+")


def new_email() -> str:
    return f"member-{os.urandom(6).hex()}@example.org"


class Names:
    """The names that a story's volatile values have."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def know(self, value: Any, name: str) -> None:
        self._known[str(value)] = f"<{name}>"

    def know_field(self, field: str, value: Any, name: str) -> None:
        """For a value that says too little by itself; a number becomes a string of the name."""
        self._known[f'"{field}":{compact(value)}'] = f'"{field}":"<{name}>"'

    def text(self, given: str) -> str:
        for value, name in self._known.items():
            given = given.replace(value, name)
        for kind, pattern in NUMBERED.items():
            given = pattern.sub(lambda found, kind=kind: self._numbered(kind, found[0]), given)
        for pattern, name in ALIKE:
            given = pattern.sub(name, given)
        given = UNIX.sub(lambda found: f'"{found[1]}":"<unix>"' if is_now(int(found[2])) else found[0], given)
        return DATE.sub(day, TIME.sub(moment, given))

    def header(self, name: str, value: str, status: int) -> str:
        if name.startswith("x-ratelimit-reset-") or (name == "retry-after" and status == 429):
            return WAITS.sub("<seconds>", value)
        return self.text(value)

    def _numbered(self, kind: str, value: str) -> str:
        count = sum(name.startswith(f"<{kind}:") for name in self._known.values())
        return self._known.setdefault(value, f"<{kind}:{count + 1}>")


def is_now(unix: float) -> bool:
    return abs(unix - time.time()) < DAY_S


def moment(found: re.Match[str]) -> str:
    """A time of this run."""
    return f"<time {found[1]}>" if is_now(datetime.fromisoformat(found[0]).timestamp()) else found[0]


def day(found: re.Match[str]) -> str:
    """A day of this run's reports, counted from today."""
    try:
        days = (date.fromisoformat(found[0]) - datetime.now(UTC).date()).days
    except ValueError:
        return found[0]
    return f"<day{days:+d}>" if abs(days) <= REPORT_DAYS_MAX else found[0]


# --- The books ---------------------------------------------------------------------------------------

# Of each table the recorded columns: where its value is found today, and the value that goes without saying. A column
# that moves keeps its name and its recordings: write the new expression here.
HOLD = {
    "id": ("'gen-' || replace(id::text, '-', '')", None),
    "wallet": ("wallet_id", "<organization>"),
    "key": ("key_id", "<key>"),
    "user": ("CASE WHEN user_id IS NULL THEN NULL ELSE '<user>' END", None),
    "model": ("model", None),
    "has_price": ("price_id IS NOT NULL", True),
    "has_rate": ("rate_id IS NOT NULL", True),
    "amount": ("amount", None),
    "state": ("state", "settled"),
    "actual": ("actual", None),
    "charged": ("charged", None),
    "is_created_now": ("abs(extract(epoch FROM now() - created_at)) < 86400", True),
    "life_s": ("extract(epoch FROM expires_at - created_at)::float", 1200.0),
    "is_resolved_after": ("resolved_at >= created_at", True),
    "provider": ("provider", ""),
    "provider_ref": ("provider_ref", ""),
    "is_dispatched_after": ("dispatched_at >= created_at", True),
    "sweep_attempts": ("sweep_attempts", 0),
    "sweep_at": ("sweep_at", None),
}
USAGE = {
    "id": ("'gen-' || replace(hold_id::text, '-', '')", None),
    "wallet": ("wallet_id", "<organization>"),
    "key": ("key_id", "<key>"),
    "user": ("CASE WHEN user_id IS NULL THEN NULL ELSE '<user>' END", None),
    "is_recorded_now": ("abs(extract(epoch FROM now() - recorded_at)) < 86400", True),
    "model": ("model", None),
    "provider": ("provider", None),
    "provider_ref": ("provider_ref", ""),
    "price_is_the_holds": ("price_id = (SELECT price_id FROM billing_hold h WHERE h.id = hold_id)", True),
    "streamed": ("streamed", False),
    "cancelled": ("cancelled", False),
    "estimated": ("estimated", False),
    "finish_reason": ("finish_reason", ""),
    "error_code": ("error_code", ""),
    "prompt_tokens": ("prompt_tokens", 0),
    "completion_tokens": ("completion_tokens", 0),
    "cached_tokens": ("cached_tokens", 0),
    "cache_write_5m_tokens": ("cache_write_5m_tokens", 0),
    "cache_write_1h_tokens": ("cache_write_1h_tokens", 0),
    "reasoning_tokens": ("reasoning_tokens", 0),
    "audio_input_tokens": ("audio_input_tokens", 0),
    "audio_output_tokens": ("audio_output_tokens", 0),
    "images": ("coalesce((units ->> 'images')::bigint, 0)", 0),
    "web_searches": ("coalesce((units ->> 'web_searches')::bigint, 0)", 0),
    "cost_pico": ("cost_pico", 0),
    "reported_cost_usd": ("trim_scale(reported_cost_usd)::text", None),
    "charged": ("charged", 0),
    "attempts": ("attempts::text", None),
    "has_first_token_ms": ("first_token_ms IS NOT NULL", True),
    "has_latency_ms": ("latency_ms IS NOT NULL", True),
    "reconciliation": ("reconciliation", "pending"),
    "is_reconciled_later": ("reconcile_at > recorded_at", True),
    "reconcile_attempts": ("reconcile_attempts", 0),
    "reconcile_reason": ("reconcile_reason", ""),
    "billed_cost_usd": ("trim_scale(billed_cost_usd)::text", None),
}
ENTRY = {
    "wallet": ("wallet_id", "<organization>"),
    "seq": ("seq", None),
    "kind": ("kind", "usage"),
    "contra": ("contra", "revenue"),
    "amount": ("amount", None),
    "balance_after": ("balance_after", None),
    "hold": ("'gen-' || replace(hold_id::text, '-', '')", None),
    "idempotency_key": ("idempotency_key", None),
    "actor": ("actor", ""),
    "reason": ("reason", ""),
    "is_created_now": ("abs(extract(epoch FROM now() - created_at)) < 86400", True),
}
TABLES = {
    "hold": ("billing_hold", "id", HOLD),
    "usage": ("billing_usage", "hold_id", USAGE),
    "entries": ("billing_entry", "hold_id", ENTRY),
}


def rows(table: str, column: str, columns: dict[str, tuple[str, Any]], value: Any) -> list[dict[str, Any]]:
    """Of a call; its entries in the order of their making."""
    order = "seq" if "seq" in columns else column
    said = ", ".join(f'({expression}) AS "{name}"' for name, (expression, _) in columns.items())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {said} FROM {table} WHERE {column} = %s ORDER BY {order}", [value])
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def holds_of(organization_id: Any) -> list[Any]:
    """The ids, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM billing_hold WHERE wallet_id = %s ORDER BY created_at, id", [organization_id])
        return [found for (found,) in cursor.fetchall()]


# --- A story, while it is told -----------------------------------------------------------------------


class Stage:
    """Where one story is told: calls are made here, and what came of them is kept in `exchanges`, by title."""

    def __init__(
        self, server: Server, origins: dict[str, str], credits_micro: int = 100_000_000, **options: Any
    ) -> None:
        self.server = server
        self.names = Names()
        for name, origin in origins.items():
            self.names.know(origin, name)
        self.exchanges: dict[str, Any] = {}
        self.tenant = self.new_tenant(credits_micro, **options)
        self._seen: set[Any] = set()

    def new_tenant(self, credits_micro: int = 100_000_000, **options: Any) -> Tenant:
        """Another one to call as; the last one's books are kept from now on."""
        with override_settings(PASSWORD_HASHERS=QUICK_HASHERS):
            tenant = make_tenant(credits_micro, name=f"tenant-{os.urandom(6).hex()}", email=new_email(), **options)
        self.names.know(tenant.organization_id, "organization")
        self.names.know(tenant.key_id, "key")
        self.names.know(tenant.api_key, "secret")
        self.tenant = tenant
        return tenant

    def call(
        self,
        title: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str | None = "",
        headers: dict[str, str] | None = None,
        transform: Transform = bytes,
        has_books: bool = False,
    ) -> Answer:
        """One exchange, kept. `by` is a secret or token, the tenant's own unless told; None: nobody.
        `transform` takes out of an answer what other tests have put there."""
        sent = self.sent(body, by, headers)
        answer = call(self.server, method, path, sent, encoded(body), TIMEOUT_S)
        self.keep(title, method, path, sent, body, answer, transform, has_books=has_books)
        return answer

    def ask(self, title: str, body: Any, *, has_books: bool = True, **more: Any) -> Answer:
        """A completion, kept with its books."""
        return self.call(title, "POST", PATH, body, has_books=has_books, **more)

    def begin(self, body: Any, headers: dict[str, str] | None = None) -> Callable[[str], Answer]:
        """A completion whose head has come. The rest is read, and all of it kept, by what is returned."""
        sent = self.sent(body, "", headers)
        wire = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=TIMEOUT_S)
        wire.request("POST", PATH, encoded(body), sent)
        response = wire.getresponse()

        def rest(title: str) -> Answer:
            answer = read_answer(response)
            wire.close()
            self.keep(title, "POST", PATH, sent, body, answer, bytes, has_books=True)
            return answer

        return rest

    def sent(self, body: Any, by: str | None, headers: dict[str, str] | None) -> dict[str, str]:
        bearer = {} if by is None else {"authorization": f"Bearer {by or self.tenant.api_key}"}
        typed = {} if body is None else {"content-type": "application/json"}
        return {**typed, **bearer, **(headers or {})}

    def keep(
        self,
        title: str,
        method: str,
        path: str,
        sent: dict[str, str],
        body: Any,
        answer: Answer,
        transform: Transform,
        *,
        has_books: bool,
    ) -> None:
        assert title not in self.exchanges, f"two exchanges are called '{title}'"
        kept: dict[str, Any] = {"request": f"{method} {self.names.text(path)}", "sent": {}}
        kept["sent"] = {name: self.names.text(value) for name, value in sent.items() if name != "content-type"}
        if body is not None:
            kept["said"] = shown(self.names.text(short(encoded(body).decode("utf-8", "backslashreplace"))))
        kept["status"] = answer.status
        kept["headers"] = self.headers(answer, is_whole=transform is bytes)
        kept |= self.body(answer, transform)
        if has_books:
            kept["books"] = self.books()
        self.exchanges[title] = kept

    def headers(self, answer: Answer, *, is_whole: bool) -> dict[str, str]:
        """All but the date, by name. A length is right or it is kept; a hash is of what the body is, if it is whole."""
        found = {name: value for name, value in answer.headers.items() if name != "date"}
        if found.get("content-length") == str(len(answer.body)):
            found["content-length"] = "<of the body>"
        if not is_whole and "etag" in found:
            found["etag"] = HASH.sub("<hash>", found["etag"])
        return {name: self.names.header(name, value, answer.status) for name, value in sorted(found.items())}

    def body(self, answer: Answer, transform: Transform) -> dict[str, Any]:
        text = self.names.text(transform(answer.body).decode("utf-8", "backslashreplace"))
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            *events, tail = text.split("\n\n")
            return {"events": [event(block) for block in events]} | ({"tail": tail} if tail else {})
        if answer.headers.get("content-type", "").startswith("application/json"):
            return {"body": shown(text)}
        return {"lines": text.splitlines(keepends=True)}

    def books(self) -> list[dict[str, Any]]:
        """Of every hold that was made since the last look: receipt, hold, usage and entries."""
        wait_closed(self.tenant, TIMEOUT_S)
        new = [hold_id for hold_id in holds_of(self.tenant.organization_id) if hold_id not in self._seen]
        self._seen.update(new)
        return [self.book(hold_id) for hold_id in new]

    def book(self, hold_id: Any) -> dict[str, Any]:
        path = f"/v1/generation?id=gen-{hold_id.hex}"
        receipt = call(self.server, "GET", path, self.tenant.headers, None, TIMEOUT_S)
        assert receipt.status == 200, receipt
        kept: dict[str, Any] = {"receipt": self.body(receipt, bytes)["body"]}
        for name, (table, column, columns) in TABLES.items():
            found = [self.row(row, columns) for row in rows(table, column, columns, hold_id)]
            kept[name] = found if name == "entries" else found[0] if found else None
        return kept

    def row(self, row: dict[str, Any], columns: dict[str, tuple[str, Any]]) -> dict[str, Any]:
        """Without what goes without saying."""
        named = {name: self.value(value) for name, value in row.items()}
        return {name: value for name, value in named.items() if value != columns[name][1]}

    def value(self, value: Any) -> Any:
        plain = value if isinstance(value, bool | int | float | None) else str(value)
        return MILLISECONDS.sub('"milliseconds": "<ms>"', self.names.text(plain)) if isinstance(plain, str) else plain

    def note(self, title: str, value: Any) -> None:
        """Something that an answer says only to those who decode it."""
        self.exchanges[title] = json.loads(self.names.text(compact(value)))


MILLISECONDS = re.compile(r'"milliseconds": [0-9]+')


def encoded(body: Any) -> bytes | None:
    return body if body is None or isinstance(body, bytes) else compact(body).encode()


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def shown(text: str) -> Any:
    """An object or array, if the bytes follow from it; otherwise the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict | list) and compact(value) == text else text


def event(block: str) -> Any:
    """A string is a block as it came; anything else is the data of an event."""
    data = shown(block.removeprefix("data: ")) if block.startswith("data: ") else block
    return block if isinstance(data, str) else data


REPEATED = re.compile(r"((?:word ){100,})")


def short(text: str) -> str:
    return REPEATED.sub(lambda found: f"<'word ', {len(found[1]) // 5} times>", text)


def claims(token: str) -> tuple[Any, Any]:
    """An access token's header and what it says, unproved."""
    header, payload = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    return header, payload


# --- Files -------------------------------------------------------------------------------------------


def path_of(family: str) -> Path:
    return DIRECTORY / f"{family}.json"


def read(family: str) -> dict[str, Any]:
    return json.loads(path_of(family).read_text()) if path_of(family).exists() else {}


def write(family: str, stories: dict[str, Any]) -> Path:
    path_of(family).write_text(layout(stories) + "\n")
    return path_of(family)


ON_ONE_LINE = {"receipt", "hold", "usage"}  # there are many, and they are alike


def layout(value: Any, indent: int = 0, *, is_line: bool = False) -> str:
    """JSON to read and to compare: one line for what fits on one, for each event of a stream and each row."""
    line = json.dumps(value, ensure_ascii=False)
    if is_line or not isinstance(value, dict | list) or not value or len(line) + indent <= LINE_CHARS_MAX:
        return line
    inner = indent + 1
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {member(name, part, inner)}" for name, part in value.items()]
    else:
        parts = [layout(part, inner) for part in value]
    return bracketed(value, parts, indent)


def member(name: str, value: Any, indent: int) -> str:
    if name == "events" and isinstance(value, list):
        return bracketed(value, [layout(each, is_line=True) for each in value], indent)
    return layout(value, indent, is_line=name in ON_ONE_LINE)


def bracketed(value: dict[str, Any] | list[Any], parts: list[str], indent: int) -> str:
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    return opened + ",".join(f"\n{' ' * (indent + 1)}{part}" for part in parts) + f"\n{' ' * indent}{closed}"
