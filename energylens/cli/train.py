"""`energylens train`: language models, MesaNets and SAEs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from energylens.choices import one_of
from energylens.cli import router_features, train_saes
from energylens.cli.extras import need_models
from energylens.cli.groups import Commands
from energylens.cli.sources import need_sources
from energylens.cli.sql import FormatOption, checked_format
from energylens.cli.training_texts import has_tokenizer, keep_tokenizer, shuffled, tokenized
from energylens.errors import TrainingError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

    from energylens.cli.training_log import TrainingLog
    from energylens.lens.models import LanguageModel
    from energylens.training.loop import Watch

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train a small language model, or SAEs.",
)


HeldoutOption = Annotated[
    str | None,
    typer.Option("--heldout", help="Texts the model does not see, measured ten times on the way."),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or cuda:1.")]
HELDOUT_TEXTS = 40
"""Texts of each category measured on the way; `energylens train heldout` measures all."""


@app.command()
def lm(
    out: Annotated[Path, typer.Argument(help="Directory for tokenizer, model and checkpoint.")],
    texts: Annotated[str, typer.Option(help="Texts, as for `energylens ingest`.")],
    n_tokens: Annotated[int, typer.Option(help="Budget of tokens to train on.")] = 6_000_000,
    vocab_size: Annotated[int, typer.Option(help="Entries of the tokenizer.")] = 4096,
    d_model: Annotated[int, typer.Option(help="Width of the residual stream.")] = 128,
    n_layers: Annotated[int, typer.Option(help="Blocks.")] = 4,
    n_ctx: Annotated[int, typer.Option(help="Context length.")] = 256,
    seed: Annotated[int, typer.Option(help="Decides weights and the order of texts.")] = 0,
    held_out: HeldoutOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Train a Llama-shaped language model on texts; the same command goes on after a stop."""
    need_models()
    need_sources(texts=texts)
    _check_device(device)
    from energylens.training.language_model import LanguageModelConfig, train

    config = LanguageModelConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        n_layers=n_layers,
        n_ctx=n_ctx,
        n_tokens=n_tokens,
        seed=seed,
    )
    ids = tokenized(out, texts, vocab_size, seed)
    watch = _watch(out, held_out, n_ctx, config.n_steps)
    _keep(train(config, ids, out / "checkpoint.safetensors", watch, device), out)


