"""What a person sees on every screen, at 80x24 and at 160x45."""

import asyncio
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from textual.widgets import Input

from energylens.db.layout import StoreLayout
from energylens.db.provenance import read_run, write_run
from energylens.db.store import Store
from energylens.db.version import create_store
from energylens.ingest.plan import IngestConfig
from energylens.queries.catalog import named_queries
from energylens.queries.contexts import activation_samples, feature_contexts
from energylens.queries.features import best_features, feature
from energylens.tui.modals.help import HelpModal
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.widgets.token_text import TokenText
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.conftest import make_store

BOTH = pytest.mark.parametrize("size", ["small", "large"])


def best(store: Store, sae: str = "mlp", k: int = 20) -> list[int]:
    return best_features(store, store.runs[0].info.run_id, sae, k=k)["feature_id"].to_list()


@BOTH
async def test_overview_lists_saes_and_describes_their_run(drive, store, run_id, size) -> None:
    async with drive(size) as d:
        views = {
            "small": " 1 Overview  2 Feat  3 Spec  4 EFAS  5 Coact  6 Route  7 Energy  8 SQL",
            "large": " 1 Overview  2 Features  3 Specialists  4 EFAS  5 Co-activation  6 Routing ",
        }
        assert views[size] in d.lines[0]
        for said in ("mlp", "resid", "fvu", run_id[:30], "GPT2LMHeadModel", "index  fresh"):
            assert said in d.text, said
        assert "1 run · 2 SAEs" in d.text
        assert "? Help" in d.lines[-1]


@BOTH
async def test_enter_on_an_sae_opens_its_features(drive, store, size) -> None:
    async with drive(size) as d:
        await d.press("down", "enter")
        assert isinstance(d.app.screen, FeaturesScreen)
        assert "48 of 48 · sort score desc" in d.text
        assert any("resid" in line for line in d.lines[-3:-1])
        first = [int(line.split()[0]) for line in d.lines[2:8]]
        assert first == best(store, "resid", 6)


@BOTH
async def test_features_are_sorted_by_the_column_under_the_cursor(drive, store, size) -> None:
    async with drive(size) as d:
        await d.press("2", "s")
        assert "▼feature" in d.lines[1] and "sort feature_id desc" in d.text
        assert int(d.lines[2].split()[0]) == 39
        await d.press("s")
        assert "▲feature" in d.lines[1]
        assert int(d.lines[2].split()[0]) == 0
        await d.on_column("list", "n_active")
        await d.press("S")
        assert "sort n_active asc" in d.text


@BOTH
async def test_filter_counts_live_and_esc_clears(drive, store, run_id, size) -> None:
    async with drive(size) as d:
        await d.press("2", "slash")
        await d.type("n_active > 3")
        expected = len(best_features(store, run_id, "mlp", k=100).filter(pl.col("density") > 0))
        assert expected
        shown = d.lines[-2].split(" of ")[0].strip()
        con = store.cursor().execute(
            "SELECT count(*) FROM features WHERE sae_id = 'mlp' AND n_active > 3"
        )
        assert int(shown) == con.fetchall()[0][0] < 40
        await d.press("enter")
        assert not d.app.screen.query_one("#filter").display
        assert "n_active > 3" in d.lines[-2]
        await d.press("escape")
        assert "40 of 40" in d.lines[-2]


async def test_a_filter_that_cannot_be_read_says_so_and_keeps_the_rows(drive) -> None:
    async with drive() as d:
        await d.press("2", "slash")
        d.app.screen.query_one("#filter Input", Input).value = "nothing > 3"
        await d.settle()
        assert "no column 'nothing'" in d.text
        assert len([line for line in d.lines[2:18] if line.strip()[:1].isdigit()]) > 5


async def test_a_filter_that_leaves_nothing_says_how_to_clear_it(drive) -> None:
    async with drive() as d:
        await d.press("2", "slash")
        await d.type("n_active > 99999")
        await d.press("enter")
        assert "no feature matches; esc clears the filter" in d.text


@BOTH
async def test_go_to_previews_and_moves(drive, store, run_id, size) -> None:
    async with drive(size) as d:
        await d.press("2", "g", "2", "3")
        assert "Feature 23  mlp" in d.text
        await d.press("enter")
        table = d.app.screen.query_one("#list", VirtualTable)
        assert table.source is not None
        assert table.source.row(table.cursor_row)[0] == 23
        await d.press("g", "9", "9", "9", "enter")
        assert "there is no such feature" in d.text
        await d.press("escape")
        assert isinstance(d.app.screen, FeaturesScreen)


async def test_another_sae_is_chosen_by_key(drive) -> None:
    async with drive() as d:
        await d.press("2", "c")
        assert "Which SAE?" in d.text and "resid" in d.text
        await d.press("down", "enter")
        assert "48 of 48" in d.text


async def test_wide_screens_show_the_feature_under_the_cursor(drive, store) -> None:
    async with drive("large") as d:
        await d.press("2", "down")
        second = best(store)[1]
        await d.until(f"Feature {second}  mlp")
        assert "activations" in d.text and "quantiles" in d.text


