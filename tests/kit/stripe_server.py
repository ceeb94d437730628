"""A Stripe of our own: a strict server on loopback that speaks what we use of its API, signs its events and delivers
them, as often and in whatever order a test likes.

Strict as Stripe is: a missing or unknown parameter, a wrong key or version, an idempotency key that comes with another
body are refused in Stripe's error shape. What payers and banks do, tests call as methods (`pay`, `refund`, `dispute`);
each returns the events Stripe would send.
"""

import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from hmac import digest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

SECRET_KEY = "sk_test_quantized"
WEBHOOK_SECRET = "whsec_quantized"
VERSION = "2026-10-28.endive"
Json = dict[str, Any]

CUSTOMER = {"metadata", "email", "name"}
SESSION = {
    "mode",
    "customer",
    "client_reference_id",
    "success_url",
    "cancel_url",
    "line_items",
    "metadata",
    "payment_intent_data",
}
INTENT = {
    "amount",
    "currency",
    "customer",
    "payment_method",
    "confirm",
    "off_session",
    "description",
    "metadata",
}
INTENT_LIST = {"customer", "created", "limit", "starting_after"}


class Refusal(Exception):
    def __init__(self, status: int, type: str, message: str, **more: Any) -> None:
        self.status, self.error = status, {"type": type, "message": message, **more}


def invalid(message: str, **more: Any) -> Refusal:
    return Refusal(400, "invalid_request_error", message, **more)


