"""What holds of each architecture, on small random models of its class.

    python -m benchmarks.architectures [NAME ...]

Writes docs/architectures.md and the figures behind it, benchmarks/results/architectures.json; with
names it measures these alone, prints their rows and leaves the others as they were.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.small_models import MIXTURES, VARIANTS, small_model
from energylens.errors import EnergyLensError
from energylens.lens.batching import batches, pad
from energylens.lens.models import LanguageModel, load_model, run_hooks
from energylens.lens.routers import find_routers, routing_gap
from energylens.training.corpus import train_tokenizer

DENSE = (
    "apertus", "arcee", "bloom", "codegen", "exaone4", "falcon_h1", "gemma", "gemma2",
    "gemma3_text", "glm4", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "granite",
    "llama", "mamba", "mistral", "mpt", "olmo", "olmo2", "opt", "phi", "phi3", "qwen2", "qwen3",
    "smollm3", "stablelm", "starcoder2", "xglm",
)  # fmt: skip
HOOKS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
LENGTHS = (1, 3, 5, 8, 9, 9, 14, 20)
FEW = 1e-3
"""Largest difference that rounding makes, beside the largest logit or activation."""
REPORT, FIGURES = Path("docs/architectures.md"), Path("benchmarks/results/architectures.json")


@dataclass(frozen=True)
class Row:
    """One architecture; differences are relative to the largest value, None where it is refused."""

    name: str
    model_class: str | None = None
    logits: float | None = None
    """Of the wrapped model, from those of transformers' own."""
    hooks: tuple[str, ...] = ()
    """Of HOOKS, those every block has."""
    lens: float | None = None
    """Of the logit lens behind the last block, from the model's logits."""
    padding: float | None = None
    """Of rows in batches of other lengths, from the same rows alone."""
    batch: float | None = None
    """Of rows in a batch of their own length, from the same rows alone."""
    routers: int = 0
    """Routers whose choices are recorded."""
    gap: str | None = None
    """Why no routing is recorded of a mixture of experts."""
    refused: str | None = None
    """Why it is not read; None where it is."""


