"""Every page in light and dark, on a desk and on a phone: nothing that axe calls serious, nothing wider than it."""

import json
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page

from tests.browser.pages import PAGES, Shown
from tests.browser.people import DESKTOP, PHONE, People
from tests.browser.populated import Populated

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
SERIOUS = ("serious", "critical")
# What can differ between two looks at the same document; everything is asked at the first one.
LOOKS = ("color-contrast", "target-size", "scrollable-region-focusable", "link-in-text-block")


def axe(page: Page, rules: tuple[str, ...] = ()) -> list[str]:
    options = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
    if rules:
        options = {"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": list(rules)}}
    found = page.evaluate(f"axe.run({json.dumps(options)})")
    return [
        f"{each['id']}: {node['target']} {node['html'][:160]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("shown", PAGES, ids=lambda shown: shown.name)
def test_a_page_can_be_read_by_everybody(shown: Shown, people: People, populated: Populated):
    page = people.opened(shown, populated)
    page.add_init_script(AXE)
    page.evaluate(AXE)
    problems = [f"light, desktop: {each}" for each in axe(page)]
    for colours in ("light", "dark"):
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            page.set_viewport_size(size)
            page.emulate_media(color_scheme=colours, reduced_motion="reduce")
            problems += [f"{colours}, {name}: {each}" for each in axe(page, LOOKS)]
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > size["width"]:
                problems.append(f"{name}: {wide} px wide")
    assert problems == []
