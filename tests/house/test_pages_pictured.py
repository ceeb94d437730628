"""The list of pages that are looked at (tests/browser/pages.py) is the map of addresses."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.urls import URLPattern, get_resolver, resolve

from quantized.devstack.places import CHECKOUT
from tests.browser import screenshots
from tests.browser.pages import LISTS, NOT_PAGES, PAGES

PICTURES = CHECKOUT / "docs" / "pictures"
DOCUMENTS = sorted((CHECKOUT / "docs").glob("*.md"))
LOOKS = ("light", "dark", "phone")
PICTURES_MAX = 8  # whoever clones the repository gets all that was ever kept
PICTURES_BYTES_MAX = 500_000
ANY = UUID(int=0)
GIVEN: dict[str, Any] = {
    "key": ANY,
    "organization": ANY,
    "request": ANY,
    "rule": ANY,
    "endpoint": ANY,
    "receipt": "gen-1",
    "failed": "gen-2",
    "invitation": "token",
    "member": 1,
    "route": 1,
    "provider": 1,
}


def names(resolver: Any, prefix: str = "") -> Iterator[str]:
    """Of all addresses but the API's and the admin's; nameless ones are no pages."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            if pattern.name:
                yield prefix + pattern.name
        elif pattern.namespace != "admin" and str(pattern.pattern) != "v1/":
            yield from names(pattern, f"{pattern.namespace}:" if pattern.namespace else prefix)


def test_every_address_is_a_page_that_is_looked_at_or_says_why_not():
    mapped = set(names(get_resolver()))
    shown = {resolve(page.path.partition("?")[0].format_map(GIVEN)).view_name for page in PAGES if page.status == 200}
    shown = {name for name in shown if not name.startswith("admin:")}
    excused = [name for reasons in NOT_PAGES.values() for name in reasons]
    same_page = {"account_login": "login", "account_logout": "logout"}
    assert {same_page.get(name, name) for name in mapped} == {same_page.get(name, name) for name in shown} | set(
        excused
    )
    assert not shown & set(excused)


def test_every_list_of_the_admin_is_looked_at():
    registered = {f"{model._meta.app_label}/{model._meta.model_name}" for model in admin.site._registry}
    assert registered == set(LISTS)


def test_screenshots_are_taken_of_the_list_in_every_look():
    (taken,) = [mark for mark in screenshots.test_picture.pytestmark if mark.name == "parametrize"]
    assert taken.args == ("shown", PAGES)
    assert [look for look, *_ in screenshots.LOOKS] == list(LOOKS)
    listed = screenshots.listed()
    assert [page.name for page in PAGES if f"| {page.name} |" not in listed] == []


def test_the_pictures_in_the_documents_are_few_small_and_of_pages():
    kept = {path.name for path in PICTURES.iterdir()}
    assert kept <= {f"{page.name}-{look}.png" for page in PAGES for look in LOOKS}
    shown = {name for page in DOCUMENTS for name in re.findall(r"\(pictures/([\w.-]+)\)", page.read_text())}
    assert kept == shown
    assert len(kept) <= PICTURES_MAX
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) <= PICTURES_BYTES_MAX
