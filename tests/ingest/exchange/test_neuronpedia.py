"""What Neuronpedia imports: every line a row of its tables, every number one of the store's."""

import gzip
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import StoreLayout
from energylens.db.store import Store
from energylens.errors import QueryError, UnknownNameError, UsageError
from energylens.ingest.exchange import neuronpedia, neuronpedia_rows
from energylens.ingest.exchange.neuronpedia import CREATOR, Written, export_neuronpedia
from energylens.ingest.exchange.neuronpedia_rows import read
from energylens.ingest.progress import Progress
from energylens.queries.catalog import open_catalog
from tests.ingest.exchange.neuronpedia_columns import check

HEADS = {"release": "SourceRelease", "model": "Model", "sourceset": "SourceSet", "source": "Source"}
PARTS = {
    "features": "Neuron",
    "activations": "Activation",
    "explanations": "Explanation",
    "scores": "ExplanationScore",
}
Tables = dict[str, list[dict[str, Any]]]
NAME = "toy/0-res-a"


def lines(path: Path) -> list[str]:
    """Lines of a file as the importer has them, after it has put spaces for escaped NULs."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    assert text.endswith("\n")
    return text.replace("\\u0000", " ").strip().split("\n")


def loaded(folder: Path, name: str = NAME) -> Tables:
    """All rows by table, checked; a key that is there already is an error, not passed over."""
    place = folder / name
    found: Tables = {}
    for part, table in HEADS.items():
        found[table] = check(table, lines(place / f"{part}.jsonl"))
        assert len(found[table]) == 1
    for part, table in PARTS.items():
        files = sorted((place / part).glob("*"), key=lambda p: int(p.name[6:].split(".")[0]))
        assert all(re.fullmatch(r"batch-(\d+)\.jsonl\.gz", p.name) for p in files)
        found[table] = [row for file in files for row in check(table, lines(file))]
        keys = [(row["index"] if part == "features" else row["id"]) for row in found[table]]
        assert len(set(keys)) == len(keys)
    return found


def exported(store: Store, folder: Path, sae: str = "one", name: str | None = NAME) -> Written:
    return export_neuronpedia(store, store.infos[0].run_id, sae, folder, name, Progress())


@pytest.fixture(scope="module")
def tables(rich: Store, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """All of SAE one."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    written = exported(rich, folder)
    found = loaded(folder)
    n_rows = tuple(len(found[table]) for table in PARTS.values())
    assert n_rows[0] == 48 and min(n_rows) > 0
    assert n_rows == (
        written.n_features, written.n_contexts, written.n_explanations, written.n_scores
    )  # fmt: skip
    return found


def stored(store: Store, table: str, sae: str = "one") -> pl.DataFrame:
    sql = f"SELECT * FROM {table} WHERE sae_id = $sae ORDER BY ALL"
    return pl.DataFrame(store.cursor().sql(sql, params={"sae": sae}).to_arrow_table())


def test_rows_belong_together(tables: Tables, rich: Store) -> None:
    (release,), (model,), (group,), (source,) = (tables[table] for table in HEADS.values())
    assert model["id"] == "toy" and source["id"] == "0-res-a" and group["name"] == "res-a"
    assert source["setName"] == group["name"] and group["releaseName"] == release["name"]
    assert source["modelId"] == group["modelId"] == model["id"]
    info = rich.infos[0]
    assert (model["layers"], model["dimension"]) == (info.n_layers, info.d_model)
    assert (source["num_prompts"], source["num_tokens_in_prompt"]) == (info.n_contexts, info.n_ctx)
    assert source["dataset"] == "texts.jsonl" and "neurons of a layer (0)" in source["notes"]
    known = {row["index"] for row in tables["Neuron"]}
    assert known == {str(n) for n in range(48)}
    for table in ("Neuron", "Activation", "Explanation"):
        for row in tables[table]:
            assert (row["modelId"], row["layer"]) == ("toy", "0-res-a") and row["index"] in known
    said = {row["id"] for row in tables["Explanation"]}
    assert {row["explanationId"] for row in tables["ExplanationScore"]} <= said
    makers = {"creatorId", "authorId", "initiatedByUserId"}
    for rows in tables.values():
        assert {row[name] for row in rows for name in makers & row.keys()} == {CREATOR}


