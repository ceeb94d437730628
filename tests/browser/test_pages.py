"""Every page in light and dark, on a desk and on a phone: nothing that axe calls serious, nothing wider than it."""

import json
from pathlib import Path
from typing import Literal

import axe_playwright_python
import pytest
from playwright.sync_api import Page, ViewportSize

from tests.browser.pages import PAGES, Shown
from tests.browser.people import DESKTOP, PHONE, People
from tests.browser.populated import Populated

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
# Swagger's pages write their own colours; rows after the fifth are like those before.
OURS = {"exclude": [".swagger-ui", "tbody tr:nth-child(n+6)", "tbody:nth-of-type(n+6)"]}
SERIOUS = ("serious", "critical")
PHONES = ("color-contrast", "target-size", "scrollable-region-focusable", "link-in-text-block")
# Everything is asked at the first look, then what can differ at another one.
LOOKS: tuple[tuple[Literal["light", "dark"], str, ViewportSize, tuple[str, ...]], ...] = (
    ("light", "desktop", DESKTOP, ()),
    ("dark", "desktop", DESKTOP, ("color-contrast",)),
    ("dark", "phone", PHONE, ("color-contrast",)),
    ("light", "phone", PHONE, PHONES),
)


def axe(page: Page, rules: tuple[str, ...] = ()) -> list[str]:
    only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    options = {"resultTypes": ["violations"]} | only
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate(f"axe.run({json.dumps(OURS)}, {json.dumps(options)})")
    return [
        f"{each['id']}: {node['target']} {node['html'][:160]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("shown", PAGES, ids=lambda shown: shown.name)
def test_a_page_can_be_read_by_everybody(shown: Shown, people: People, populated: Populated):
    page = people.opened(shown, populated)
    problems = []
    for colours, name, size, rules in LOOKS if shown.who != "operator" else LOOKS[:2]:
        people.look(page, shown, colours, size)
        problems += [f"{colours}, {name}: {each}" for each in axe(page, rules)]
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > size["width"]:
            problems.append(f"{name}: {width} px wide")
    assert problems == []


def test_a_large_balance_fits_a_phone(people: People, populated: Populated):
    overview = next(shown for shown in PAGES if shown.name == "overview")
    page = people.opened(overview, populated)
    people.look(page, overview, "light", PHONE)
    for figure in page.locator(".balance .number, .stat-lead .number").all():
        figure.evaluate("element => element.textContent = '1,234,567.8901'")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