class StripeServer:
    """`with StripeServer() as stripe`: listens at `stripe.origin`."""

    def __init__(self) -> None:
        self.customers: dict[str, Json] = {}
        self.sessions: dict[str, Json] = {}
        self.intent_data: dict[str, Json] = {}  # by session: what its intent will be told
        self.intents: dict[str, Json] = {}
        self.charges: dict[str, Json] = {}
        self.disputes: dict[str, Json] = {}
        self.events: list[Json] = []
        self.requests: list[tuple[str, Json]] = []
        self.cards: dict[str, str] = {}  # payment method → what becomes of a charge: "ok" or an error code
        self.answers: dict[str, tuple[str, int, Json]] = {}  # by idempotency key
        self.at_work: set[str] = set()
        self.away = 0  # so many requests get a 503 and are not carried out
        self.lost_answers = 0  # so many requests are carried out, and never answered
        self.before_answer: Callable[[], None] | None = None
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self))
        self.origin = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "StripeServer":
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # --- the API ----------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: Any, query: str, body: str) -> tuple[int, Json]:
        if headers["Authorization"] != f"Bearer {SECRET_KEY}":
            return 401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}
        if headers["Stripe-Version"] != VERSION:
            return 400, {"error": {"type": "invalid_request_error", "message": f"not {VERSION}"}}
        key = headers["Idempotency-Key"] if method == "POST" else None
        return self.once(key, f"{path} {body}", lambda: self.carry_out(method, path, nested(query or body)))

    def once(self, key: str | None, said: str, work: Callable[[], tuple[int, Json]]) -> tuple[int, Json]:
        """Stripe's idempotency: the same request gets the same answer, another one with its key an error."""
        if key is None:
            return work()
        with self.lock:
            if key in self.answers:
                first, status, answer = self.answers[key]
                if first != said:
                    message = "Keys for idempotent requests can only be used with the same parameters"
                    return 400, {"error": {"type": "idempotency_error", "message": message}}
                return status, answer
            if key in self.at_work:
                message = "There is currently another in-progress request using this Idempotent Key"
                return 409, {
                    "error": {"type": "idempotency_error", "message": message, "code": "idempotency_key_in_use"}
                }
            self.at_work.add(key)
        status, answer = work()
        with self.lock:
            self.at_work.discard(key)
            if not (400 <= status < 402 or status == 404):  # what was refused before it began may be repeated
                self.answers[key] = (said, status, answer)
        return status, answer

    def carry_out(self, method: str, path: str, params: Json) -> tuple[int, Json]:
        routes = {
            ("POST", "/v1/customers"): self.create_customer,
            ("POST", "/v1/checkout/sessions"): self.create_session,
            ("POST", "/v1/payment_intents"): self.create_intent,
            ("GET", "/v1/payment_intents"): self.list_intents,
        }
        with self.lock:
            self.requests.append((path, params))
        try:
            if (method, path) not in routes:
                raise Refusal(404, "invalid_request_error", f"Unrecognized request URL ({method}: {path})")
            with self.lock:
                return 200, routes[method, path](params)
        except Refusal as refusal:
            return refusal.status, {"error": refusal.error}

    def create_customer(self, params: Json) -> Json:
        check(params, CUSTOMER)
        customer = {"id": make_id("cus"), "object": "customer", "livemode": False, "created": now()}
        customer |= {"metadata": params.get("metadata", {}), "email": params.get("email")}
        self.customers[customer["id"]] = customer
        return customer

    def create_session(self, params: Json) -> Json:
        check(params, SESSION, "mode", "line_items", "success_url")
        if params["mode"] != "payment":
            raise invalid("Only payments here", param="mode")
        self.require_customer(params)
        total = 0
        currency = ""
        for item in params["line_items"]:
            check(item, {"quantity", "price_data"}, "quantity", "price_data")
            check(
                item["price_data"],
                {"currency", "unit_amount", "product_data"},
                "currency",
                "unit_amount",
                "product_data",
            )
            check(item["price_data"]["product_data"], {"name"}, "name")
            currency = item["price_data"]["currency"]
            total += integer(item["price_data"], "unit_amount") * integer(item, "quantity")
        if total < 50:
            raise invalid("The amount is too small", code="amount_too_small")
        check(params.get("payment_intent_data", {}), {"metadata", "setup_future_usage"})
        id = make_id("cs_test")
        session = {
            "id": id,
            "object": "checkout.session",
            "mode": "payment",
            "status": "open",
            "payment_status": "unpaid",
            "payment_intent": None,
            "amount_total": total,
            "amount_subtotal": total,
            "currency": currency,
            "customer": params.get("customer"),
            "client_reference_id": params.get("client_reference_id"),
            "metadata": params.get("metadata", {}),
            "success_url": params["success_url"],
            "cancel_url": params.get("cancel_url"),
            "url": f"{self.origin}/pay/{id}",
            "livemode": False,
            "created": now(),
            "expires_at": now() + 86_400,
        }
        self.sessions[id] = session
        self.intent_data[id] = params.get("payment_intent_data", {})
        return session

    def create_intent(self, params: Json) -> Json:
        check(params, INTENT, "amount", "currency")
        self.require_customer(params)
        if params.get("confirm") != "true" or params.get("off_session") != "true":
            raise invalid("Only off-session charges here", param="off_session")
        method = params.get("payment_method")
        if method not in self.cards:
            raise invalid(f"No such PaymentMethod: '{method}'", code="resource_missing", param="payment_method")
        intent = self.new_intent(
            integer(params, "amount"), params["currency"], params["customer"], params.get("metadata", {})
        )
        outcome = self.cards[method]
        if outcome == "processing":
            intent |= {"status": "processing", "payment_method": method}
            return dict(intent)
        if outcome != "ok":
            error = {"type": "card_error", "code": outcome, "message": "Your card was declined."}
            intent |= {"status": "requires_payment_method", "last_payment_error": error}
            self.emit("payment_intent.payment_failed", intent)
            raise Refusal(402, "card_error", error["message"], code=outcome, payment_intent=dict(intent))
        self.succeed(intent, method)
        return dict(intent)

    def list_intents(self, params: Json) -> Json:
        check(params, INTENT_LIST)
        found = [intent for intent in self.intents.values() if intent["customer"] == params.get("customer")]
        found = [intent for intent in found if intent["created"] >= int(params.get("created", {}).get("gte", 0))]
        return {"object": "list", "data": list(map(dict, found)), "has_more": False, "url": "/v1/payment_intents"}

    def require_customer(self, params: Json) -> None:
        if params.get("customer") not in self.customers:
            raise invalid(f"No such customer: '{params.get('customer')}'", code="resource_missing", param="customer")

    # --- what people and banks do -------------------------------------------------------------------

    def pay(self, session_id: str, card: str = "pm_card_visa") -> list[Json]:
        """The payer pays on Stripe's page; the events as Stripe sends them."""
        with self.lock:
            session, intent = self.confirm(session_id)
            self.cards.setdefault(card, "ok")
            before = len(self.events)
            self.succeed(intent, card)
            session |= {"status": "complete", "payment_status": "paid"}
            self.emit("checkout.session.completed", session)
            return self.events[before:]

    def promise(self, session_id: str) -> Json:
        """The payer chose a way that takes days."""
        session, intent = self.confirm(session_id)
        intent["status"] = "processing"
        session["status"] = "complete"
        return self.emit("checkout.session.completed", session)

    def arrive(self, session_id: str) -> list[Json]:
        session = self.sessions[session_id]
        before = len(self.events)
        self.succeed(self.intents[session["payment_intent"]], "pm_bank")
        session["payment_status"] = "paid"
        self.emit("checkout.session.async_payment_succeeded", session)
        return self.events[before:]

    def bounce(self, session_id: str) -> Json:
        return self.emit("checkout.session.async_payment_failed", self.sessions[session_id])

    def expire(self, session_id: str) -> Json:
        self.sessions[session_id]["status"] = "expired"
        return self.emit("checkout.session.expired", self.sessions[session_id])

    def finish(self, intent_id: str) -> list[Json]:
        """A charge that was at work comes through."""
        before = len(self.events)
        self.succeed(self.intents[intent_id], "pm_bank")
        return self.events[before:]

    def refund(self, intent_id: str, cents: int) -> Json:
        charge = self.charges[self.intents[intent_id]["latest_charge"]]
        assert charge["amount_refunded"] + cents <= charge["amount"]
        charge["amount_refunded"] += cents
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        return self.emit("charge.refunded", charge)

    def dispute(self, intent_id: str, status: str = "needs_response", amount: int | None = None) -> list[Json]:
        intent = self.intents[intent_id]
        dispute = {
            "id": make_id("dp"),
            "object": "dispute",
            "amount": amount or intent["amount"],
            "charge": intent["latest_charge"],
            "currency": intent["currency"],
            "metadata": {},
            "payment_intent": intent_id,
            "reason": "fraudulent",
            "status": status,
            "livemode": False,
            "created": now(),
        }
        self.disputes[dispute["id"]] = dispute
        events = [self.emit("charge.dispute.created", dispute)]
        if not status.startswith("warning"):
            events.append(self.emit("charge.dispute.funds_withdrawn", dispute))
        return events

    def close(self, dispute_id: str, status: str) -> list[Json]:
        dispute = self.disputes[dispute_id]
        dispute["status"] = status
        events = [self.emit("charge.dispute.funds_reinstated", dispute)] if status == "won" else []
        return [*events, self.emit("charge.dispute.closed", dispute)]

    def fail_on_page(self, session_id: str) -> Json:
        """The payer's card is declined on Stripe's page, which stays open for another one."""
        _, intent = self.confirm(session_id)
        intent["last_payment_error"] = {"type": "card_error", "code": "card_declined"}
        return self.emit("payment_intent.payment_failed", intent)

    def confirm(self, session_id: str) -> tuple[Json, Json]:
        """A session has one intent, however often its payer tries."""
        session = self.sessions[session_id]
        assert session["status"] == "open"
        if session["payment_intent"] is None:
            data = self.intent_data[session_id]
            metadata = data.get("metadata", {})
            intent = self.new_intent(session["amount_total"], session["currency"], session["customer"], metadata)
            intent["setup_future_usage"] = data.get("setup_future_usage")
            session["payment_intent"] = intent["id"]
        return session, self.intents[session["payment_intent"]]

    def new_intent(self, amount: int, currency: str, customer: str, metadata: Json) -> Json:
        intent = {
            "id": make_id("pi"),
            "object": "payment_intent",
            "amount": amount,
            "amount_received": 0,
            "currency": currency,
            "customer": customer,
            "metadata": metadata,
            "status": "requires_payment_method",
            "payment_method": None,
            "setup_future_usage": None,
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "created": now(),
        }
        self.intents[intent["id"]] = intent
        return intent

    def succeed(self, intent: Json, method: str) -> None:
        charge = {
            "id": make_id("ch"),
            "object": "charge",
            "amount": intent["amount"],
            "amount_refunded": 0,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "metadata": dict(intent["metadata"]),
            "payment_intent": intent["id"],
            "paid": True,
            "refunded": False,
            "status": "succeeded",
            "livemode": False,
            "created": now(),
        }
        self.charges[charge["id"]] = charge
        intent |= {
            "status": "succeeded",
            "amount_received": intent["amount"],
            "payment_method": method,
            "latest_charge": charge["id"],
        }
        self.emit("charge.succeeded", charge)
        self.emit("payment_intent.succeeded", intent)

    # --- events -------------------------------------------------------------------------------------

    def emit(self, type: str, object: Json) -> Json:
        event = {
            "id": make_id("evt"),
            "object": "event",
            "api_version": VERSION,
            "created": now(),
            "data": {"object": json.loads(json.dumps(object))},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": type,
        }
        self.events.append(event)
        return event