def test_statistics_are_those_of_the_store(tables: Tables, rich: Store) -> None:
    features = {row["feature_id"]: row for row in stored(rich, "features").to_dicts()}
    shapes = {row["feature_id"]: row for row in stored(rich, "logit_distributions").to_dicts()}
    live = 0
    for row in tables["Neuron"]:
        mine, shape = features[int(row["index"])], shapes[int(row["index"])]
        assert row["frac_nonzero"] == mine["density"] and row["sourceSetName"] == "res-a"
        assert row["hookName"] == "blocks.0.hook_resid_post" and row["vector"] == []
        heights, middles = row["freq_hist_data_bar_heights"], row["freq_hist_data_bar_values"]
        if mine["max_activation"] is None:
            assert row["maxActApprox"] is None and heights == middles == []
        else:
            live += 1
            assert np.float32(row["maxActApprox"]) == np.float32(mine["max_activation"])
            edges = np.linspace(mine["min_activation"], mine["max_activation"], 25)
            assert heights == mine["histogram"] and sum(heights) == mine["n_active"]
            assert middles == pytest.approx((edges[1:] + edges[:-1]) / 2)
        edges = np.linspace(shape["lowest"], shape["highest"], 41)
        assert row["logits_hist_data_bar_heights"] == shape["histogram"]
        assert row["logits_hist_data_bar_values"] == pytest.approx((edges[1:] + edges[:-1]) / 2)
    assert live > 10


def test_tokens_neighbours_and_correlated_features_are_those_of_the_store(
    tables: Tables, rich: Store
) -> None:
    logits, near = stored(rich, "feature_logits"), stored(rich, "feature_neighbours")
    partners = stored(rich, "coactivation").filter(pl.col("unit") == "token")
    n_partners = 0
    for row in tables["Neuron"]:
        own = pl.col("feature_id") == int(row["index"])
        for sign, way in (("pos", "top"), ("neg", "bottom")):
            ranked = logits.filter(own, pl.col("direction") == way).sort("rank")
            pieces = [token.replace("\0", " ") for token in ranked["token"]]
            assert len(pieces) > 0 and row[f"{sign}_str"] == pieces
            assert row[f"{sign}_values"] == pytest.approx(ranked["logit_weight"].to_list())
        ranked = near.filter(own).sort("rank")
        assert len(ranked) > 0 and row["topkCosSimIndices"] == ranked["neighbour_id"].to_list()
        assert row["topkCosSimValues"] == pytest.approx(ranked["cosine"].to_list())
        ranked = partners.filter(own).sort("rank").head(10)
        n_partners += len(ranked)
        assert row["correlated_features_indices"] == ranked["partner_id"].to_list()
        assert row["correlated_features_pearson"] == pytest.approx(ranked["phi"].to_list())
        assert row["correlated_features_l1"] == pytest.approx(ranked["cosine"].to_list())
    assert n_partners > 20


def contexts_of(store: Store, sae: str) -> tuple[dict[int, list[str]], dict[int, dict[int, Any]]]:
    """Tokens of each context, and by feature and context the activations of what is not masked."""
    rows = store.cursor().execute(
        "SELECT context_id, pos, token, is_special OR is_first OR is_sink FROM tokens ORDER BY ALL"
    )
    tokens: dict[int, list[str]] = defaultdict(list)
    masked = set()
    for context, pos, token, is_masked in rows.fetchall():
        assert pos == len(tokens[context])
        tokens[context].append(token)
        masked |= {(context, pos)} if is_masked else set()
    codes: dict[int, dict[int, Any]] = defaultdict(lambda: defaultdict(dict))
    n_ctx = store.infos[0].n_ctx
    for row in stored(store, "codes", sae).to_dicts():
        context, pos = divmod(row["token_index"], n_ctx)
        if (context, pos) not in masked:
            codes[row["feature_id"]][context][pos] = row["activation"]
    return tokens, codes


@pytest.mark.parametrize("sae", ["one", "two"])
def test_contexts_are_those_of_the_store(rich: Store, tmp_path: Path, sae: str) -> None:
    exported(rich, tmp_path / "out", sae)
    tokens, codes = contexts_of(rich, sae)
    tops = stored(rich, "top_contexts", sae).sort("feature_id", "rank")
    n_unmasked = rich.cursor().sql("SELECT count(*) FROM tokens WHERE NOT is_masked").fetchall()
    by_feature: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in loaded(tmp_path / "out")["Activation"]:
        by_feature[int(row["index"])].append(row)
    assert by_feature.keys() == codes.keys() and list(by_feature) == sorted(by_feature)
    n_samples = 0
    for feature, rows in by_feature.items():
        own = codes[feature]
        for row in rows:
            context = int(row["dataIndex"])
            assert row["tokens"] == tokens[context]
            values = [own[context].get(pos, 0.0) for pos in range(len(tokens[context]))]
            assert np.array(row["values"], np.float32).tolist() == values
            assert row["maxValue"] == max(row["values"]) > 0
            assert row["minValue"] == min(row["values"])
            assert row["values"].index(row["maxValue"]) == row["maxValueTokenIndex"]
            assert row["qualifyingTokenIndex"] == row["maxValueTokenIndex"]
        assert len({tuple(row["tokens"]) for row in rows}) == len(rows), "none twice"
        top = [row for row in rows if row["binMin"] == -1]
        assert rows[: len(top)] == top
        assert all(row["binMax"] == row["binContains"] == -1 for row in top)
        ranked = list(tops.filter(pl.col("feature_id") == feature)["context_id"])
        first = {tuple(tokens[c]): c for c in reversed(ranked)}
        wanted = [c for c in ranked if first[tuple(tokens[c])] == c]
        assert [int(row["dataIndex"]) for row in top] == wanted
        n_samples += check_intervals(rows[len(top) :], own, tokens, ranked, n_unmasked[0][0])
    assert n_samples > 20 or sae == "one"


