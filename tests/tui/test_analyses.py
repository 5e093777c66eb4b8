"""The screens of the analyses, read as a person reads them, against the named queries."""

from pathlib import Path

import polars as pl
import pytest

from energylens.db.store import Store
from energylens.queries.coactivation import coactivation_partners, coactive_clusters, coactive_pairs
from energylens.queries.display import number
from energylens.queries.efas import efas_by_layer, efas_ranking, feature_efas
from energylens.queries.routing import (
    anchor_features,
    anchor_load,
    anchor_tokens,
    path_tokens,
    routing_health,
    routing_paths,
)
from energylens.queries.specialists import ranked_specialists, specialist_matrix
from energylens.tui.screens.coactivation import LEAST_BOTH, MOST_Q
from energylens.tui.screens.efas import MEANING
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.routing import by_layer
from energylens.tui.screens.specialists import SpecialistsScreen
from energylens.tui.widgets.heatmap import Heatmap
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Open

BOTH = pytest.mark.parametrize("size", ["small", "large"])


@BOTH
async def test_specialists_are_a_heatmap_with_the_numbers_in_it(
    drive, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    matrix = specialist_matrix(rich, rich_run)
    async with drive(size, rich_path) as d:
        await d.press("3")
        assert isinstance(d.app.screen, SpecialistsScreen)
        head = d.lines[1]
        assert "1 mlp" in head and "0 res" in head and "1 res" in head
        for category in "ab":
            line = next(line for line in d.lines[2:] if line.startswith(category))
            for row in matrix.filter(matrix["category"] == category).iter_rows(named=True):
                assert f"{row['score']}{'*' if row['is_found'] else ''}" in line
        await d.press("down", "right")
        heatmap = d.app.screen.query_one(Heatmap)
        assert heatmap.cursor[0] == 1
        saes = [choice.sae.sae_id for choice in d.app.workspace.choices]
        sae = saes[heatmap.cursor[1]]
        best = ranked_specialists(rich, rich_run, sae, "b", k=1).row(0, named=True)
        await d.until(f"b in {sae}")
        assert f"b in {sae}" in d.text and f" {best['score']} " in d.text
        await d.press("enter", "down", "enter")
        assert isinstance(d.app.screen, FeatureScreen)
        second = ranked_specialists(rich, rich_run, sae, "b", k=2)["feature_id"][1]
        assert f"Feature {second}" in d.text
        await d.press("escape", "escape")
        assert d.app.screen.query_one(Heatmap).has_focus


async def test_keys_ahead_of_a_cells_list_open_its_features(
    drive: Open, rich: Store, rich_path: Path, rich_run: str
) -> None:
    async with drive("large", rich_path) as d:
        await d.press("3")
        column = d.app.screen.query_one(Heatmap).cursor[1]
        sae = d.app.workspace.choices[column].sae.sae_id
        await d.press_ahead("down", "enter", "down", "enter")
        await d.settle()
        second = ranked_specialists(rich, rich_run, sae, "b", k=2)["feature_id"][1]
        assert isinstance(d.app.screen, FeatureScreen)
        assert f"Feature {second}" in d.text


@BOTH
async def test_efas_is_ranked_and_says_what_it_means(
    drive, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    async with drive(size, rich_path) as d:
        await d.press("4")
        sae = d.app.workspace.selection.sae.sae_id
        ranking = efas_ranking(rich, rich_run, sae, k=2000)
        (row,) = efas_by_layer(rich, rich_run).filter(
            efas_by_layer(rich, rich_run)["sae_id"] == sae
        ).iter_rows(named=True)  # fmt: skip
        assert f"{row['n_discoveries']} of {row['n_tested']} tested at q < 0.05" in d.text
        first = next(
            line for line in d.lines if line.strip().startswith(str(ranking["feature_id"][0]))
        )
        assert f"{ranking['t'][0]:.3f}" in first
        if size == "large":
            await d.until("in every variant")
            assert "within, of the tested features" in d.text and "calibration" in d.text
            assert MEANING.split(":")[0][:30] in d.text
        await d.press("v")
        assert "calibration  labels drawn from the lens" in d.text
        await d.press("down", "enter")
        assert "gradient own" in d.text
        await d.press("enter")
        assert isinstance(d.app.screen, FeatureScreen)
        if size == "large":
            await d.until("EFAS within texts")
            shown = int(d.text.split("Feature ")[1].split()[0])
            seen = d.text
            await d.press(*["J"] * 10)  # the panel beside the contexts is longer than the screen
            seen += d.text
            for own in feature_efas(rich, rich_run, sae, shown).iter_rows(named=True):
                said = (
                    f"{own['variant']:>12}  {number(own['within']):>7}  t {number(own['t'], 2):>6}"
                )
                assert said in seen


async def test_a_gradient_that_was_not_computed_says_how(drive, store: Store) -> None:
    async with drive("large") as d:
        await d.press("4", "v", *["down"] * 2, "enter")
        assert "EFAS with the gradient 'total' is not computed for this run." in d.text
        assert "energylens efas" in d.text
        assert "--variant total" in d.text


@BOTH
async def test_partners_are_followed_and_the_way_back_is_kept(
    drive, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    async with drive(size, rich_path) as d:
        names = [choice.sae.sae_id for choice in d.app.workspace.choices]
        d.app.workspace.select(d.app.workspace.choices[names.index("one")])
        await d.press("5")
        pairs = coactive_pairs(rich, rich_run, "one", k=5)
        known = coactive_pairs(rich, rich_run, "one", with_dense=True, k=10_000)
        held = known.filter(pl.col("q") <= MOST_Q, pl.col("n_both") >= LEAST_BOTH)
        table = d.app.screen.query_one(VirtualTable)
        listed = coactive_pairs(
            rich, rich_run, "one", with_dense=True, least_both=LEAST_BOTH, most_q=MOST_Q, k=10_000
        )
        assert listed.rows() == held.rows() and len(known) > len(held)
        if not len(held):
            assert "No pair of features of one holds" in d.text
        await d.press("f")
        a = pairs["feature_id"][0]
        assert f"{pairs['phi'][0]:.3f}" in d.text
        await d.press("enter")
        assert f"pairs > feature {a}" in d.text
        partners = coactivation_partners(rich, rich_run, "one", a)
        b = partners["partner_id"][0]
        table = d.app.screen.query_one(VirtualTable)
        assert table.n_rows == len(coactivation_partners(rich, rich_run, "one", a, k=50))
        await d.press("enter")
        assert f"pairs > feature {a} > feature {b}" in d.text
        await d.press("escape", "escape")
        assert "pairs ·" in d.text.replace("  ", " ") and f"feature {a}" not in d.lines[-2]
        await d.press("u")
        assert "by texts" in d.text
        await d.press("u", "t")
        clusters = coactive_clusters(rich, rich_run, "one")
        assert "clusters" in d.text and str(clusters["n_features"][0]) in d.text
        await d.press("o")
        assert isinstance(d.app.screen, FeatureScreen)


@BOTH
async def test_routing_turns_from_choices_to_paths_to_features(
    drive, rich: Store, rich_path: Path, rich_run: str, size: str
) -> None:
    async with drive(size, rich_path) as d:
        names = [choice.sae.sae_id for choice in d.app.workspace.choices]
        d.app.workspace.select(d.app.workspace.choices[names.index("one")])
        await d.press("6")
        loads = anchor_load(rich, rich_run)
        assert "[choices] / paths / features" in d.text and f"{loads['load'][0]:.3f}" in d.lines[2]
        if size == "large":
            assert "bits the first choice tells" in d.text and "category_given_token" in d.text
            assert f"{routing_health(rich, rich_run)['max_vio'][0]:.3f}" in d.text
        taken = anchor_tokens(rich, rich_run, int(loads["layer"][0]), k=16).filter(
            pl.col("choice_id") == loads["choice_id"][0]
        )
        await d.press("enter")
        assert f"layer 0, anchor {loads['choice_id'][0]} takes" in d.text
        assert taken["tokens"][0][0].strip() in d.text
        if size == "large":
            lines = [line for line in d.lines if "without" in line]
            assert lines and any(" 1 " in line for line in d.lines[2:10]), "the stored effect"
        await d.press("t")
        path = routing_paths(rich, rich_run).row(0, named=True)
        layers = routing_health(rich, rich_run)["layer"].to_list()
        before = layers.index(path["first_layer"])
        steps = ["·"] * before + [str(choice) for choice in path["choices"]]
        steps += ["·"] * (len(layers) - len(steps))
        assert d.lines[1].split()[: len(layers)] == [f"L{layer}" for layer in layers]
        assert d.lines[2].split()[: len(layers)] == steps
        assert f"{path['t']:.2f}" in d.lines[2]
        await d.press("enter")
        token = path_tokens(rich, rich_run, path["first_layer"], path["choices"])["token"][0]
        assert token.strip() in d.text
        await d.press("t")
        best = anchor_features(rich, rich_run, "one").row(0, named=True)
        assert f"{best['phi']:.3f}" in d.lines[2]
        await d.press("enter")
        assert f"Feature {best['feature_id']}" in d.text


def test_a_path_has_a_column_for_each_routed_layer() -> None:
    paths = pl.DataFrame(
        {"first_layer": [1, 5, 3], "choices": [[7, 8, 9], [4], [2, 6]]},
        schema={"first_layer": pl.Int16, "choices": pl.List(pl.Int16)},
    )
    found, columns = by_layer(paths, [1, 3, 5])
    assert [column.title for column in columns] == ["L1", "L3", "L5"]
    shown = found.select(column.name for column in columns).rows()
    assert shown == [(7, 8, 9), (None, None, 4), (None, 2, 6)]
    assert by_layer(paths.clear(), [1, 3, 5])[0].is_empty()


async def test_a_run_without_routers_says_so(drive) -> None:
    async with drive("small") as d:
        await d.press("6")
        assert "holds no choices of routers: GPT2LMHeadModel has none" in d.text


async def test_a_click_on_a_view_goes_there(drive, rich_path: Path) -> None:
    async with drive("small", rich_path) as d:
        for title, name in (("EFAS", "EfasScreen"), ("Route", "RoutingScreen")):
            await d.pilot.click("ViewBar", offset=(d.lines[0].index(title) + 1, 0))
            await d.settle()
            assert type(d.app.screen).__name__ == name


async def test_a_store_without_saes_says_so(drive, tmp_path: Path) -> None:
    from energylens.db.version import create_store

    create_store(tmp_path / "empty.lens")
    async with drive("small", tmp_path / "empty.lens") as d:
        for key in "34567":
            await d.press(key)
            assert "this store holds no run yet; see 1, Overview" in d.text


def shown(table: VirtualTable) -> list[tuple]:
    """Every row of a table, in its order."""
    assert table.source is not None
    return [tuple(table.source.row(i) or ()) for i in range(table.n_rows)]


@BOTH
async def test_every_list_is_sorted_by_any_column(drive: Open, rich_path: Path, size) -> None:
    async with drive(size, rich_path) as d:
        names = [choice.sae.sae_id for choice in d.app.workspace.choices]
        d.app.workspace.select(d.app.workspace.choices[names.index("one")])
        for view, table_id, keys in (
            ("4", "ranking", ()), ("5", "together", ("f",)), ("6", "routes", ()),
            ("7", "texts", ()), ("3", "ranked", ("enter",)),
        ):  # fmt: skip
            await d.press(view, *keys)
            table = d.app.screen.query_one(f"#{table_id}", VirtualTable)
            before = shown(table)
            for number in range(min(4, len(table.columns))):
                await d.press("s")
                column = table.columns[number]
                down = [row[number] for row in shown(table)]
                known = [v for v in down if v is not None]
                assert known == sorted(known, reverse=True), (view, column.name)
                assert "▼" in d.text, column.name
                await d.press("S")
                up = [row[number] for row in shown(table)]
                assert [v for v in up if v is not None] == sorted(known), (view, column.name)
                await d.press("right")
            assert sorted(map(str, shown(table))) == sorted(map(str, before)), "no row is lost"


async def test_a_sorted_list_opens_the_row_that_is_seen(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path) as d:
        await d.press("4", "s", "down")
        seen = d.app.screen.query_one("#ranking", VirtualTable).value()
        await d.press("enter")
        assert f"Feature {seen}" in d.text
        await d.press("escape")
        await d.pilot.click("#ranking", offset=(12 + 28, 0))
        await d.settle()
        table = d.app.screen.query_one("#ranking", VirtualTable)
        assert table.arrow == ("within", True), "a click on a heading sorts"
