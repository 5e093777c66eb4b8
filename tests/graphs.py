"""Attribution graphs as circuit-tracer writes them, made for the tests: JSON as Python has it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

N_LAYERS = 2
MODEL = "tiny-model"
TYPES = {
    "feature": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "embedding": "embedding",
    "logit": "logit",
}


def pair(layer: int, number: int) -> int:
    """Cantor's pairing, by counting along the diagonals."""
    return sum(range(1, layer + number + 1)) + number


def node(node_id: str, kind: str, layer: int | str, feature: int, pos: int, **more: Any) -> dict:
    return {
        "node_id": node_id,
        "feature": feature,
        "layer": layer if isinstance(layer, str) else str(layer),
        "ctx_idx": pos,
        "feature_type": TYPES.get(kind, kind),
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": f"{node_id}-0",
        "clerp": "",
        "influence": 0.5,
        "activation": 1.5 if kind == "feature" else None,
        **more,
    }


def feature(layer: int, number: int, pos: int, **more: Any) -> dict:
    node_id = f"{layer}_{number}_{pos}"
    return node(node_id, "feature", layer, pair(layer, number), pos, **more)


def error(layer: int, pos: int) -> dict:
    return node(f"0_{layer}_{pos}", "error", layer, -1, pos)


def embedding(token_id: int, pos: int) -> dict:
    return node(f"E_{token_id}_{pos}", "embedding", "E", pos, pos)


def logit(token_id: int, pos: int, prob: float, **more: Any) -> dict:
    label = f'Output "{token_id}" (p={prob:.3f})'
    node_id = f"{N_LAYERS + 1}_{token_id}_{pos}"
    return node(
        node_id, "logit", N_LAYERS + 1, token_id, pos,
        token_prob=prob, clerp=label, influence=None, **more,
    )  # fmt: skip


def link(source: dict | str, target: dict | str, weight: float) -> dict:
    ends = [end if isinstance(end, str) else end["node_id"] for end in (source, target)]
    return {"source": ends[0], "target": ends[1], "weight": weight}


def graph(
    slug: str, nodes: list[dict], links: list[dict], tokens: list[str], **view: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "slug": slug,
            "scan": MODEL,
            "transcoder_list": [],
            "prompt_tokens": tokens,
            "prompt": "".join(tokens),
            "info": {
                "transcoder_set": "someone/tiny-set",
                "generator": {"name": "circuit-tracer", "version": "0.2.0"},
                "create_time_ms": 1761492851011,
            },
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", **view},
        "nodes": nodes,
        "links": links,
    }


def small(slug: str = "small", extra: int = 5) -> dict[str, Any]:
    """Three tokens, features of two layers, an error, two logits; one feature is `extra`."""
    tokens = [embedding(0, 0), embedding(11, 1), embedding(12, 2)]
    low, high = feature(0, 3, 1), feature(1, extra, 2, clerp="cats")
    wrong = error(0, 2)
    one, other = logit(21, 2, 0.6, is_target_logit=True), logit(22, 2, 0.2)
    links = [
        link(tokens[1], low, 2.0), link(tokens[0], low, -0.5), link(low, high, 1.25),
        link(tokens[2], high, 0.75), link(wrong, high, -0.25), link(high, one, 3.0),
        link(low, one, 1.0), link(tokens[2], other, -1.0), link(high, other, -0.5),
    ]  # fmt: skip
    supernodes = [["about cats", high["node_id"], low["node_id"]]]
    nodes = [*tokens, low, wrong, high, one, other]
    return graph(slug, nodes, links, ["<bos>", " a", " cat"], supernodes=supernodes)


def colliding(slug: str = "colliding") -> dict[str, Any]:
    """The error of layer 1 at token 2 and the feature 1 of layer 0 there go by one name."""
    made = small(slug)
    last = made["nodes"][-2]
    made["nodes"] += [feature(0, 1, 2), error(1, 2)]
    made["links"] += [link("E_12_2", "0_1_2", 0.5), link("0_1_2", last, 0.25)]
    return made


def random_graph(slug: str, n_features: int, n_links: int, seed: int = 0) -> dict[str, Any]:
    """Features of two layers at eight tokens, linked by chance from what comes before."""
    draw = np.random.default_rng(seed)
    tokens = [embedding(int(t), pos) for pos, t in enumerate(draw.integers(300, size=8))]
    features = [
        feature(layer, int(number), int(draw.integers(1, 8)))
        for layer in range(N_LAYERS)
        for number in draw.choice(40, n_features // N_LAYERS, replace=False)
    ]
    logits = [logit(int(t), 7, p) for t, p in zip((7, 5), (0.5, 0.25), strict=True)]
    nodes = [*tokens, *features, error(1, 3), *logits]
    levels = [0] * 8 + [1 + int(f["layer"]) for f in features] + [1, 9, 9]
    pairs = [(i, j) for i, a in enumerate(levels) for j, b in enumerate(levels) if a < b]
    chosen = draw.choice(len(pairs), min(n_links, len(pairs)), replace=False)
    links = [
        link(nodes[pairs[n][0]], nodes[pairs[n][1]], float(draw.normal())) for n in sorted(chosen)
    ]
    return graph(slug, nodes, links, [f" t{n}" for n in range(8)])


def content(made: dict[str, Any]) -> bytes:
    return json.dumps(made).encode()


def write(folder: Path, *made: dict[str, Any]) -> list[Path]:
    """A file for each graph, named by its number: slugs are no names of files."""
    paths = [folder / f"{number}.json" for number in range(len(made))]
    for path, one in zip(paths, made, strict=True):
        path.write_bytes(content(one))
    return paths
