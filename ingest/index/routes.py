"""The routing of a run as arrays: its tokens, and what each router did with them."""

from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from energylens.db.provenance import RunInfo
from energylens.lens.pieces import TOKEN_CLASSES, token_class

_TOKENS = """
SELECT
    t.token_index, t.pos, t.vocab_id, t.token,
    coalesce(t.log_frequency, 0) AS log_frequency,
    t.energy, t.entropy, x.category, x.text_id, c.part * r.n_ctx + t.pos AS place
FROM tokens AS t
JOIN runs AS r ON r.run_id = t.run_id
JOIN contexts AS c ON c.run_id = t.run_id AND c.context_id = t.context_id
LEFT JOIN texts AS x ON x.run_id = t.run_id AND x.text_id = c.text_id
WHERE t.run_id = $run_id AND NOT t.is_masked
ORDER BY t.token_index
"""
_ROUTES = """
SELECT r.token_index, r.rank, r.choice_id
FROM routing AS r
WHERE r.run_id = $run_id AND r.router = $router
ORDER BY r.token_index, r.rank
"""
_ROUTED = """
SELECT r.token_index, r.logits, r.entropy, r.seen_energy, r.energy_in - r.energy_out AS energy_drop
FROM routing_tokens AS r
WHERE r.run_id = $run_id AND r.router = $router
ORDER BY r.token_index
"""


@dataclass(frozen=True)
class Tokens:
    """The N tokens of a run that are not masked."""

    token_index: np.ndarray
    text: np.ndarray
    """From 0; tokens come text by text."""
    vocab_id: np.ndarray
    kind: np.ndarray
    """Which of TOKEN_CLASSES."""
    energy: np.ndarray
    """NaN where there is no next token."""
    entropy: np.ndarray
    covariates: np.ndarray
    """[N, 2]: log frequency and position."""
    category: np.ndarray
    """From 0 by text; -1 where a text has none."""
    part: np.ndarray
    """Quarter of its text, 0 to 3."""


@dataclass(frozen=True)
class Routed:
    """One router at those tokens."""

    router: str
    layer: int
    choices: np.ndarray
    """[N, k], the strongest first."""
    p: np.ndarray
    """[N, K]: softmax over all choices."""
    entropy: np.ndarray
    seen_energy: np.ndarray
    energy_drop: np.ndarray


def read_routing(con: duckdb.DuckDBPyConnection, run_id: str) -> tuple[Tokens, list[Routed]] | None:
    """Tokens and routers of a run, by layer; None where the model has no routers."""
    routers = con.execute(
        "SELECT DISTINCT layer, router FROM routing WHERE run_id = $run_id ORDER BY layer, router",
        {"run_id": run_id},
    ).fetchall()
    if not routers:
        return None
    tokens = _tokens(con, run_id)
    return tokens, [_routed(con, run_id, r, layer, tokens.token_index) for layer, r in routers]


def _tokens(con: duckdb.DuckDBPyConnection, run_id: str) -> Tokens:
    rows = con.sql(_TOKENS, params={"run_id": run_id}).to_arrow_table()
    words = ("category", "token")
    columns = {n: rows[n].to_numpy() for n in rows.column_names if n not in words}
    kinds = {name: i for i, name in enumerate(TOKEN_CLASSES)}
    names = rows["category"].to_pylist()
    number = {c: i for i, c in enumerate(sorted({c for c in names if c is not None}))}
    _, text = np.unique(columns["text_id"], return_inverse=True)
    longest = np.zeros(int(text.max()) + 1)
    np.maximum.at(longest, text, columns["place"])
    return Tokens(
        token_index=columns["token_index"],
        text=text,
        vocab_id=columns["vocab_id"].astype(np.int64),
        kind=np.array([kinds[token_class(t)] for t in rows["token"].to_pylist()], dtype=np.int64),
        energy=columns["energy"].astype(np.float64),
        entropy=columns["entropy"].astype(np.float64),
        covariates=np.stack([columns["log_frequency"], columns["pos"]], axis=1).astype(np.float64),
        category=np.array([number.get(c, -1) for c in names], dtype=np.int64),
        part=np.minimum(4 * columns["place"] // (longest[text] + 1), 3).astype(np.int64),
    )


def _routed(
    con: duckdb.DuckDBPyConnection, run_id: str, router: str, layer: int, token_index: np.ndarray
) -> Routed:
    names = {"run_id": run_id, "router": router}
    routes = con.sql(_ROUTES, params=names).to_arrow_table()
    k = int(routes["rank"].to_numpy().max()) + 1
    choices = routes["choice_id"].to_numpy().reshape(-1, k)
    every = routes["token_index"].to_numpy()[::k]
    rows = con.sql(_ROUTED, params=names).to_arrow_table()
    logits = rows["logits"].combine_chunks()
    flat = logits.flatten().to_numpy(zero_copy_only=False).reshape(len(logits), -1)
    flat = np.exp(flat.astype(np.float64) - flat.max(axis=1, keepdims=True))
    kept = np.searchsorted(every, token_index)
    columns = {
        name: rows[name].to_numpy(zero_copy_only=False).astype(np.float64)[kept]
        for name in ("entropy", "seen_energy", "energy_drop")
    }
    return Routed(
        router=router,
        layer=layer,
        choices=choices[kept],
        p=(flat / flat.sum(axis=1, keepdims=True))[kept],
        **columns,
    )


def place_of(one: Routed) -> dict[str, object]:
    """The columns that name a router."""
    return {"router": one.router, "layer": one.layer}


def rows_of(run: RunInfo, rows: list[dict[str, object]]) -> pa.Table:
    """Records as Arrow rows of a run."""
    return columns_of(
        run, {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}
    )


def columns_of(run: RunInfo, columns: dict[str, Any]) -> pa.Table:
    """Columns as Arrow rows of a run; NaN becomes NULL."""
    found = {}
    for name, values in columns.items():
        array = pa.array(values)
        if pa.types.is_floating(array.type):
            numbers = array.to_numpy(zero_copy_only=False)
            array = pa.array(numbers, mask=np.isnan(numbers))
        found[name] = array
    n = len(next(iter(found.values()), []))
    return pa.table({"run_id": [run.run_id] * n, **found})