@BOTH
async def test_a_feature_shows_facts_and_contexts_with_the_value_under_the_cursor(
    drive, store, run_id, size
) -> None:
    async with drive(size) as d:
        await d.press("2", "enter")
        assert isinstance(d.app.screen, FeatureScreen)
        top = best(store)[0]
        record = feature(store, run_id, "mlp", top)
        assert f"Feature {top}  mlp" in d.text
        assert f"{record.n_active:,} tokens in {record.n_texts:,} texts" in d.text
        contexts = feature_contexts(store, run_id, "mlp", top)
        peak = contexts.row(0, named=True)
        assert f"activation {peak['activation']:.4f}" in d.lines[-2]
        assert f"token {peak['token_index']}" in d.lines[-2]
        await d.press("right")
        assert f"token {peak['token_index'] + 1}" in d.lines[-2]
        await d.press("left", "left")
        assert f"token {peak['token_index'] - 1}" in d.lines[-2]


@BOTH
async def test_contexts_neighbours_and_logits_are_all_there(drive, store, size) -> None:
    async with drive(size) as d:
        await d.press("2", "enter")
        holder = d.app.screen
        run, top = store.runs[0].info.run_id, best(store)[0]
        samples = activation_samples(store, run, "mlp", top, k=1)
        n_weaker = len(samples.filter(samples["interval_id"] < 4))
        n_strongest = len(feature_contexts(store, run, "mlp", top))
        n_first = min(n_strongest, {"small": 5, "large": 45 // 4}[size])
        assert len(holder.query(TokenText)) == n_first + n_weaker and n_weaker
        await d.press("m")
        assert len(holder.query(TokenText)) == n_strongest + n_weaker
        for _ in range(30):
            await d.press("down")
        seen = d.text
        assert "text" in seen
        shown = ""
        for _ in range(8):  # on a narrow screen they stand under the contexts
            shown += d.text
            await d.press("pagedown")
        for said in ("promotes", "suppresses", "similar", "with", "mean activation by category"):
            assert said in shown, said


async def test_brackets_walk_the_list_the_feature_came_from(drive, store) -> None:
    async with drive() as d:
        await d.press("2", "down", "enter")
        order = best(store)
        assert f"Feature {order[1]} " in d.text
        await d.press("right_square_bracket")
        assert f"Feature {order[2]} " in d.text
        await d.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
        assert f"Feature {order[0]} " in d.text
        await d.press("escape")
        assert isinstance(d.app.screen, FeaturesScreen)
        assert d.app.screen.query_one("#list", VirtualTable).cursor_row == 0


async def test_digits_stand_beside_the_shades(drive) -> None:
    async with drive("large") as d:
        await d.press("2", "enter")
        assert not any(digit in d.text for digit in "⁵⁶⁷⁸⁹")
        await d.press("v")
        assert "⁹" in d.text


async def test_space_shows_the_whole_context(drive) -> None:
    async with drive("large") as d:
        await d.press("2", "enter", "space")
        text = d.app.screen.query(TokenText).first()
        assert text._window() == (0, len(text._glyphs))


async def test_the_neuronpedia_link_or_its_absence_is_said(
    drive, tmp_path: Path, config: IngestConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with drive() as d:
        await d.press("2", "enter", "y")
        await d.until("no Neuronpedia id")
    path = tmp_path / "x.lens"
    make_store(path, config)
    record = StoreLayout(path).runs()[0].run_json
    run = read_run(record)
    known = [replace(sae, neuronpedia_id="gpt2-small/1-res") for sae in run.saes]
    write_run(record, replace(run, saes=known))
    async with drive("large", path) as d:
        await d.press("2", "enter", "y")
        number = best(d.app.workspace.store)[0]
        address = f"https://www.neuronpedia.org/gpt2-small/1-res/{number}"
        assert d.app.clipboard == address
        opened: list[str] = []
        monkeypatch.setattr(d.app, "open_url", opened.append)
        await d.press("Y")
        await d.hears(f"opening {address}")
        assert opened == [address]
        await d.until("set-clipboard on")


@BOTH
async def test_sql_runs_and_shows_rows(drive, store, size) -> None:
    async with drive(size) as d:
        await d.press("8", "f5")
        assert isinstance(d.app.screen, SqlScreen)
        assert "animals" in d.text and "numbers" in d.text
        assert "2 rows" in d.lines[-2]
        await d.press("f6", "space")
        assert "esc closes" in d.text
        await d.press("escape")


async def sql(d, text: str) -> None:
    d.app.screen.query_one("#editor").text = text
    await d.press("f5")


async def test_sql_errors_are_said_and_nothing_is_written(drive) -> None:
    async with drive() as d:
        await d.press("8")
        await sql(d, "SELECT activatio FROM codes")
        assert "activatio" in d.text and "the statement did not run" in d.text
        await sql(d, "DROP VIEW codes")
        assert "DROP is not run here" in d.text
        await sql(d, "SELECT count(*) AS n FROM codes")
        assert "did not run" not in d.text and "1 rows" in d.text


async def test_a_cut_result_does_not_claim_a_total(drive) -> None:
    async with drive() as d:
        await d.press("8")
        await sql(d, "SELECT * FROM range(20000)")
        assert "10,000 of >10,000 rows" in d.text


async def test_esc_stops_a_running_query_at_once(drive) -> None:
    async with drive() as d:
        await d.press("8")
        d.app.screen.query_one(
            "#editor"
        ).text = "SELECT count(*) FROM range(100000000000) a, range(1000) b"
        await d.pilot.press("f5")
        await d.pilot.pause()
        assert "esc stops it" in d.text
        await d.pilot.press("escape")
        await asyncio.wait_for(d.settle(), 120)
        assert "stopped" in d.text


async def test_leaving_with_a_query_running_does_not_wait_for_it(drive) -> None:
    async def leave() -> None:
        async with drive() as d:
            await d.press("8")
            d.app.screen.query_one(
                "#editor"
            ).text = "SELECT count(*) FROM range(100000000000) a, range(1000) b"
            await d.pilot.press("f5")
            await d.pilot.pause()
            await d.pilot.press("ctrl+q")

    await asyncio.wait_for(leave(), 120)


async def test_named_queries_are_chosen_and_run(drive) -> None:
    async with drive("large") as d:
        await d.press("8", "f2")
        place = list(named_queries()).index("best_features")
        await d.press(*["down"] * place)
        assert "best_features(run, sae, with_dense := true, k := 20)" in d.text
        await d.press("enter")
        assert "FROM best_features(" in d.text and "run := '" in d.text
        await d.press("f5")
        assert "20 rows" in d.text


async def test_data_is_never_markup(drive) -> None:
    async with drive("large") as d:
        await d.press("8")
        await sql(d, "SELECT '[red]x[/red] [link=file:///]y[/]' AS t, E'a\\nb' AS u")
        assert "[red]x[/red] [link=file:///]y[/]" in d.text and "a⏎b" in d.text
        await d.press("f6", "space")
        assert "[red]x[/red]" in d.text


async def test_views_keep_their_place(drive) -> None:
    async with drive() as d:
        await d.press("2", "down", "down", "1", "8", "escape", "2")
        assert isinstance(d.app.screen, FeaturesScreen)
        assert d.app.screen.query_one("#list", VirtualTable).cursor_row == 2


@pytest.mark.parametrize("keys", [("1",), ("2",), ("2", "enter"), ("8", "escape")])
async def test_help_tells_the_keys_of_the_screen(drive, keys) -> None:
    async with drive("large") as d:
        await d.press(*keys, "question_mark")
        screen = d.app.screen
        assert isinstance(screen, HelpModal)
        await d.press("question_mark")
        below = d.app.screen
        assert below is not screen and below.HELP
        await d.press("f1")
        assert below.HELP.splitlines()[0].removeprefix("# ") in d.text


async def test_an_empty_store_says_what_to_do(drive, tmp_path: Path) -> None:
    create_store(tmp_path / "empty.lens")
    async with drive("small", tmp_path / "empty.lens") as d:
        assert "holds no run yet" in d.text and "energylens ingest" in d.text
        await d.press("enter", "2")
        assert "holds no run yet" in d.text
        await d.press("s", "g", "enter", "c", "escape", "enter")


async def test_a_store_without_index_names_the_command(
    drive, tmp_path: Path, config: IngestConfig
) -> None:
    path = tmp_path / "bare.lens"
    make_store(path, config, with_index=False)
    async with drive("small", path) as d:
        assert "index  missing" in d.text
        await d.press("2")
        assert "This run has no index yet; features are read from it." in d.text
        assert "energylens index" in d.text and "⏎ Make it" in d.lines[-1]


async def test_too_small_a_terminal_says_so(drive) -> None:
    async with drive("50x12") as d:
        assert "needs 60x15, is 50x12" in d.text
    async with drive("60x15") as d:
        assert "needs" not in d.text


@BOTH
async def test_every_binding_has_an_id_and_no_two_share_one(drive, size) -> None:
    async with drive(size) as d:
        for keys in ((), ("2",), ("enter",), ("8",)):
            await d.press(*keys)
            ids = {}
            for active in d.app.screen.active_bindings.values():
                binding = active.binding
                if type(active.node).__module__.startswith(
                    "energylens.tui."
                ) and binding.description in {
                    own.description for own in vars(type(active.node)).get("BINDINGS", ())
                }:
                    assert binding.id, binding
                    assert ids.setdefault(binding.id, binding.action) == binding.action
            assert ids


@BOTH
async def test_nothing_on_screen_is_wider_than_it(drive, size) -> None:
    from rich.cells import cell_len

    async with drive(size) as d:
        for keys in ((), ("2",), ("enter",), ("8", "f5")):
            await d.press(*keys)
            width = d.app.size.width
            assert max(cell_len(line) for line in d.lines) <= width
            assert len(d.lines) == d.app.size.height
