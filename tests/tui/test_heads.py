"""The screens of heads, read as a person reads them, against the named queries and the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from textual.dom import DOMNode

from energylens.ingest.on_request.heads import measure_heads
from energylens.ingest.on_request.methods import ANSWERS
from energylens.ingest.on_request.reopen import reopen
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.lens.models import LanguageModel, read_hooks
from energylens.methods import BY_NAME
from energylens.queries.catalog import open_catalog
from energylens.queries.display import visible_token
from energylens.queries.heads import composed_heads, head_ranking, head_skip_trigrams, head_tokens
from energylens.tui.jobs import Jobs
from energylens.tui.kinds.base import WIDE
from energylens.tui.screens.attention import AttentionScreen
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.head import HeadScreen
from energylens.tui.screens.heads import HeadsScreen
from energylens.tui.screens.origins import OriginsScreen
from energylens.tui.widgets.heatmap import HeatCell, Heatmap
from energylens.tui.widgets.lacking import Lacking
from energylens.tui.widgets.token_text import TokenText
from energylens.tui.widgets.virtual_table import VirtualTable
from energylens.wire import decode, encode
from tests.conftest import D_MODEL, make_sae, make_store
from tests.tui.conftest import Driver, Open

BOTH = pytest.mark.parametrize("size", ["small", "large"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, gpt2_dir: Path, texts_dir: Path) -> Path:
    """With an SAE of what attention puts out."""
    root = tmp_path_factory.mktemp("heads")
    make_sae("standard", "blocks.1.hook_attn_out", D_MODEL, 24).save_model(root / "sae")
    config = IngestConfig(
        model=str(gpt2_dir), texts=str(texts_dir), saes=(str(root / "sae"),), energies="output",
        accept_gate=True,
    )  # fmt: skip
    measure_heads(root / "x.lens", make_store(root / "x.lens", config), 5, Progress())
    return root / "x.lens"


def _row(driver: Driver, layer: int) -> list[str]:
    (line,) = [line for line in driver.lines if line.startswith(f"L{layer} ")]
    return line.partition("│")[0].replace("▐", " ").replace("▌", " ").split()[1:]


@BOTH
async def test_heads_are_a_heatmap_of_each_score_and_a_list(
    drive: Open, path: Path, size: str
) -> None:
    with open_catalog(path) as store:
        run = store.runs[0].info.run_id
        heads = head_ranking(store, run).sort("layer", "head")
    async with drive(size, path) as d:
        await d.press("0")
        assert isinstance(d.app.screen, HeadsScreen)
        assert d.lines[1].split()[:2] == ["H0", "H1"]
        for shown in ("induction", "previous_token"):
            for layer in range(3):
                values = heads.filter(heads["layer"] == layer)[shown]
                assert _row(d, layer) == [f"{value:.2f}" for value in values]
            assert f"[{shown}] layer 0 head 0" in d.text and "uniform attention" in d.text
            await d.press("t")
        await d.press("T", "T", "T", "T")
        assert "[distance] layer 0 head 0" in d.text, "round again"
        await d.press("down", "right")
        assert "layer 1 head 1" in d.text
        await d.press("tab", "enter")
        best = head_ranking_first(path)
        assert isinstance(d.app.screen, HeadScreen)
        assert f"layer {best[0]} head {best[1]}" in d.lines[-2]
        await d.press("escape", "escape")
        assert d.app.screen.query_one(Heatmap).has_focus
        await d.press("question_mark")
        assert "Every attention head" in d.text
        await d.press("escape", "escape")
        assert not isinstance(d.app.screen, HeadsScreen)


def head_ranking_first(path: Path) -> tuple[int, int]:
    with open_catalog(path) as store:
        row = head_ranking(store, store.runs[0].info.run_id).row(0, named=True)
    return row["layer"], row["head"]


@BOTH
async def test_a_head_shows_skip_trigrams_pairs_and_partners(
    drive: Open, path: Path, size: str
) -> None:
    with open_catalog(path) as store:
        run = store.runs[0].info.run_id
        trigrams = head_skip_trigrams(store, run, 1, 0).row(0, named=True)
        pairs = head_tokens(store, run, 1, 0)
        others = composed_heads(store, run, 10_000)
        (own,) = head_ranking(store, run).filter(layer=1, head=0).iter_rows(named=True)
    async with drive(size, path) as d:
        await d.press("colon", *"heads", "enter", "down", "enter")
        assert isinstance(d.app.screen, HeadScreen)
        assert f"induction {own['induction']:.3f} ({own['induction_uniform']:.3f})" in d.text
        assert f"copying {own['copying']:.3f} (random {own['copying_random_025']:.2f}" in d.text
        read = others.filter(to_layer=1, to_head=0).row(0, named=True)
        assert f"reads L0H{read['head']} {read['how']} {read['composition']:.2f}" in d.text
        later = others.filter(layer=1, head=0).row(0, named=True)
        assert f"read by L2H{later['to_head']} {later['how']}" in d.text
        line = next(line for line in d.lines if visible_token(trigrams["out_token"]) in line)
        assert visible_token(trigrams["source"]) in line and f"{trigrams['score']:.3f}" in line
        await d.press("tab", "down")
        second = pairs.row(1, named=True)
        assert f"looks {second['distance']} back at {visible_token(second['source'])}" in d.text
        assert f"{second['attention']:.3f}" in d.text
        await d.pilot.pause(0.2)
        await d.settle()
        is_wide = d.app.size.width >= WIDE
        assert ("the token reversed looks at" in d.text) == is_wide
        assert "Back" in d.lines[-1], "nothing is pushed off the screen"


def _answered_here(
    jobs: Jobs, asker: DOMNode, title: str, method: str, run: str, request: Any, kind: type,
    answer: Callable[[Any], None], *_: object,
) -> None:  # fmt: skip
    """What a worker would answer, over the same table of methods and the same wire."""
    taken, compute = BY_NAME[method].request, ANSWERS[method]
    assert taken is not None
    asked = decode(taken, json.loads(encode(request)))
    found = compute(reopen(Path(jobs._store), run), asked, Progress())
    asker.call_later(answer, decode(kind, json.loads(encode(found))))


async def test_all_attention_of_a_context_and_what_made_a_feature_fire_are_drawn(
    drive: Open, path: Path, gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Jobs, "ask", _answered_here)
    with open_catalog(path) as store:
        run = store.runs[0].info.run_id
        pair = head_tokens(store, run, 2, 1).row(0, named=True)
        ids = store.cursor().execute(
            "SELECT vocab_id FROM tokens WHERE context_id = $context ORDER BY pos",
            {"context": pair["context_id"]},
        )
        given = torch.tensor([[row[0] for row in ids.fetchall()]])
    name = "blocks.2.attn.hook_pattern"
    cache = read_hooks(gpt2, given, [name])
    pattern = cache[name][0, 1]
    at = pair["token_index"] % 16, pair["source_index"] % 16
    async with drive("large", path) as d:
        await d.press("0", "down", "down", "right", "enter", "tab", "enter")
        assert isinstance(d.app.screen, AttentionScreen)
        heatmap = d.app.screen.query_one(Heatmap)
        assert heatmap.cursor == at
        assert f"at {at[0]} to" in d.text and f"{float(pattern[at]):.3f}" in d.text
        row = at[0]
        shown = [cell.text for cell in heatmap._cells[row]]
        for place, share in enumerate(pattern[row, : row + 1].tolist()):
            assert shown[place] == ("·" if share < 0.005 else f"{share * 100:.0f}")
        assert not any(shown[row + 1 :])
        await d.press("escape", "escape", "escape", "2", "enter")
        text = next(t for t in d.app.screen.query(TokenText) if t.has_focus)
        token = text.token
        await d.press("w")
        assert isinstance(d.app.screen, OriginsScreen)
        found = d.app.screen._found
        assert found is not None
        assert found.activation == pytest.approx(token.activation, rel=1e-4)
        assert len(found.tokens) == token.pos + 1
        assert sum(map(sum, found.shares)) + found.rest == pytest.approx(found.activation, rel=1e-4)
        assert "by all heads" in d.text and f"of {found.activation:.3f}" in d.text
        for head, row in enumerate(found.shares):
            (line,) = [line for line in d.lines if line.startswith(f"head {head} ")]
            expected = ["·" if abs(x) < 0.005 else f"{x:.2f}" for x in row]
            assert line.replace("▐", " ").replace("▌", " ").split()[2:] == expected
        await d.press("escape")
        assert isinstance(d.app.screen, FeatureScreen)


async def test_what_was_not_measured_says_how(drive: Open, store_path: Path) -> None:
    async with drive("large") as d:
        await d.press("0")
        assert "are not measured yet" in d.text
        assert f"energylens heads {store_path}" in d.text
        await d.press("enter", "t", "down", "tab", "enter", "escape", "escape")
        assert not isinstance(d.app.screen, HeadsScreen)


async def test_a_tall_map_scrolls_under_its_heading(drive: Open) -> None:
    async with drive("small") as d:
        await d.press("0")
        heatmap = d.app.screen.query_one(Heatmap)
        rows = [f"row{i}" for i in range(60)]
        d.app.screen.query_one(VirtualTable).display = False
        heatmap.remove_class("-lacking")
        d.app.screen.query_one(Lacking).remove()
        heatmap.show(rows, ["only"], [[HeatCell(str(i), 0.0)] for i in range(60)])
        heatmap.focus()
        d.app.screen._layers = list(range(60))  # type: ignore[attr-defined]
        await d.settle()
        heatmap.move_to(59, 0)
        await d.settle()
        assert "only" in d.lines[1] and "row59" in d.text and "row0 " not in d.text
        heatmap.move_to(0, 0)
        await d.settle()
        assert "row0 " in d.text and "row59" not in d.text
        columns = [f"c{i}" for i in range(40)]
        heatmap.cursor = (50, 35)
        heatmap.show(
            rows, columns, [[HeatCell(f"{i}.{j}", 0.0) for j in range(40)] for i in range(60)]
        )
        await d.settle()
        assert "50.35" in d.text and " c35" in d.lines[1], "the cursor is in view at once"
        assert "row50" in d.text and "c0 " not in d.lines[1], "labels stay"
        assert "49.34" in d.text and "10.35" not in d.text


async def test_a_feature_that_reads_no_attention_says_so(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("2", "enter", "w")
        await d.hears("w explains tokens of what attention puts out")
        assert isinstance(d.app.screen, FeatureScreen)
