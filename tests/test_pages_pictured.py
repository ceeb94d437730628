"""The list of pages that are looked at (tests/browser/pages.py) is the map of addresses."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.urls import URLPattern, get_resolver, resolve

from quantized.devstack.places import CHECKOUT
from tests.browser.pages import LISTS, NOT_PAGES, PAGES

PICTURES = CHECKOUT / "docs" / "screenshots"
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


def test_every_page_has_its_pictures_and_every_picture_its_page():
    wanted = {f"{page.name}-{look}.png" for page in PAGES for look in ("light", "dark", "phone")}
    assert len(wanted) == 3 * len(PAGES)
    assert {path.name for path in PICTURES.glob("*.png")} == wanted
    told = (PICTURES / "README.md").read_text()
    assert [page.name for page in PAGES if f"| {page.name} |" not in told] == []


def test_the_pictures_are_small_enough_to_be_cloned():
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 15_000_000