def check_intervals(
    rows: list[dict[str, Any]], own: dict[int, dict[int, float]], tokens: dict[int, list[str]],
    top: list[int], n_unmasked: int,
) -> int:  # fmt: skip
    """Check the rows of a feature that are not its strongest; how many there are."""
    activations = np.array([a for by_pos in own.values() for a in by_pos.values()])
    edges = np.linspace(activations.min(), activations.max(), 6)
    taken = {tuple(tokens[context]) for context in top}
    rest: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    for context, by_pos in own.items():
        if tuple(tokens[context]) not in taken:
            peak = max(by_pos.values())
            rest[min(int(np.searchsorted(edges, peak, side="right")) - 1, 4)].add(
                tuple(tokens[context])
            )
    shown: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        number = int(np.abs(edges[:-1] - row["binMin"]).argmin())
        assert (row["binMin"], row["binMax"]) == pytest.approx((edges[number], edges[number + 1]))
        assert row["binMin"] - 1e-6 <= row["maxValue"] <= row["binMax"] + 1e-6
        assert tuple(row["tokens"]) in rest[number]
        shown[number].append(row)
    assert list(shown) == sorted(shown, reverse=True), "the strongest interval first"
    assert {n: len(r) for n, r in shown.items()} == {
        n: min(5, len(r)) for n, r in rest.items() if r
    }
    for number, own_rows in shown.items():
        upper = activations <= edges[5] if number == 4 else activations < edges[number + 1]
        share = (upper & (activations >= edges[number])).sum() / n_unmasked
        assert all(row["binContains"] == pytest.approx(share) for row in own_rows)
    return len(rows)


def test_explanations_come_with_their_scores(tables: Tables, rich: Store) -> None:
    mine = stored(rich, "explanations")
    assert len(tables["Explanation"]) == len(mine)
    (ours,) = [row for row in tables["Explanation"] if row["description"] == "even numbers"]
    assert ours["index"] == "3" and ours["typeName"] is None and ours["scoreV2"] is None
    (score,) = tables["ExplanationScore"]
    assert (score["explanationId"], score["value"]) == (ours["id"], 0.7)
    assert score["explanationScoreTypeName"] == "told" and score["createdAt"] > "2026"
    (noted,) = json.loads(ours["notes"])["scores"]
    assert (noted["score_type"], noted["score"]) == ("told", 0.7)
    scored = {(row["index"], row["description"]): row["scoreV2"] for row in tables["Explanation"]}
    for row in mine.to_dicts():
        assert scored[str(row["feature_id"]), row["description"]] == row["score"]


