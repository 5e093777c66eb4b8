"""Markdown pages: what stands in them, read by a parser of its own."""

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token


def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


def plain(inline: Token) -> str:
    """The text of a heading, a cell or a paragraph, as it is read."""
    return "".join(part.content for part in inline.children or () if part.type != "image")


def headings(page: Path) -> list[str]:
    found = tokens(page)
    return [plain(found[i + 1]) for i, t in enumerate(found) if t.type == "heading_open"]


def anchors(page: Path) -> set[str]:
    """What headings of a page are linked by."""
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings(page)}


def links(page: Path) -> Iterator[str]:
    """Where links and pictures of a page lead."""
    for token in tokens(page):
        for part in token.children or ():
            target = part.attrGet("href") or part.attrGet("src")
            if target:
                yield str(target)


def cells(page: Path) -> list[list[str]]:
    """The rows of all tables of a page, headings too."""
    rows: list[list[str]] = []
    found = tokens(page)
    for i, token in enumerate(found):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(plain(found[i + 1]))
    return rows
