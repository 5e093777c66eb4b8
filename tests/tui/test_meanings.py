"""Lists say what their features stand for, and words find them, at every width."""

from pathlib import Path

import polars as pl
import pytest

from energylens.db.store import Store
from energylens.queries.coactivation import coactive_pairs
from energylens.queries.display import visible_token
from energylens.queries.explanations import search_features
from energylens.queries.meanings import meanings
from energylens.queries.routing import anchor_tokens
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Driver, Open

WIDTHS = pytest.mark.parametrize("size", ["60x15", "80x24", "120x30", "160x45"])


def on(driver: Driver, sae: str) -> None:
    choices = driver.app.workspace.choices
    driver.app.workspace.select(next(c for c in choices if c.sae.sae_id == sae))


def table(driver: Driver, name: str) -> VirtualTable:
    return driver.app.screen.query_one(f"#{name}", VirtualTable)


def shown(driver: Driver, name: str, column: str) -> list[str]:
    """What a column of a list says on the screen, line by line, cut where it is cut."""
    listed = table(driver, name)
    start, top = 1 - listed.scroll_offset.x, listed.content_region.y
    for one in listed.columns:
        if one.name == column:
            break
        start += one.width + 2
    else:
        raise AssertionError(f"{name} has no column {column}")
    assert start + one.width <= listed.size.width, f"{column} is cut at the edge"
    lines = driver.lines[top + 1 : top + listed.size.height]
    left = listed.content_region.x + start
    return [line[left : left + one.width].strip() for line in lines[: listed.n_rows]]


def begins(seen: str, said: str | None) -> bool:
    return said is not None and said.replace(" ", "").startswith(
        seen.removesuffix("…").replace(" ", "")
    )


@WIDTHS
@pytest.mark.parametrize(
    ("keys", "name", "column", "meaning"),
    [
        (("2",), "list", "feature_id", "label"),
        (("3", "enter"), "ranked", "feature_id", "label"),
        (("4",), "ranking", "feature_id", "label"),
        (("5", "enter"), "together", "partner_id", "label"),
        (("6", "t", "t"), "routes", "feature_id", "label"),
        (("7", "t"), "text-features", "feature_id", "label"),
    ],
)
async def test_a_list_says_what_its_features_stand_for(
    drive: Open,
    rich: Store,
    rich_path: Path,
    rich_run: str,
    size: str,
    keys: tuple[str, ...],
    name: str,
    column: str,
    meaning: str,
) -> None:
    async with drive(size, rich_path) as d:
        on(d, "one")
        await d.press(*keys)
        rows = table(d, name).source
        assert rows is not None and rows.n_rows
        names = [c.name for c in table(d, name).all_columns]
        screen = d.app.screen
        listed = screen.frame(name) if isinstance(screen, ListingScreen) else pl.DataFrame()
        frame = rows.frame(names) if listed.is_empty() else listed
        saes = frame["sae_id"].to_list() if "sae_id" in frame.columns else ["one"] * len(frame)
        seen = shown(d, name, meaning)
        assert len(seen) > 1
        for feature, sae, said in zip(frame[column], saes, seen, strict=False):
            known = meanings(rich, rich_run, sae, [feature])[feature][0]
            assert begins(said, known) if known else said == "", (feature, said, known)
        if size == "160x45":
            assert any(said.startswith("on ") for said in seen)


