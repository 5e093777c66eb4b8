"""How long attribution graphs take on their way into a store.

    python -m benchmarks.graphs [--graphs 20] [--links 40000]

Large graphs are made by chance: features of 26 layers at twelve tokens, linked from lower layers to
higher ones. Processor time of the whole command in a process of its own, of the reader alone beside
Python's own JSON of the same file, and of queries; the machine may do other work meanwhile. Writes
`benchmarks/results/graphs.json`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from energylens.ingest.exchange.attribution_graphs import paired, parse_graph
from energylens.queries.catalog import open_catalog
from energylens.queries.graphs import graph_diff, graph_features, graph_paths, node_links

N_LAYERS, N_TOKENS, N_FEATURES, N_LOGITS, WIDTH = 26, 12, 1400, 10, 98_304
OUT = Path(__file__).parent / "results/graphs.json"


def made(slug: str, n_links: int, seed: int) -> dict[str, Any]:
    """A graph by chance, as JSON."""
    draw = np.random.default_rng(seed)
    layers = np.sort(draw.integers(N_LAYERS, size=N_FEATURES)).tolist()
    numbers = draw.choice(WIDTH, N_FEATURES, replace=False).tolist()
    places = draw.integers(1, N_TOKENS, size=N_FEATURES).tolist()
    nodes = [_node(f"E_{pos}_{pos}", "embedding", "E", pos, pos) for pos in range(N_TOKENS)]
    nodes += [
        _node(f"{a}_{b}_{pos}", "cross layer transcoder", str(a), paired(a, b), pos)
        for a, b, pos in zip(layers, numbers, places, strict=True)
    ]
    nodes += [
        _node(f"{N_LAYERS + 1}_{n}_{N_TOKENS - 1}", "logit", str(N_LAYERS + 1), n, N_TOKENS - 1)
        | {"token_prob": 1 / N_LOGITS, "is_target_logit": n == 0}
        for n in range(N_LOGITS)
    ]
    level = np.array([-1] * N_TOKENS + layers + [N_LAYERS + 1] * N_LOGITS)
    below = np.flatnonzero(level[:, None] < level[None])
    chosen = draw.choice(below, n_links, replace=False)
    ids = [node["node_id"] for node in nodes]
    pairs = zip(*np.divmod(chosen, len(nodes)), draw.normal(size=n_links).tolist(), strict=True)
    return {
        "metadata": {
            "slug": slug,
            "scan": "made",
            "prompt": "made",
            "prompt_tokens": [f" {pos}" for pos in range(N_TOKENS)],
        },
        "qParams": {},
        "nodes": nodes,
        "links": [{"source": ids[a], "target": ids[b], "weight": w} for a, b, w in pairs],
    }


def _node(node_id: str, kind: str, layer: str, feature: int, pos: int) -> dict[str, Any]:
    return {
        "node_id": node_id, "feature": feature, "layer": layer, "ctx_idx": pos,
        "feature_type": kind, "token_prob": 0.0, "is_target_logit": False, "run_idx": 0,
        "reverse_ctx_idx": 0, "jsNodeId": f"{node_id}-0", "clerp": "", "influence": 0.5,
        "activation": 1.0,
    }  # fmt: skip


def seconds(what: Callable[[], object], n: int = 5) -> float:
    """Processor time, the least of some tries."""
    found = []
    for _ in range(n):
        began = time.process_time()
        what()
        found.append(time.process_time() - began)
    return min(found)


def command(*words: str) -> float:
    """Processor time of the command, its start counted in."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "energylens", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Make graphs, take them in, ask them, and write down how long it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graphs", type=int, default=20)
    parser.add_argument("--links", type=int, default=40_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder, "graphs"), Path(folder, "x.lens")
        root.mkdir()
        for number in range(given.graphs):
            text = json.dumps(made(f"made-{number}", given.links, number))
            (root / f"{number}.json").write_text(text, encoding="utf-8")
        content = (root / "0.json").read_bytes()
        found = {
            "graphs": given.graphs,
            "links": given.graphs * given.links,
            "read_one": seconds(lambda: parse_graph(content)),
            "read_one_by_json": seconds(lambda: json.loads(content)),
            "import": command("import", "graph", str(store), str(root)),
            "import_again": command("import", "graph", str(store), str(root)),
        }
        with open_catalog(store) as opened:
            first = f"E_{N_TOKENS // 2}_{N_TOKENS // 2}"
            asked: dict[str, Callable[[], object]] = {
                "graph_features": lambda: graph_features(opened, 2),
                "graph_paths": lambda: graph_paths(opened, "made-0", first),
                "graph_diff": lambda: graph_diff(opened, "made-0", f"made-{given.graphs - 1}"),
                "node_links": lambda: node_links(opened, "made-0", first),
            }
            found |= {name: seconds(ask) for name, ask in asked.items()}
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
