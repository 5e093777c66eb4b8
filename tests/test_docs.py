"""The pages: those made from the code are what it says, and links lead somewhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks.reference import TARGET, pages
from energylens.cli import app
from energylens.db.schema import TABLES
from energylens.db.views import sql_type
from energylens.queries.catalog import named_queries
from energylens.tui.app import bindings_by_id
from tests.pages import anchors, cells, headings, links

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / TARGET
WRITTEN = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("name", ["tables.md", "queries.md", "keys.md", "options.md"])
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (REFERENCE / name).read_text("utf-8") == pages()[name], "run: make reference"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(pages())


def test_tables_are_read_as_the_code_has_them() -> None:
    page = REFERENCE / "tables.md"
    assert headings(page)[1:] == list(TABLES)
    told = [row for row in cells(page) if row[0] != "column"]
    assert told == [
        [column.name, sql_type(column.type), column.doc.replace("`", "")]
        for table in TABLES.values()
        for column in table.columns
    ]


def test_queries_are_all_there() -> None:
    page = REFERENCE / "queries.md"
    assert headings(page)[1:] == list(named_queries())
    text = page.read_text("utf-8")
    for query in named_queries().values():
        for parameter in query.parameters:
            assert parameter.name in text[text.index(f"## {query.name}\n") :].split("\n## ")[0]


def test_keys_are_read_as_the_program_has_them() -> None:
    told = cells(REFERENCE / "keys.md")[1:]
    assert told == [
        [name, b.key, (b.tooltip or b.description).replace("`", "")]
        for name, b in sorted(bindings_by_id().items())
    ]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield " ".join(("energylens", *path)), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))


def test_options_are_read_as_the_commands_have_them() -> None:
    page = REFERENCE / "options.md"
    known = dict(leaves(typer.main.get_command(app)))
    assert headings(page)[1:] == list(known)
    told = [row[1] for row in cells(page) if row[1] != "what it is"]
    taken = [p for command in known.values() for p in command.params if p.name != "help"]
    assert told == [(getattr(p, "help", "") or "").replace("`", "") for p in taken]


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        place, _, section = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists() and target.is_relative_to(ROOT), link
        assert not section or section in anchors(target), link


def test_the_site_leads_to_every_page() -> None:
    listed = (ROOT / "docs/index.md").read_text("utf-8").splitlines()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem in listed or page.stem == "index", f"{page.name}: add it to docs/index.md"
    assert {"findings/*", "reference/*"} <= set(listed)
