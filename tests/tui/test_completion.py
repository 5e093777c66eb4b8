"""What may be written at the cursor of the SQL view: names of the catalogue, stored values."""

from collections import Counter

import pytest

from energylens.queries.completion import Column, Table, Vocabulary, vocabulary
from energylens.queries.stored_values import Stored
from energylens.tui.widgets.completions import Completions
from energylens.tui.widgets.sql_editor import SqlEditor
from tests.tui.conftest import Open

NAMES = Vocabulary(
    {
        "features": Table((Column("run_id"), Column("feature_id"), Column("density", "DOUBLE"))),
        "texts": Table((Column("text_id"), Column("category"))),
    },
    {
        "run_id": (Stored("first run"), Stored("o'brien")),
        "run": (Stored("first run"),),
        "category": (Stored("math"), Stored("misc")),
        "token": (Stored(" import"), Stored("imp"), Stored(" it's")),
        "at_token": (Stored("17", " import", True), Stored("3", " it's", True)),
    },
)


def written(before: str, after: str = "") -> list[str]:
    return [one.text for one in NAMES.complete(before, after).candidates]


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [
        ("FROM fea", "", ["features"]),
        ("SELECT DENS", "", ["density"]),
        ("SELECT d", " FROM features", ["density"]),
        ("SELECT t", " FROM features", ["texts"]),
        ("SELECT t", " FROM texts", ["text_id", "texts"]),
        ("FROM features AS f WHERE f.d", "", ["density"]),
        ("SELECT t.", " FROM texts t", ["text_id", "category"]),
        ("FROM texts WHERE texts.c", "", ["category"]),
        ("SELECT nothing.", "", []),
        ("SELECT ", "", []),
        ("FROM ", "", ["features", "texts"]),
        ("SELECT 1 FROM texts JOIN ", "", ["features", "texts"]),
        ("FROM settling_s", "", ["settling_summary("]),
        ("FROM texts WHERE category = 'm", "", ["'math'", "'misc'"]),
        ("FROM texts WHERE category = 'm", "'", ["'math", "'misc"]),
        ("FROM texts WHERE category IN ('math', 'mi", "", ["'misc'"]),
        ("FROM texts WHERE category <> ", "", ["'math'", "'misc'"]),
        ("FROM x(run := ", "", ["'first run'"]),
        ("FROM x(RUN := 'FI", "", ["'first run'"]),
        ("WHERE run_id = 'o", "", ["'o''brien'"]),
        ("WHERE token = ", "", ["' import'", "'imp'", "' it''s'"]),
        ("WHERE token = 'IM", "'", ["' import", "'imp"]),
        ("WHERE token = ' it", "", ["' it''s'"]),
        ("FROM x(at_token := ", "", ["17", "3"]),
        ("FROM x(at_token := imp", "", ["17"]),
        ("FROM x(at_token := 1", "", ["17"]),
        ("WHERE density = 'm", "", ["min(", "max("][:0]),
    ],
)
def test_words_are_completed_from_the_catalogue(before: str, after: str, first: list[str]) -> None:
    found = written(before, after)
    assert found[: len(first)] == first
    if not first:
        assert not [one for one in found if one in ("features", "texts", "density", "category")]


def test_the_catalogue_is_the_stores(store) -> None:
    found = vocabulary(store)
    names = [column.name for column in found.tables["texts"].columns]
    assert names[:2] == ["run_id", "text_id"] and {"codes", "features", "notes"} <= set(
        found.tables
    )
    assert found.tables["tokens"].doc and found.tables["tokens"].columns[0].doc
    kinds = {c.name: c.type for c in found.tables["tokens"].columns}
    assert kinds["energy"] == "FLOAT"
    runs = [info.run_id for info in store.infos]
    assert [one.text for one in found.values["run"]] == runs
    con = store.cursor()
    rows = con.execute("SELECT DISTINCT category FROM texts ORDER BY 1").fetchall()
    categories = [row[0] for row in rows if row[0] is not None]
    assert [one.text for one in found.values["in_category"]] == categories
    rows = con.execute("SELECT token FROM tokens WHERE NOT is_special").fetchall()
    counted = Counter(token for (token,) in rows)
    offered = [one.text for one in found.values["token"]]
    assert set(offered) == {token for token in counted if token.isprintable()}
    assert [counted[token] for token in offered] == sorted(
        (counted[token] for token in offered), reverse=True
    )
    place = found.values["at_token"][0]
    stands = con.execute("SELECT token FROM tokens WHERE token_index = ?", [int(place.text)])
    assert (place.note,) in [(row[0],) for row in stands.fetchall()]


def opened(driver) -> list[str]:
    """Rows of the box of candidates, as they are drawn."""
    box = driver.app.screen.query_one(Completions)
    return [line.strip() for line in box.render().plain.split("\n")] if box.display else []


@pytest.mark.parametrize("size", ["small", "large"])
async def test_candidates_open_as_one_types_and_tab_writes_the_chosen_one(
    drive: Open, size: str
) -> None:
    async with drive(size) as d:
        await d.press("8", "ctrl+l")
        editor = d.app.screen.query_one(SqlEditor)
        await d.type("FROM tex")
        assert opened(d)[0].startswith("texts") and "texts" in d.text
        await d.press("tab")
        assert editor.text == "FROM texts" and not opened(d)
        await d.type(" WHERE cat")
        assert opened(d)[0].split() == ["category", "VARCHAR"]
        await d.press("tab")
        await d.type(" = '")
        shown = opened(d)
        await d.press("down", "tab")
        assert editor.text == f"FROM texts WHERE category = {shown[1].split()[0]}"
        await d.press("f5")
        assert "1 rows" in d.text or " rows" in d.text
        await d.type(" AND te")
        assert opened(d)
        await d.press("escape")
        assert not opened(d) and editor.has_focus, "esc closes the candidates first"
        await d.press("enter")
        assert editor.text.endswith(" AND te\n")


async def test_values_of_a_chosen_query_are_offered(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("8", "f2")
        await d.type("token_features")
        await d.press("enter")
        editor = d.app.screen.query_one(SqlEditor)
        assert editor.selected_text == "?"
        shown = opened(d)
        assert len(shown) > 2 and shown[0].split()[0].isdecimal(), "a token's number, and the token"
        await d.press("down", "tab")
        assert f"at_token := {shown[1].split()[0]}," in editor.text and not opened(d)
        await d.press("ctrl+z")
        assert "at_token := ?" in editor.text
