"""Tables in Markdown, read back by a parser of its own."""

from html.parser import HTMLParser

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from energylens.queries.display import visible
from energylens.queries.writing import Format, as_text

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
SIGNS = st.text(st.sampled_from("a b|\\`*_[]()<>&~!#-:;/x1\n\t'\""), max_size=24)


class Cells(HTMLParser):
    """The texts of the cells, and every tag that is no table's."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.others: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag not in ("table", "thead", "tbody"):
            self.others.append(tag)

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@given(st.lists(SIGNS | st.text(max_size=12), min_size=1, max_size=3), SIGNS)
def test_a_cell_holds_its_text_and_nothing_of_it_is_markup(cells: list[str], name: str) -> None:
    rows = pl.DataFrame({name or "x": cells, "beside": [7] * len(cells)})
    read = Cells(READER.render(as_text(rows, Format.markdown)))
    assert read.others == []
    assert [len(row) for row in read.rows] == [2] * (len(cells) + 1)
    found = [row[0].strip() for row in read.rows]
    assert found == [visible(text).strip() for text in [name or "x", *cells]]
    assert [row[1].strip() for row in read.rows[1:]] == ["7"] * len(cells)


def test_words_with_underscores_stay_as_they_are() -> None:
    text = as_text(pl.DataFrame({"sae_id": ["blocks.2.hook_resid_post"]}), Format.markdown)
    assert "blocks.2.hook_resid_post" in text and "sae_id" in text