def measure(name: str) -> Row:
    """Build a small model, write it down, load it as any other, and compare."""
    torch.manual_seed(0)
    model_type, changes = VARIANTS.get(name, (name, {}))
    try:
        hf_model = small_model(model_type, **changes)
    except Exception as error:  # a class whose own defaults do not go together
        return Row(name, refused=f"transformers cannot build a small one: {error}")
    with tempfile.TemporaryDirectory() as folder:
        hf_model.save_pretrained(folder)
        own = AutoModelForCausalLM.from_pretrained(folder).eval()  # not all of a model is written
        train_tokenizer(["a b c"], 300).save_pretrained(folder)
        try:
            model = load_model(folder)
        except EnergyLensError as error:
            return Row(name, type(hf_model).__name__, refused=str(error).replace(folder, name))
    ids = torch.randint(0, 300, (4, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = own(ids).logits.float()
    last = model.resid_post(model.n_layers - 1)
    logits, cache = run_hooks(model, ids, torch.ones_like(ids), [last])
    assert logits is not None, "the pass was not stopped early"
    seen = model.readout.logits(cache[last].flatten(0, 1)).reshape(expected.shape)
    return Row(
        name=name,
        model_class=model.model_class,
        logits=_gap(logits.float(), expected),
        hooks=tuple(hook for hook in HOOKS if _is_everywhere(model, hook)),
        lens=_gap(seen, expected),
        padding=_among_others(model, [row[:n].tolist() for row, n in _cut(ids)]),
        batch=_among_others(model, ids.tolist()),
        routers=len(find_routers(model)),
        gap=routing_gap(model),
    )


def _cut(ids: torch.Tensor) -> list[tuple[torch.Tensor, int]]:
    return [(ids[i % len(ids)], n) for i, n in enumerate(LENGTHS)]


def _gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / max(1.0, float(expected.abs().max())))


def _is_everywhere(model: LanguageModel, hook: str) -> bool:
    return all(f"blocks.{i}.{hook}" in model.bridge.hook_dict for i in range(model.n_layers))


def _among_others(model: LanguageModel, rows: Sequence[list[int]]) -> float:
    """Largest difference behind the last block between rows in batches and the same rows alone."""
    last, largest = model.resid_post(model.n_layers - 1), 0.0
    for batch in batches([len(row) for row in rows], 1000, model.regime):
        ids, mask = pad([rows[i] for i in batch])
        _, together = run_hooks(model, ids, mask.long(), [last])
        for at, i in enumerate(batch):
            alone = torch.tensor([rows[i]])
            _, cache = run_hooks(model, alone, torch.ones_like(alone), [last])
            found = together[last][at, : len(rows[i])]
            largest = max(largest, _gap(found, cache[last][0]))
    return largest


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown: what is read, then what is refused and why."""
    read = [row for row in rows if row.refused is None]
    lines = [
        "| architecture | class | logits | lens | padding | batch | hooks | routers |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in read),
    ]
    refused = [row for row in rows if row.refused is not None]
    if refused:
        lines += ["", "Refused, each with this reason:", ""]
        lines += [f"* `{row.name}`: {' '.join(str(row.refused).split())}" for row in refused]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    gaps = (row.logits, row.lens, row.padding, row.batch)
    hooks = "all" if row.hooks == HOOKS else ", ".join(h.removeprefix("hook_") for h in row.hooks)
    routers = str(row.routers) if row.routers else row.gap or "·"
    cells = (row.name, row.model_class, *(_shown(gap) for gap in gaps), hooks, routers)
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _shown(gap: float | None) -> str:
    if gap is None:
        return "·"
    return f"{gap:.0e}" if gap <= FEW else f"**{gap:.1e}**"


def report(rows: Sequence[Row]) -> str:
    """The page of the documentation."""
    classes = [row for row in rows if row.name not in VARIANTS]
    read = sum(row.refused is None for row in classes)
    packages = ", ".join(f"{name} {version(name)}" for name in ("transformers", "transformer-lens"))
    return f"""# Architectures

What holds of each class of model, on a small random one of two or so layers that is written down
and loaded as any other model is. Made by `python -m benchmarks.architectures` with
{packages}; the figures lie in
`{FIGURES}`. {read} of {len(classes)} are read.

* **logits**: largest difference between the wrapped model and transformers' own, beside the largest
  logit; **lens**: the same for the logit lens behind the last block.
* **padding**: largest difference of the stream behind the last block between a text in a batch with
  shorter and longer ones and the same text alone; **batch**: the same among texts of its length.
* **hooks**: which of `hook_resid_pre`, `hook_resid_mid`, `hook_resid_post`, `hook_attn_out` and
  `hook_mlp_out` every block has.
* **routers**: routers whose choices and weights are recorded; a dot for a model without experts,
  and the reason where they cannot be had.

Bold is what rounding does not explain.

{table(classes)}
## Positions and windows

The same of classes that tell positions apart in other ways, or see only so far. Rows of a batch are
up to {max(LENGTHS)} tokens long, past every threshold set here.

{table([row for row in rows if row.name in VARIANTS])}"""


def main(names: Sequence[str]) -> None:
    """Measure, and write or print."""
    every = (*sorted({*DENSE, *MIXTURES}), *VARIANTS)
    found: dict[str, Row] = {}
    if names:
        known = json.loads(FIGURES.read_text(encoding="utf-8"))
        found = {row["name"]: Row(**row | {"hooks": tuple(row["hooks"])}) for row in known}
    for name in names or every:
        found[name] = measure(name)
        sys.stderr.write(f"{found[name]}\n")
    if names:
        sys.stdout.write(table([found[name] for name in names]))
    rows = [found[name] for name in every if name in found]
    REPORT.write_text(report(rows), encoding="utf-8")
    FIGURES.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