def test_the_same_run_gives_the_same_bytes(
    rich: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(rich, tmp_path / "a")
    monkeypatch.setattr("time.time", lambda: 2e9)
    exported(rich, tmp_path / "b")
    files = [
        {str(p.relative_to(tmp_path / n)): p.read_bytes() for p in (tmp_path / n).rglob("*.jsonl*")}
        for n in "ab"
    ]
    assert len(files[0]) == 8 and files[0] == files[1]


def test_features_lie_in_batches(
    rich: Store, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuronpedia, "BATCH", 20)
    monkeypatch.setattr(neuronpedia_rows, "_AT_ONCE", 3 * neuronpedia_rows.MOST_TOKENS)
    exported(rich, tmp_path / "out")
    names = [p.name for p in sorted((tmp_path / "out" / NAME / "features").iterdir())]
    assert names == [f"batch-{n}.jsonl.gz" for n in range(3)]
    assert loaded(tmp_path / "out") == tables
    said = {int(row["index"]) // 20 for row in tables["Explanation"]}
    parts = (tmp_path / "out" / NAME / "explanations").iterdir()
    assert {p.name for p in parts} == {f"batch-{n}.jsonl.gz" for n in said}, "none without a row"


def test_of_long_contexts_what_is_around_the_peak_is_shown(
    rich: Store, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neuronpedia_rows, "MOST_TOKENS", 6)
    exported(rich, tmp_path / "out")
    rows = loaded(tmp_path / "out")["Activation"]
    assert [row["id"] for row in rows] == [row["id"] for row in tables["Activation"]]
    n_cut = 0
    for row, whole in zip(rows, tables["Activation"], strict=True):
        first = whole["qualifyingTokenIndex"] - row["qualifyingTokenIndex"]
        assert row["tokens"] == whole["tokens"][first : first + 6]
        assert row["values"] == whole["values"][first : first + 6]
        assert len(row["tokens"]) == min(6, len(whole["tokens"])) and first >= 0
        n_cut += first > 0
    assert n_cut > 10


def changed(store: Store, change: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "runs", [change(state) for state in store.runs])


HOSTILE = 'a\0b\\u0000"\n\r\u2028\x1b[31m\u202e🐕</script>'


def hostile(con: Any, sql: str, values: dict[str, object]) -> pl.DataFrame:
    """Rows whose every token is hostile."""
    found = read(con, sql, values)
    if "token" in found.columns:
        found = found.with_columns(token=pl.lit(HOSTILE))
    if "pos_str" in found.columns:
        found = found.with_columns(pos_str=pl.lit([HOSTILE]))
    return found


def test_hostile_words_stay_one_line_each(
    rich_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(rich_path, tmp_path / "x.lens"))
    layout = StoreLayout(path).runs()[0]
    run = layout.root.name
    write_explanations(layout, "one", [Explanation(run, "one", 5, HOSTILE, HOSTILE, HOSTILE)])
    monkeypatch.setattr(neuronpedia_rows, "read", hostile)
    with open_catalog(path) as store:
        info = replace(store.infos[0], texts=HOSTILE, model="x")
        changed(store, lambda s: replace(s, info=info), monkeypatch)
        exported(store, tmp_path / "out")
    found = loaded(tmp_path / "out")
    clean = HOSTILE.replace("\0", " ")
    assert {token for row in found["Activation"] for token in row["tokens"]} == {clean}
    assert {token for row in found["Neuron"] for token in row["pos_str"]} == {clean}
    (said,) = [row for row in found["Explanation"] if row["description"] == clean]
    assert json.loads(said["notes"])["method"] == clean and said["typeName"] is None
    assert found["Source"][0]["dataset"] == clean


@pytest.mark.parametrize(
    ("model", "its", "sae_id", "layer", "name"),
    [
        ("org/My Model.v2", None, "blocks.1.hook_resid_post", 1, "my-model-v2/1-hook_resid_post"),
        ("/home/x/gpt2/", "gpt2-small/8-res-jb", "one", 8, "gpt2-small/8-res-jb"),
        ("x", "../../etc/1-x", "a/../b", -1, "x/0-a-b"),
        ("模型", None, "..", 3, "unnamed/3-unnamed"),
    ],
)  # fmt: skip
def test_names_are_legal_there(
    rich: Store, model: str, its: str | None, sae_id: str, layer: int, name: str
) -> None:
    info = replace(rich.infos[0], model=model)
    sae = replace(info.saes[0], neuronpedia_id=its, sae_id=sae_id, layer=layer)
    names = neuronpedia._names(info, sae, None)
    assert f"{names.model}/{names.source}" == name


def test_wrong_use_is_told(rich: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("toy", "Toy/0-a", "toy/a", "toy/0-", "toy/0-a/b", "../0-a", "toy/0-a\n"):
        with pytest.raises(UsageError, match="is no name there; give MODEL/LAYER-SET"):
            exported(rich, out, name=name)
    with pytest.raises(UnknownNameError, match="has no SAE"):
        exported(rich, out, "nine")
    with pytest.raises(UsageError, match="is there already"):
        exported(rich, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_lacks_is_told(
    rich: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        changed(rich, lambda s: replace(s, n_complete=0), patch)
        with pytest.raises(UsageError, match="is not finished"):
            exported(rich, tmp_path / "out")
    with monkeypatch.context() as patch:
        changed(rich, lambda s: replace(s, info=replace(s.info, created="once")), patch)
        with pytest.raises(UsageError, match=r"tells no time .* \('once'\)"):
            exported(rich, tmp_path / "out")
    with monkeypatch.context() as patch:
        more = [replace(sae, d_sae=99) for sae in rich.infos[0].saes]
        changed(rich, lambda s: replace(s, info=replace(s.info, saes=more)), patch)
        with pytest.raises(QueryError, match="has no index of its SAEs"):
            exported(rich, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
