"""`make screenshots`: every page, light, dark and on a phone, into var/screenshots/ and a list of them.

Runs as tests do, on their servers: `pytest tests/browser/screenshots.py`. A suite that is asked for everything does
not collect it.
"""

import io
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Page, ViewportSize

from quantized.devstack.places import VAR
from tests.browser.pages import PAGES, Shown
from tests.browser.people import DESKTOP, PHONE, People
from tests.browser.populated import Populated

HERE = VAR / "screenshots"
COLOURS = 256  # of a picture's palette; there are few on a page
HEIGHT_MAX = 2_400  # pixels; a long list goes on as it began
LOOKS: tuple[tuple[str, Literal["light", "dark"], ViewportSize], ...] = (
    ("light", "light", DESKTOP),
    ("dark", "dark", DESKTOP),
    ("phone", "light", PHONE),
)
HEAD = """# How it looks

Made by `make screenshots`, of a tenant with six weeks of calls. Those that documents show are in docs/pictures/: copy a
new one there after a change that is to be seen.
"""


@pytest.mark.parametrize("shown", PAGES, ids=lambda shown: shown.name)
def test_picture(shown: Shown, people: People, populated: Populated) -> None:
    page = people.opened(shown, populated)
    page.wait_for_load_state("networkidle")
    HERE.mkdir(parents=True, exist_ok=True)
    for look, colours, size in LOOKS:
        people.look(page, shown, colours, size)
        keep(taken(page, size), f"{shown.name}-{look}.png")


def taken(page: Page, size: ViewportSize) -> Image.Image:
    picture = page.screenshot(full_page=True, animations="disabled")
    whole = Image.open(io.BytesIO(picture))
    return whole.crop((0, 0, size["width"], min(whole.height, HEIGHT_MAX)))


def keep(picture: Image.Image, name: str) -> None:
    picture.convert("RGB").quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE).save(HERE / name, optimize=True)


def test_list_of_them() -> None:
    """The last of these: what is of no page any more goes."""
    names = [f"{shown.name}-{look}.png" for shown in PAGES for look, *_ in LOOKS]
    for left_over in {path.name for path in HERE.glob("*.png")} - set(names):
        (HERE / left_over).unlink()
    HERE.mkdir(parents=True, exist_ok=True)
    (HERE / "README.md").write_text(f"{HEAD}\n{listed()}")


def listed() -> str:
    rows = [
        f"| {shown.name} | `{shown.path}` | " + " | ".join(f"[{look}]({shown.name}-{look}.png)" for look, *_ in LOOKS)
        for shown in PAGES
    ]
    return "\n".join(["| page | address | | | |", "|---|---|---|---|---|", *(f"{row} |" for row in rows), ""])