@app.command()
def mesanet(
    out: Annotated[Path, typer.Argument(help="Directory for tokenizer, model and checkpoint.")],
    texts: Annotated[str, typer.Option(help="Texts, as for `energylens ingest`.")],
    n_tokens: Annotated[int, typer.Option(help="Budget of tokens to train on.")] = 12_000_000,
    vocab_size: Annotated[int, typer.Option(help="Entries of the tokenizer.")] = 4096,
    d_model: Annotated[int, typer.Option(help="Width of the residual stream.")] = 160,
    n_layers: Annotated[int, typer.Option(help="Blocks.")] = 5,
    n_heads: Annotated[int, typer.Option(help="Heads of the mixers.")] = 10,
    n_anchors: Annotated[int, typer.Option(help="Anchors a block routes to.")] = 20,
    n_ctx: Annotated[int, typer.Option(help="Context length.")] = 256,
    mixer: Annotated[str, typer.Option(help="mesa, attention or log-linear.")] = "mesa",
    router: Annotated[str, typer.Option(help="learned, random, hash or dense.")] = "learned",
    energy: Annotated[
        str,
        typer.Option(
            help="What the router sees: none, predicted, entropy, previous (the energy the token "
            "had), or, to compare, shuffled or 'previous shuffled'."
        ),
    ] = "predicted",
    budget: Annotated[
        str,
        typer.Option(
            help="How many anchors a token gets: equal; by_energy; with --exits by_drop; or, to "
            "compare, by_shuffled_drop."
        ),
    ] = "equal",
    specialization_weight: Annotated[
        float, typer.Option(min=0, help="Of the loss by which each token keeps to few anchors.")
    ] = 0.002,
    efficiency_weight: Annotated[
        float, typer.Option(min=0, help="Of the loss by which all anchors are used alike.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Decides weights and the order of texts.")] = 0,
    begin_with: Annotated[
        str | None,
        typer.Option("--from", help="A trained MesaNet to begin with; its shape is taken over."),
    ] = None,
    exits: Annotated[
        bool, typer.Option(help="Every block an exit, and heads that foretell the energy drop.")
    ] = False,
    exit_energy: Annotated[
        bool, typer.Option(help="With --exits: heads for the energy of stopping, to compare.")
    ] = False,
    exit_weight: Annotated[
        float, typer.Option(help="With --exits: weight of the loss of each block's read-out.")
    ] = 0.2,
    features: router_features.FeaturesOption = None,
    run: router_features.RunOption = None,
    sae: router_features.SaeOption = None,
    top: router_features.TopOption = router_features.TOP,
    shuffled_features: router_features.ShuffledOption = False,
    held_out: HeldoutOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Train an energy-guided MesaNet on texts; the same command goes on after a stop."""
    need_models()
    need_sources(begin_with, texts=texts)
    _check_device(device)
    leaving = _exit_settings(exits, exit_energy, exit_weight, n_layers)
    wanted = router_features.wanted_features(features, run, sae, top, shuffled_features, begin_with)
    from energylens.mesanet.config import Budget, EnergySource, MixerKind, RouterKind
    from energylens.training.mesanet import MesaNetTrainingConfig, train

    one_of("--mixer takes", mixer, get_args(MixerKind))
    one_of("--router takes", router, get_args(RouterKind))
    one_of("--energy takes", energy, get_args(EnergySource))
    one_of("--budget takes", budget, get_args(Budget))
    if "drop" in budget and not exits:
        raise UsageError(f"--budget {budget} is decided by the heads of --exits; add it")
    config = MesaNetTrainingConfig(
        n_ctx=n_ctx,
        n_tokens=n_tokens,
        seed=seed,
        model={
            "vocab_size": vocab_size,
            "hidden_size": d_model,
            "num_hidden_layers": n_layers,
            "num_attention_heads": n_heads,
            "n_anchors": n_anchors,
            "mixer": mixer,
            "router": router,
            "energy": energy,
            **({} if budget == "equal" else {"budget": budget}),
            **leaving,
        },
        concentration_weight=specialization_weight,
        balance_weight=efficiency_weight,
    )
    first = None
    if begin_with is None:
        ids = tokenized(out, texts, vocab_size, seed)
    else:
        loaded, ids = _begun(begin_with, out, texts, seed)
        first, settings = loaded.hf_model, {"from": loaded.weights_sha256} | leaving
        if wanted is not None:
            settings |= router_features.show_features(loaded, wanted, texts)
        config = replace(config, model=settings)
        if exits:
            first.add_exits(exit_energy, exit_weight)
    checkpoint = out / "checkpoint.safetensors"
    watch = _watch(out, held_out, n_ctx, config.n_steps)
    _keep(train(config, ids, checkpoint, watch, device, begin_with=first), out)


def _exit_settings(exits: bool, energy: bool, weight: float, n_layers: int) -> dict[str, Any]:
    """What a model is told of its exits: nothing without any, so that trainings of before go on."""
    if not exits:
        if energy or weight != 0.2:
            raise UsageError("--exit-energy and --exit-weight belong to --exits; add it")
        return {}
    if not 0 < weight <= 1:
        raise UsageError(f"--exit-weight is above 0 and at most 1, not {weight:g}")
    if n_layers < 2:
        raise UsageError("--exits needs two blocks or more: after the last there is none to leave")
    return {"exits": True, "exit_energy": energy, "exit_weight": weight}


app.command()(train_saes.sae)


@app.command()
def heldout(
    model: Annotated[str, typer.Argument(help="A directory, a hub name, or builtin:...")],
    texts: Annotated[str, typer.Option(help="Texts the model has not seen.")],
    how: FormatOption = "table",
) -> None:
    """Bits per byte and perplexity of held-out texts, by category, beside xz and zstd."""
    need_models()
    need_sources(model, texts=texts)
    import polars as pl

    from energylens.cli.output import print_frame
    from energylens.cli.training_log import TrainingLog
    from energylens.ingest.texts import iter_texts
    from energylens.lens.models import load_model
    from energylens.training.evaluation import heldout as measure

    form = checked_format(how)
    read = [(text.category or "none", text.text) for text in iter_texts(texts)]
    loaded = load_model(model)
    rows = [
        {
            "category": row.category,
            "texts": row.n_texts,
            "bytes": row.n_bytes,
            "tokens": row.n_tokens,
            "bits_per_byte": round(row.bits_per_byte, 4),
            "perplexity": round(row.perplexity, 2),
            **_compressed(read, row.category),
        }
        for row in measure(loaded.hf_model, loaded.tokenizer, loaded.n_ctx, read)
    ]
    print_frame(pl.DataFrame(rows), form)
    _tell_leaks(TrainingLog(), loaded.hf_model, loaded.tokenizer, loaded.n_ctx, read, 0)


def _compressed(texts: list[tuple[str, str]], category: str) -> dict[str, float]:
    """What compressors need for the same texts, one after the other, with nothing seen before."""
    import lzma

    import pyarrow as pa

    data = "\n".join(text for name, text in texts if category in (name, "all")).encode()
    sizes = {
        "xz": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
        "zstd": len(pa.Codec("zstd", compression_level=22).compress(data, asbytes=True)),
    }
    return {
        f"{name}_bits_per_byte": round(8 * size / max(len(data), 1), 4)
        for name, size in sizes.items()
    }


def _begun(source: str, out: Path, texts: str, seed: int) -> "tuple[LanguageModel, np.ndarray]":
    """A trained MesaNet, and the texts in its tokens."""
    from energylens.lens.models import load_model
    from energylens.mesanet.model import MesaNetForCausalLM
    from energylens.training.corpus import pack

    loaded = load_model(source)
    if not isinstance(loaded.hf_model, MesaNetForCausalLM):
        raise UsageError(f"--from needs a MesaNet; '{source}' is a {loaded.model_class}")
    if not has_tokenizer(out):
        keep_tokenizer(loaded.tokenizer, out)
    return loaded, pack(loaded.tokenizer, shuffled(texts, seed))


def _watch(out: Path, held_out: str | None, n_ctx: int, n_steps: int) -> "Watch[Any]":
    """Reports to the terminal and to metrics.parquet, with held-out texts where there are some."""
    from transformers import AutoTokenizer

    from energylens.cli.training_log import TrainingLog
    from energylens.ingest.texts import iter_texts
    from energylens.training.evaluation import heldout as measure
    from energylens.training.loop import Watch

    log = TrainingLog(out / "metrics.parquet")
    if held_out is None:
        return Watch(log.report)
    chosen: list[tuple[str, str]] = []
    seen: dict[str, int] = {}
    for text in iter_texts(held_out):
        category = text.category or "none"
        seen[category] = seen.get(category, 0) + 1
        if seen[category] <= HELDOUT_TEXTS:
            chosen.append((category, text.text))
    tokenizer = AutoTokenizer.from_pretrained(out)

    def evaluate(model: Any, n_tokens: int) -> None:
        log.heldout(measure(model, tokenizer, n_ctx, chosen), n_tokens)
        _tell_leaks(log, model, tokenizer, n_ctx, chosen, n_tokens)

    return Watch(log.report, evaluate=evaluate, evaluate_every=-(-n_steps // 10))


def _tell_leaks(
    log: "TrainingLog",
    model: Any,
    tokenizer: Any,
    n_ctx: int,
    texts: list[tuple[str, str]],
    n_tokens: int,
) -> None:
    """Hold what a MesaNet's routers may see against the ceiling; nothing for another model."""
    from energylens.mesanet.model import MesaNetForCausalLM
    from energylens.training.evaluation import padded_pieces
    from energylens.training.leaks import check_leaks

    if isinstance(model, MesaNetForCausalLM):
        pieces = padded_pieces(tokenizer, n_ctx, [text for _, text in texts])
        log.leaks(check_leaks(model, pieces), n_tokens)


def _keep(model: "PreTrainedModel", out: Path) -> None:
    """Save a trained model in half its size."""
    import transformers
    from safetensors import SafetensorError

    transformers.logging.disable_progress_bar()
    try:
        model.bfloat16().save_pretrained(out)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"cannot write the model to '{out}': {error}; the checkpoint beside it is whole: make "
            "room and repeat the command"
        ) from error
    typer.echo(f"the model is in {out}", err=True)


def _check_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {device} cannot be used here: {reason}") from None
