"""Routing of a run: health of each router, what its choices tell, and circuits."""

from dataclasses import asdict, replace

import numpy as np
from scipy import stats

from energylens.db.index_files import IndexWriter
from energylens.db.provenance import RunInfo
from energylens.ingest.index.routes import Routed, Tokens, place_of, rows_of
from energylens.ingest.index.routing_metrics import Labels, labels_of, metrics, pearson
from energylens.stats.clusters import MIN_TEXTS
from energylens.stats.information import (
    Information,
    dealt,
    informed,
    omega_squared,
    partial_spearman,
    rotated,
)
from energylens.stats.multiple_tests import benjamini_hochberg
from energylens.stats.routing_paths import Circuit, Walks, find_circuits

N_DRAWS = 200
"""Draws of each null."""
MOST_PATHS = 200
"""Paths looked at from each first layer."""


def write_routing(writer: IndexWriter, run: RunInfo, tokens: Tokens, routed: list[Routed]) -> None:
    """Write the tables of a run that tell of its routers, but for features and effects."""
    layers = [_layer(tokens, one) for one in routed]
    with writer.table("routing_layers") as out:
        for one, figures in zip(routed, layers, strict=True):
            out.write(rows_of(run, [{**place_of(one), **figures}]))
    told = [_informations(tokens, one) for one in routed]
    with writer.table("routing_metrics") as out:
        for one, found in zip(routed, told, strict=True):
            rows = [{**place_of(one), **asdict(m)} for m in metrics(tokens, one, found)]
            out.write(rows_of(run, rows))
    with writer.table("routing_information") as out:
        for one, found in zip(routed, told, strict=True):
            out.write(
                rows_of(
                    run,
                    [
                        {
                            **place_of(one),
                            "label": label,
                            "information": i.observed,
                            "expected": i.expected,
                            "adjusted": i.adjusted,
                            "normalized": i.normalized,
                            "p": i.p,
                        }
                        for label, i in sorted(found.items())
                    ],
                )
            )
    walks = Walks(
        choices=np.stack([one.choices[:, 0] for one in routed], axis=1),
        text=tokens.text,
        vocab_id=tokens.vocab_id,
        energy_drop=np.stack([one.energy_drop for one in routed], axis=1),
    )
    with writer.table("routing_circuits") as out:
        for length in range(2, len(routed) + 1):
            circuits = list(find_circuits(walks, length, MOST_PATHS))
            if circuits:
                layers = [one.layer for one in routed]
                out.write(rows_of(run, _circuit_rows(circuits, layers, tokens.token_index)))


def _layer(tokens: Tokens, one: Routed) -> dict[str, object]:
    n, k = one.p.shape
    load = np.bincount(one.choices.ravel(), minlength=k) / max(one.choices.size, 1)
    mean_p = one.p.mean(axis=0)
    marginal = float(stats.entropy(mean_p))
    within = float(one.entropy.mean())
    scale = np.log(k) if k > 1 else np.nan
    known = np.isfinite(tokens.energy)
    energy = tokens.energy[known]
    correlation = partial_spearman(
        energy, one.p.max(axis=1)[known], tokens.covariates[known], tokens.text[known]
    )
    seen = known & np.isfinite(one.seen_energy)
    return {
        "n_choices": k,
        "n_tokens": n,
        "n_dead": int((load == 0).sum()),
        "max_vio": float(load.max() * k - 1),
        "load_cv": float(load.std() * k),
        "concentration": 1 - within / scale,
        "balance": marginal / scale,
        "routing_information": (marginal - within) / scale,
        "usage_spread": float(1 - mean_p.std()),
        "energy_correlation": correlation.r,
        "energy_t": correlation.t,
        "energy_p": correlation.p,
        "energy_omega_squared": omega_squared(energy, one.choices[known, 0]),
        "energy_ceiling": pearson(tokens.entropy[known], energy),
        "seen_correlation": pearson(one.seen_energy[seen], tokens.energy[seen]),
    }


def _informations(tokens: Tokens, one: Routed) -> dict[str, Information]:
    return {label: informed_of(label, labels) for label, labels in labels_of(tokens, one).items()}


def informed_of(label: str, labels: Labels) -> Information:
    """What choices tell of a label, against the null that fits it: a category belongs to a text, so
    categories are dealt to texts; else choices rotate in their text, given the token among its
    tokens of the same vocabulary id. With few texts there is no test."""
    choice, own, text, given = labels.choice, labels.label, labels.text, labels.given
    if label.startswith("category"):
        draw = dealt(choice, own, text)
    else:
        draw = rotated(choice, own, text, given)
    found = informed(choice, own, draw, N_DRAWS, given=given)
    return found if len(np.unique(text)) >= MIN_TEXTS else replace(found, p=np.nan)


def _circuit_rows(
    circuits: list[Circuit], layers: list[int], token_index: np.ndarray
) -> list[dict[str, object]]:
    q = benjamini_hochberg(np.array([c.p for c in circuits]))
    rows = []
    for circuit, q_value in zip(circuits, q, strict=True):
        row = asdict(circuit)
        row |= {
            "n_layers": len(circuit.choices),
            "first_layer": layers[circuit.first_layer],
            "choices": list(circuit.choices),
            "q": float(q_value),
            "example_tokens": token_index[list(row.pop("rows"))].tolist(),
        }
        rows.append(row)
    return rows
