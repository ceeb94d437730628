"""The documentation and the code agree: every variable, error, address, field, command and file that one of them
names, the other one has."""

import ast
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from celery.schedules import crontab
from django.conf import settings
from django.core.management import get_commands
from django.urls import URLPattern, reverse

from billing.oversight import verifier
from completions import errors
from completions.api import urls
from completions.chat.request import Fields
from completions.dialects.openai_chat.answers import STREAM_FAILURE_EVENT
from quantized.asgi import HEALTH
from quantized.devstack.places import CHECKOUT
from quantized.schedule import PERIODIC_TASKS

DOCS = CHECKOUT / "docs"
API = DOCS / "api.md"
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
ADRS = sorted((DOCS / "adr").glob("*.md"))
ROOMS = ("quantized", "accounts", "billing", "common", "completions", "sandbox")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code(page: Path) -> str:
    """What a page shows as code: blocks and spans, and no prose."""
    found = re.findall(r"^```.*?^```$|``.+?``|`[^`\n]+`", text(page), re.DOTALL | re.MULTILINE)
    return "\n".join(found)


def section(page: Path, title: str) -> str:
    return text(page).split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(page: str) -> Iterator[list[str]]:
    """The cells of every row of every table."""
    for line in page.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# --- Settings -------------------------------------------------------------------------------------


class Variable(NamedTuple):
    name: str
    default: str


def variables_read() -> Iterator[Variable]:
    """Every call `env.kind("NAME", ...)` or `helper("NAME", ...)` in settings.py, with its default if that is plain."""
    tree = ast.parse(text(CHECKOUT / "quantized" / "settings.py"))
    helpers = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        reads = isinstance(node.func, ast.Name) and node.func.id in helpers
        reads |= isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "env"
        if reads:
            yield Variable(node.args[0].value, default_of(node))


def default_of(call: ast.Call) -> str:
    """As one types it; empty where there is none, or where it is computed from something else."""
    given = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "default")]
    if not given or any(isinstance(node, ast.Name) for node in ast.walk(given[0])):
        return ""
    value = eval(compile(ast.Expression(given[0]), "settings.py", "eval"))
    return ",".join(value) if isinstance(value, list) else str(value).lower() if value in (True, False) else str(value)


def documented_variables() -> dict[str, str]:
    """Name → default, as the tables say it: `code`, or a word such as "required"."""
    found = [row for row in rows(text(DOCS / "configuration.md")) if re.fullmatch(r"`[A-Z][A-Z0-9_]+`", row[0])]
    return {spans(row[0])[0]: (spans(row[1]) or [""])[0] for row in found}


def test_every_variable_is_documented_once():
    names = [spans(row[0])[0] for row in rows(text(DOCS / "configuration.md")) if spans(row[0])]
    assert sorted(names) == sorted({variable.name for variable in variables_read()})


def test_the_defaults_are_the_codes():
    documented = documented_variables()
    read = {variable.name: variable.default for variable in variables_read() if variable.name != "SPOOL_DIR"}
    assert {name: documented[name] for name in read} == read
    assert documented["SPOOL_DIR"] == "var/spool"


# --- Errors ---------------------------------------------------------------------------------------

Triple = tuple[str, str, str]


def leaves(kind: type[errors.GatewayError] = errors.GatewayError) -> Iterator[Triple]:
    yield str(kind.status), kind.type, kind.code
    for below in kind.__subclasses__():
        yield from leaves(below)


def test_every_error_is_documented_once_with_its_status_and_type():
    documented = [
        (row[0], *spans(row[1]), *spans(row[2]))
        for row in rows(text(DOCS / "errors.md"))
        if re.fullmatch(r"\d{3}", row[0])
    ]
    assert sorted(documented) == sorted(set(leaves()))


def test_the_error_of_a_broken_stream_is_shown_letter_by_letter():
    assert STREAM_FAILURE_EVENT.decode().strip() in text(DOCS / "errors.md")


# --- The API --------------------------------------------------------------------------------------


def served() -> set[str]:
    routes = [pattern for pattern in urls.urlpatterns if isinstance(pattern, URLPattern)]
    assert len(routes) == len(urls.urlpatterns)
    return {f"/v1/{re.sub(r'<[^>]*>', '{id}', str(route.pattern))}" for route in routes} | {reverse("jwks"), *HEALTH}


def test_every_address_is_documented_and_none_besides():
    documented = re.findall(r"(?:GET|POST|PUT|PATCH|DELETE) (/[\w/{}.-]+)", text(API))
    assert set(documented) == served()


def test_every_field_of_a_request_is_documented_once():
    documented = [name for row in rows(section(API, "POST /v1/chat/completions")) for name in field_names(row)]
    assert sorted(documented) == sorted(Fields.__struct_fields__)


def field_names(row: list[str]) -> list[str]:
    """The table of fields is the only one of two columns that has a field's name in the first one."""
    return spans(row[0]) if len(row) == 2 and set(spans(row[0])) & set(Fields.__struct_fields__) else []


def test_the_verifiers_invariants_are_listed_in_order():
    checked = [invariant.name for invariant in verifier.INVARIANTS]
    listed = re.findall(r"^\d+\. (.+?)(?: \(.*\))?$", section(DOCS / "ledger.md", "The verifier"), re.MULTILINE)
    assert listed == list(dict.fromkeys(checked))


