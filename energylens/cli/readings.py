"""Print what a prompt, an intervention, an attribution, sources or a steering gave."""

import polars as pl
import typer

from energylens.cli.output import print_frame
from energylens.protocol import (
    AttributionResult,
    InterventionResult,
    PromptResult,
    Reading,
    SourcesResult,
    SteeredText,
    SteeringResult,
)
from energylens.queries.display import number, visible, visible_token
from energylens.queries.writing import Format
from energylens.when import WhenReport, when_in_words


def print_prompt(found: PromptResult) -> None:
    """Each token with its energy, what each layer would say next, and its strongest features."""
    _print_reading(found.reading)
    if found.other is not None:
        typer.echo("\nthe other text")
        _print_reading(found.other)
    _print_kept(found.kept_as)


def _print_reading(reading: Reading) -> None:
    by_pos: dict[int, list[str]] = {}
    for one in reading.features:
        name = f"{one.sae_id}:{one.feature_id}={number(one.activation)}"
        by_pos.setdefault(one.pos, []).append(name)
    routes: dict[int, list[str]] = {}
    for choice in reading.choices:
        routes.setdefault(choice.pos, []).append("/".join(map(str, choice.choice_ids)))
    columns: dict[str, list[str]] = {
        "pos": [str(t.pos) for t in reading.tokens],
        "token": [visible_token(t.token) for t in reading.tokens],
        "energy": [number(t.energy) for t in reading.tokens],
        "next by layer": [
            " ".join(visible_token(c) for c in t.continuations) for t in reading.tokens
        ],
        "features": [" ".join(by_pos.get(t.pos, [])) for t in reading.tokens],
    }
    if reading.choices:
        columns["routes"] = [" ".join(routes.get(t.pos, [])) for t in reading.tokens]
    print_frame(pl.DataFrame(columns), Format.table)


_MOST_NAMED = 8
"""Features that are named one by one."""


def _named(feature_ids: list[int]) -> str:
    if len(feature_ids) > _MOST_NAMED:
        return f"{len(feature_ids)} features"
    return ", ".join(map(str, feature_ids))


def print_intervention(found: InterventionResult) -> None:
    """The change of energy and prediction under the edit and its controls."""
    print_frame(
        pl.DataFrame(
            {
                "condition": [c.name for c in found.conditions],
                "features": [_named(c.feature_ids) for c in found.conditions],
                "energy change": [number(c.energy_change, 4) for c in found.conditions],
                "mean KL": [number(sum(c.kl) / len(c.kl), 4) for c in found.conditions],
                "largest KL": [number(max(c.kl), 4) for c in found.conditions],
            }
        ),
        Format.table,
    )
    print_frame(pl.DataFrame(_by_token(found)), Format.table)
    _print_when(found.when)
    if found.features:
        typer.echo("features moved most (activation summed over the text)")
        print_frame(
            pl.DataFrame(
                {
                    "SAE": [f.sae_id for f in found.features],
                    "feature": [f.feature_id for f in found.features],
                    "before": [number(f.before) for f in found.features],
                    "after": [number(f.after) for f in found.features],
                }
            ),
            Format.table,
        )
    for route in found.routing:
        typer.echo(
            f"{route.router}: first choice changed at {100 * route.share_changed:.1f} % of tokens, "
            f"total variation {route.total_variation:.4f}"
        )
    _print_kept(found.kept_as)


def _by_token(found: InterventionResult) -> dict[str, list[str]]:
    clean, edited = found.conditions[0], found.conditions[1]
    acted = (
        {}
        if found.when is None or edited.acted is None
        else {"changed": ["yes" if one else "" for one in edited.acted]}
    )
    return {
        "pos": [str(i) for i in range(len(found.tokens))],
        "token": [visible_token(t) for t in found.tokens],
        **acted,
        "energy": [number(e) for e in clean.energies],
        "edited": [number(e) for e in edited.energies],
        "KL": [number(k, 4) for k in edited.kl],
        "next tokens moved": [
            "  ".join(
                f"{visible_token(s.token)} {number(s.before)}→{number(s.after)}"
                for s in found.shifts
                if s.pos == pos
            )
            for pos in range(len(found.tokens))
        ],
    }


def print_attribution(found: AttributionResult) -> None:
    """Features by gradient times activation, with the other measures beside."""
    typer.echo(f"{visible(found.metric)}: {number(found.value)}")
    typer.echo(f"with every feature ablated and the error kept: {number(found.without_features)}")
    shown = [f for f in found.features if f.ablation is not None] or found.features[:20]
    print_frame(
        pl.DataFrame(
            {
                "feature": [f.feature_id for f in shown],
                "active": [f.n_active for f in shown],
                "gradient": [number(f.gradient, 4) for f in shown],
                "ablation": [number(f.ablation, 4) for f in shown],
                "direct": [number(f.direct, 4) for f in shown],
            }
        ),
        Format.table,
    )
    for pair, rho in found.agreement.items():
        typer.echo(f"{pair}: Spearman {number(rho)}")
    print_frame(
        pl.DataFrame(
            {
                "features": found.curve.n_features,
                "faithfulness": [number(x) for x in found.curve.faithfulness],
                "without them": [number(x) for x in found.curve.completeness],
            }
        ),
        Format.table,
    )


def print_sources(found: SourcesResult) -> None:
    """What each token gave to the activation, through all heads and through the one that gave
    most."""
    by_token = list(zip(*found.shares, strict=True))
    heads = [max(range(len(column)), key=lambda h: abs(column[h])) for column in by_token]
    rows = {
        "pos": list(range(len(found.tokens))),
        "token": [visible_token(token) for token in found.tokens],
        "gave": [number(sum(column), 4) for column in by_token],
        "most by head": heads,
        "which gave": [number(c[h], 4) for c, h in zip(by_token, heads, strict=True)],
    }
    print_frame(pl.DataFrame(rows), Format.table)
    typer.echo(
        f"\nactivation {number(found.activation, 4)}, of which {number(found.rest, 4)} is no "
        "token's: biases"
    )


def print_steering(found: SteeringResult) -> None:
    """Each continuation under its strength."""
    for one in found.texts:
        typer.echo(
            f"strength {number(one.strength)}: activation {number(one.activation)}, "
            f"perplexity {number(one.perplexity)}, distinct pairs {number(one.distinct)}"
            + _acted(found, one)
        )
        typer.echo(f"  {visible(found.prompt)}|{visible(one.text)}\n")
    _print_when(found.when)


def _acted(found: SteeringResult, one: SteeredText) -> str:
    if found.when is None or one.n_acted is None or not one.strength:
        return ""
    return f", changed at {one.n_acted} of {one.n_read} tokens"


def _print_when(report: WhenReport | None) -> None:
    if report is not None:
        typer.echo("\n" + "\n".join(visible(line) for line in when_in_words(report)))


def _print_kept(run_id: str | None) -> None:
    if run_id is not None:
        typer.echo(f"stored as the run {run_id}", err=True)