@WIDTHS
async def test_both_sides_of_a_pair_are_told(
    drive: Open, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    async with drive(size, rich_path) as d:
        on(d, "one")
        await d.press("5")
        pair = coactive_pairs(rich, rich_run, "one").row(0, named=True)
        known = meanings(rich, rich_run, "one", [pair["feature_id"], pair["partner_id"]])
        assert begins(shown(d, "together", "label")[0], known[pair["feature_id"]][0])
        if size != "60x15":
            partner = shown(d, "together", "partner_label")[0]
            assert begins(partner, known[pair["partner_id"]][0])


@WIDTHS
async def test_a_star_is_seen(drive: Open, rich: Store, rich_path: Path, size: str) -> None:
    (starred,) = (
        rich.cursor()
        .execute("SELECT feature_id FROM notes WHERE is_starred AND sae_id = 'one'")
        .fetchall()[0]
    )
    async with drive(size, rich_path) as d:
        on(d, "one")
        await d.press("2", "slash")
        await d.type(f"feature_id={starred}")
        await d.press("enter")
        assert d.lines[2].split()[:2] == [str(starred), "★"]


@WIDTHS
async def test_words_find_the_features_of_a_concept_from_a_fresh_start(
    drive: Open, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    """`cat` takes six keys, so `import` takes nine."""
    keys = ("2", "slash", *"cat", "enter")
    assert len(keys) - len("cat") + len("import") <= 10
    async with drive(size, rich_path) as d:
        sae = d.app.workspace.choices[0].sae.sae_id
        found = search_features(rich, rich_run, "cat", sae, 1000, 0.1)
        assert len(found) > 1
        await d.press(*keys)
        ids = [int(line.split()[0]) for line in d.lines[2 : 2 + min(len(found), 9)]]
        expected = [int(f) for f in found["feature_id"].to_list()[:9]]
        assert ids == expected, "the surest first"
        assert f"{len(found)} of 40 · cat · sort match desc" in d.text
        await d.press("escape")
        assert "40 of 40" in d.text and "sort score desc" in d.text


@WIDTHS
async def test_which_anchors_take_digits_takes_three_keys_and_the_word(
    drive: Open, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    keys = ("6", "slash", *"digits", "enter")
    assert len(keys) - len("digits") <= 3
    taken = anchor_tokens(rich, rich_run, k=5)
    own = [row for row in taken.iter_rows(named=True) if "digits" in row["classes"]]
    assert 0 < len(own) < len(taken)
    async with drive(size, rich_path) as d:
        await d.press(*keys)
        assert table(d, "routes").n_rows == len(own)
        said = {" ".join(map(visible_token, row["tokens"])) for row in own}
        for seen in shown(d, "routes", "tokens"):
            assert any(begins(seen, one) for one in said), seen


@pytest.mark.parametrize(
    ("keys", "name", "column"),
    [
        (("3", "enter"), "ranked", "feature_id"),
        (("4",), "ranking", "feature_id"),
        (("6", "t", "t"), "routes", "feature_id"),
    ],
)
async def test_words_find_features_in_every_list(
    drive: Open,
    rich: Store,
    rich_path: Path,
    rich_run: str,
    keys: tuple[str, ...],
    name: str,
    column: str,
) -> None:
    led = set(search_features(rich, rich_run, "cat", "one", 1000, 0.1)["feature_id"])
    async with drive("small", rich_path) as d:
        on(d, "one")
        await d.press(*keys)
        source = table(d, name).source
        assert source is not None
        names = [c.name for c in table(d, name).all_columns]
        before = source.frame(names)
        words = before.select(c for c in before.columns if c == "label").to_series().to_list()
        expected = [
            feature
            for feature, word in zip(before[column], words, strict=True)
            if feature in led or "cat" in (word or "")
        ]
        await d.press("slash")
        await d.type("cat")
        source = table(d, name).source
        assert source is not None and 0 < len(expected) < len(before)
        assert source.frame(names)[column].to_list() == expected
        await d.press("escape")
        assert table(d, name).n_rows == len(before)


async def test_rows_of_sql_say_what_their_features_stand_for(
    drive: Open, rich: Store, rich_path: Path, rich_run: str
) -> None:
    known = meanings(rich, rich_run, "one", [3, 7])
    async with drive("small", rich_path) as d:
        await d.press("8")
        for statement, is_told in (
            ("SELECT feature_id, sae_id FROM features WHERE sae_id = 'one'", True),
            ("SELECT feature_id FROM features WHERE sae_id = 'one'", True),
            ("SELECT feature_id FROM features", False),
            ("SELECT 1e30::HUGEINT AS feature_id, 'one' AS sae_id", False),
            ("SELECT -1 AS feature_id, '[b]no' AS sae_id", False),
        ):
            d.app.screen.query_one("#editor").text = statement  # type: ignore[attr-defined]
            await d.press("f5")
            columns = [c.name for c in table(d, "rows").columns]
            if is_told:
                assert columns[:2] == ["feature_id", "stands_for"]
                said = shown(d, "rows", "stands_for")
                source = table(d, "rows").source
                assert source is not None and source.row(3)[0] == 3  # type: ignore[index]
                assert said[3] == known[3][0] == "even numbers"
                assert begins(said[7], known[7][0])
            assert table(d, "rows").n_rows and "did not run" not in d.text