def test_every_line_to_watch_for_is_logged():
    sources = [text(path) for room in ROOMS for path in (CHECKOUT / room).rglob("*.py")]
    watched = [line for row in rows(section(DOCS / "operating.md", "What to watch")) for line in spans(row[0])]
    assert len(watched) >= 10
    for line in watched:
        parts = [part.strip() for part in line.split("…") if part.strip()]
        assert any(all(part in source for part in parts) for source in sources), line


# --- Commands -------------------------------------------------------------------------------------


def own_commands() -> set[str]:
    return {name for name, app in get_commands().items() if app in ROOMS}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", text(CHECKOUT / "Makefile"), re.MULTILINE))


def test_every_command_is_documented_and_none_besides():
    mentioned = {name for page in PAGES for name in re.findall(r"manage\.py ([a-z]+)", code(page))}
    assert mentioned - set(get_commands()) == set()
    assert own_commands() - mentioned == set()


def test_every_make_target_is_documented_and_none_besides():
    mentioned = {name for page in PAGES for name in re.findall(r"\bmake (?:[A-Z]+=\S+ )*([a-z-]+)", code(page))}
    assert mentioned == make_targets()


def when_it_runs(every: float | crontab) -> str:
    if isinstance(every, crontab):
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return f"`{' '.join(str(getattr(every, f'_orig_{field}')) for field in fields)}`"
    return f"{every} s"


def test_every_periodic_task_is_documented_with_its_times():
    units = (("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))
    declared = {}
    for task in PERIODIC_TASKS.values():
        late = next(f"{task.late_after // unit} {word}" for word, unit in units if not task.late_after % unit)
        declared[f"`{task.name}`"] = [when_it_runs(task.every), late]
    assert declared["`completions.tasks.sweep_holds`"][0] == f"{settings.SWEEP_EVERY_S} s"
    declared["`completions.tasks.sweep_holds`"][0] = "`SWEEP_EVERY_S`"
    documented = [row for row in rows(section(DOCS / "operating.md", "What runs")) if ".tasks." in row[0]]
    assert len(documented) == len(declared)
    assert {name: times for name, *times in documented} == declared


# --- Files ----------------------------------------------------------------------------------------


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if "://" not in target:
            yield target


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_leads_somewhere(page: Path):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_found_from_the_readme():
    found, ahead = set(), [CHECKOUT / "README.md"]
    while ahead:
        page = ahead.pop()
        found.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page) if link[0] != "#"}
        ahead += [target for target in targets - found if target.suffix == ".md"]
        ahead += [target for target in ADRS if DOCS / "adr" in targets and target not in found]
    assert set(PAGES) - found == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_file_that_is_named_exists(page: Path):
    named = re.findall(rf"(?<![\w/])(?:{'|'.join(ROOMS)}|tests|templates|docs)/[\w/.*-]*", code(page))
    assert [name for name in named if not list(CHECKOUT.glob(name.rstrip("/.")))] == []


def test_where_a_new_thing_goes_is_answered_by_files():
    answers = {cells[0]: cells[1:] for cells in rows(section(DOCS / "architecture.md", "Where does it go?"))}
    for asked in ("provider", "endpoint", "alert", "price class", "page", "periodic task", "error code"):
        assert any(asked in thing for thing in answers), asked
    for thing, (goes_to, _) in list(answers.items())[2:]:  # without the table's head
        assert any((CHECKOUT / name).exists() for name in spans(goes_to)), thing
    named = [
        name for cells in answers.values() for name in spans(" ".join(cells)) if "/" in name or name[-5:] == ".toml"
    ]
    assert [name for name in named if not (CHECKOUT / name).exists()] == []


@pytest.mark.parametrize("page", ADRS, ids=lambda page: page.stem)
def test_decisions_are_short(page: Path):
    assert 7 <= len(text(page).splitlines()) <= 40


def test_decisions_are_numbered_without_a_gap():
    assert [int(page.name[:4]) for page in ADRS] == list(range(1, len(ADRS) + 1))
    assert all(text(page).startswith(f"# {page.name[:4]}: ") for page in ADRS)


# --- What is nobody's business --------------------------------------------------------------------

# Put together here, so that this file does not name what no file may name.
REGISTRIES = (
    "py" + "pi.org",
    "python" + "hosted",
    "npm" + "js.",
    "yarn" + "pkg.",
    "crates" + ".io",
    "proxy.go" + "lang",
)
HOMES = re.compile(r"(?<![\w.*])/(?:work|Users|home/(?!somebody/)\w+|root/\w+)/")


def tracked_texts() -> Iterator[tuple[str, str]]:
    # The clone may be another user's; git would not look into it without being told that this is meant.
    listing = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    names = subprocess.run(listing, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        try:
            yield name, (CHECKOUT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="this is not a clone: git cannot say what belongs to it")
def test_no_file_names_a_package_registry_or_a_path_of_somebodys_machine():
    found = [
        f"{name}: {word}"
        for name, content in tracked_texts()
        for word in (*(host for host in REGISTRIES if host in content), *HOMES.findall(content))
    ]
    assert found == []
