"""What the bundled MesaNet is like: bits a byte, samples of every kind, its routers and anchors.

    python -m benchmarks.mesanet [--heldout TEXTS]

Writes `docs/findings/mesanet.md`.
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import torch

from energylens.cli.output import print_frame
from energylens.cli.train import heldout as print_heldout
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.routing_effects import measure_routing
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.ingest.texts import iter_texts
from energylens.lens.models import LanguageModel, load_model
from energylens.queries.catalog import open_catalog
from energylens.queries.display import visible, visible_token
from energylens.queries.routing import anchor_effects, anchor_load, anchor_tokens, routing_report
from energylens.queries.writing import Format

MODEL = "builtin:mesanet"
TEXTS = "builtin:categories"
TARGET = Path("docs/findings/mesanet.md")
N_PROMPT, N_NEW = 16, 60
N_CONTEXTS = 64
"""Contexts the effects of routing are measured in."""


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heldout", default=TEXTS)
    asked = parser.parse_args()
    TARGET.write_text("\n".join(report(asked.heldout)) + "\n", encoding="utf-8")
    print(f"wrote {TARGET}")  # noqa: T201


def report(heldout: str) -> Iterator[str]:
    """The file, part by part."""
    yield f"# {MODEL}\n\nMade by `python -m benchmarks.mesanet`.\n"
    yield "## Held-out texts\n"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_heldout(MODEL, heldout, "markdown")
    yield out.getvalue()
    yield from samples(load_model(MODEL))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesanet.lens"
        prepared = prepare(path, load(IngestConfig(model=MODEL, texts=TEXTS, saes=(MODEL,))))
        ingest(prepared, Part(), Progress())
        build_indexes(path, Progress())
        measure_routing(path, prepared.run.run_id, N_CONTEXTS, 0, Progress())
        yield from routing(path, prepared.run.run_id)


def samples(model: LanguageModel) -> Iterator[str]:
    """The first tokens of a bundled text of each kind, and what the model makes of them."""
    yield "## Samples\n\nThe second text of each kind, its first tokens and, after ‖, 60 drawn at"
    yield "temperature 0.7; seed 0, nothing chosen.\n"
    by_category: dict[str, list[str]] = {}
    for text in iter_texts(TEXTS):
        by_category.setdefault(text.category or "none", []).append(text.text)
    for category, texts in sorted(by_category.items()):
        torch.manual_seed(0)
        ids = model.tokenizer.encode(texts[1], add_special_tokens=False)[:N_PROMPT]
        with torch.no_grad():
            out = model.hf_model.generate(
                torch.tensor([[model.bos_id, *ids]]), max_new_tokens=N_NEW, do_sample=True,
                temperature=0.7, top_k=0, pad_token_id=model.bos_id,
            )[0]  # fmt: skip
        before = visible(model.tokenizer.decode(ids))
        after = visible(model.tokenizer.decode(out[len(ids) + 1 :], skip_special_tokens=True))
        yield f"**{category}**\n\n```\n{before}‖{after}\n```\n"


def routing(path: Path, run: str) -> Iterator[str]:
    """Every figure of the routers, anchors in words, and what is lost without them."""
    with open_catalog(path) as store:
        figures = routing_report(store, run)
        notes = figures.unique("metric", maintain_order=True).select("word", "metric", "note")
        yield "## Routers\n\nOver the bundled texts; in brackets the 95 % interval.\n"
        yield table(_by_layer(figures))
        yield "\nWhat the figures are:\n"
        yield table(notes)
        yield "\n## Anchors\n\nThe tokens each takes most beyond its share, its load, the kind of"
        yield "text it takes most, and the nats its own tokens lose without it beyond what others"
        yield "lose.\n"
        effects = anchor_effects(store, run)
        yield table(_anchors(anchor_tokens(store, run), anchor_load(store, run), effects))


def _by_layer(figures: pl.DataFrame) -> pl.DataFrame:
    shown = figures.with_columns(
        pl.struct("value", "low", "high")
        .map_elements(_interval, return_dtype=pl.String)
        .alias("shown"),
        pl.col("layer").cast(pl.String).fill_null("all").alias("at"),
    )
    return shown.pivot("at", index=["word", "metric", "baseline"], values="shown").with_columns(
        pl.col("baseline").round(3)
    )


def _interval(row: dict[str, float | None]) -> str:
    value, low, high = row["value"], row["low"], row["high"]
    if value is None:
        return ""
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _anchors(taken: pl.DataFrame, loads: pl.DataFrame, effects: pl.DataFrame) -> pl.DataFrame:
    keys = ["layer", "router", "choice_id"]
    both = loads.join(taken, on=keys, how="left").join(effects, on=keys, how="left")
    words = pl.col("tokens").map_elements(
        lambda tokens: " ".join(visible_token(t) for t in tokens), return_dtype=pl.String
    )
    return both.sort(keys).select(
        "layer", pl.col("choice_id").alias("anchor"), pl.col("load").round(3), words,
        pl.col("top_category").alias("kind"), pl.col("category_lift").round(1).alias("lift"),
        pl.col("difference").round(3).alias("without"),
    )  # fmt: skip


def table(rows: pl.DataFrame) -> str:
    """A frame as Markdown."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_frame(rows, Format.markdown)
    return out.getvalue()


if __name__ == "__main__":
    main()
