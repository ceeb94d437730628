"""The API's own description: `/openapi.json` for programs, `/docs` for people. Both are for everyone."""

from functools import cache
from hashlib import sha256
from typing import cast

import msgspec
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

MAX_AGE_S = 300


@require_safe
def openapi(request: HttpRequest) -> HttpResponse:
    body, etag = document()
    response = HttpResponse(body, content_type="application/json")
    response["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
    response["ETag"] = etag
    return cast(HttpResponse, get_conditional_response(request, etag=etag, response=response))


@cache
def document() -> tuple[bytes, str]:
    """Made once in a process: the code does not change while it runs."""
    body = msgspec.json.encode(SchemaGenerator().get_schema(public=True))
    return body, f'"{sha256(body).hexdigest()[:32]}"'


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "docs.html")
