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
OURS = {"exclude": [".swagger-ui"]}  # it writes its own colours; around it all is ours
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
    options = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
    if rules:
        options = {"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": list(rules)}}
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
    page.evaluate(AXE)
    problems = []
    for colours, name, size, rules in LOOKS:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=colours, reduced_motion="reduce")
        problems += [f"{colours}, {name}: {each}" for each in axe(page, rules)]
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > size["width"]:
            problems.append(f"{name}: {width} px wide")
    assert problems == []