def signed(event: Json, *, secret: str = WEBHOOK_SECRET, at: int | None = None) -> tuple[bytes, str]:
    """The body and its Stripe-Signature."""
    body = json.dumps(event, indent=2).encode()
    at = now() if at is None else at
    mac = digest(secret.encode(), f"{at}.".encode() + body, sha256).hex()
    return body, f"t={at},v1={mac}"


def deliver(url: str, *events: Json, at_once: bool = False) -> list[int]:
    """By HTTP, one after the other or all at the same moment; the answers' statuses."""
    gate = threading.Barrier(len(events) if at_once else 1)

    def send(event: Json) -> int:
        body, signature = signed(event)
        headers = {"Stripe-Signature": signature, "Content-Type": "application/json; charset=utf-8"}
        with httpx.Client(timeout=30) as client:
            gate.wait()
            return client.post(url, content=body, headers=headers).status_code

    with ThreadPoolExecutor(len(events) if at_once else 1) as pool:
        return list(pool.map(send, events))


def handler_for(stripe: StripeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.serve("")

        def do_POST(self) -> None:
            self.serve(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def serve(self, body: str) -> None:
            url = urlsplit(self.path)
            if stripe.away:
                stripe.away -= 1
                self.reply(503, {"error": {"type": "api_error", "message": "away"}})
                return
            status, answer = stripe.answer(self.command, url.path, self.headers, url.query, body)
            if stripe.before_answer is not None:
                stripe.before_answer()
            if stripe.lost_answers:
                stripe.lost_answers -= 1
                self.close_connection = True
                return
            self.reply(status, answer)

        def reply(self, status: int, answer: Json) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Request-Id", make_id("req"))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Tests have nothing to read here."""

    return Handler


def check(params: Json, known: set[str], *required: str) -> None:
    for name in params:
        if name not in known:
            raise invalid(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    for name in required:
        if params.get(name) in (None, ""):
            raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)


def integer(params: Json, name: str) -> int:
    if not re.fullmatch(r"\d+", str(params[name])):
        raise invalid(f"Invalid integer: {params[name]}", code="parameter_invalid_integer", param=name)
    return int(params[name])


def nested(form: str) -> Json:
    """`a[b][0][c]=v` → {"a": {"b": [{"c": "v"}]}}, as Stripe reads a form."""
    found: Json = {}
    for name, value in parse_qsl(form, keep_blank_values=True, strict_parsing=bool(form)):
        first, *rest = [name.partition("[")[0], *re.findall(r"\[([^]]*)\]", name)]
        at = found
        for part, after in zip([first, *rest], [*rest, None], strict=True):
            if after is None:
                at[part] = value
            else:
                at = at.setdefault(part, {})
    return {name: listed(value) for name, value in found.items()}


def listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: listed(item) for name, item in value.items()}
    if inner and all(name.isdecimal() for name in inner):
        return [inner[str(place)] for place in range(len(inner))]
    return inner


def make_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"


def now() -> int:
    return int(time.time())
