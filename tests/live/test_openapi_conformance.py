"""Schemathesis over a socket: requests of every shape that the OpenAPI document allows or forbids, and their answers.

No answer is a 5xx, none has an undocumented status, header, media type or shape, and what the document forbids is
refused. The examples are the same in every run; CONFORMANCE_EXAMPLES asks for more of them (`make test-long`).
"""

import json
import os
from itertools import count
from typing import Any, NamedTuple

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts import sessions
from accounts.models import LogInThrottle, Membership, Organization
from accounts.services import issue_key
from quantized.documents import document
from tests.kit import MODEL
from tests.kit.live import Server
from tests.kit.tenants import Tenant, make_tenant, wait_closed

EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "12"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
OPERATIONS = [
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model_id}"),
    ("GET", "/v1/credits"),
    ("GET", "/v1/key"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("GET", "/v1/keys/{key_id}"),
    ("PATCH", "/v1/keys/{key_id}"),
    ("DELETE", "/v1/keys/{key_id}"),
    ("POST", "/v1/keys/{key_id}/rotate"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/generation"),
    ("POST", "/v1/auth/token"),
    ("POST", "/v1/auth/refresh"),
    ("POST", "/v1/auth/revoke"),
    ("GET", "/.well-known/jwks.json"),
]
NEVER_WRONG = ("/v1/models", "/v1/models/{model_id}", "/.well-known/jwks.json")  # they take nothing, or any text
DAYS = {"from": "2026-01-01", "to": "2026-01-31"}
HELLO = [{"role": "user", "content": "Hello!"}]
UNHURRIED = list(HealthCheck)


class Caller(NamedTuple):
    tenant: Tenant
    owner: Membership
    access_token: str


@pytest.fixture
def caller(live_db: None) -> Any:
    """An owner without a limit of credits. The log-ins that failed here are nobody else's."""
    tenant = make_tenant(unlimited=True)
    owner = tenant.membership
    yield Caller(tenant, owner, sessions.begin(owner).access_token)
    wait_closed(tenant)
    LogInThrottle.objects.all().delete()


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(json.loads(document()[0]))


def test_every_operation_is_tried(schema: Any):
    tried = {(found.ok().method.upper(), found.ok().path) for found in schema.get_all_operations()}
    assert tried == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_document_allows(schema: Any, gateway: Server, caller: Caller, method: str, path: str):
    assert_held(schema[path][method].as_strategy(generation_mode=GenerationMode.POSITIVE), gateway, caller)


@pytest.mark.parametrize(("method", "path"), [each for each in OPERATIONS if each[1] not in NEVER_WRONG])
def test_what_the_document_forbids(schema: Any, gateway: Server, caller: Caller, method: str, path: str):
    assert_held(schema[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE), gateway, caller)


def assert_held(cases: SearchStrategy[Case], gateway: Server, caller: Caller) -> None:
    numbers = count(1)

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=UNHURRIED)
    @given(case=cases)
    def try_it(case: Case) -> None:
        number = next(numbers)
        if number % 2:
            make_real(case, caller, number)
        response = case.call(base_url=gateway.origin, headers=headers_of(case, caller))
        case.validate_response(response, checks=CHECKS)

    try_it()


def make_real(case: Case, caller: Caller, number: int) -> None:
    """Random ids name nothing, and random fields contradict each other: here are some that do not."""
    if "key_id" in (case.path_parameters or {}):
        key, _ = issue_key(Organization(pk=caller.tenant.organization_id))
        case.path_parameters["key_id"] = str(key.pk)
    if "model_id" in (case.path_parameters or {}):
        case.path_parameters["model_id"] = MODEL
    if case.path == "/v1/usage" and case.query:
        case.query |= {name: day for name, day in DAYS.items() if name in case.query}
    if case.path == "/v1/chat/completions" and isinstance(case.body, dict):
        case.headers.clear()
        case.body = plain_chat(case.body, number)


def plain_chat(body: dict[str, Any], number: int) -> dict[str, Any]:
    """Two of the optional fields, on a model there is, and every other time on messages that say something."""
    optional = sorted(set(body) - {"model", "messages"})
    kept = {optional[number * step % len(optional)] for step in (1, 7)} if optional else set()
    messages = HELLO if number % 4 == 1 else body.get("messages", HELLO)
    return {"model": MODEL, "messages": messages} | {name: body[name] for name in kept}


def headers_of(case: Case, caller: Caller) -> dict[str, str]:
    token = caller.access_token if "keys" in case.path else caller.tenant.api_key
    return {"Authorization": f"Bearer {token}"}
