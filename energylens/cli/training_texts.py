"""Texts as the tokens that `energylens train` reads, and the tokenizer that is kept beside."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from energylens.errors import TrainingError, UsageError

if TYPE_CHECKING:
    import numpy as np

_TOKENIZER = ".tokenizer.partial"
"""Holds a tokenizer's files while they are written."""


def shuffled(texts: str, seed: int) -> list[str]:
    """All texts in an order of the seed."""
    import random

    from energylens.ingest.texts import iter_texts

    read = [text.text for text in iter_texts(texts)]
    random.Random(seed).shuffle(read)
    return read


def tokenized(out: Path, texts: str, vocab_size: int, seed: int) -> "np.ndarray":
    """All texts as one row of ids, by the tokenizer in `out`, or one trained on them and kept."""
    from transformers import PreTrainedTokenizerFast

    from energylens.training.corpus import pack, train_tokenizer

    read = shuffled(texts, seed)
    if has_tokenizer(out):
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(out)
        except Exception as error:  # of tokenizers itself
            raise TrainingError(
                f"the tokenizer in '{out}' cannot be read: {error}; give another directory"
            ) from error
        if len(tokenizer) > vocab_size:
            raise UsageError(
                f"the tokenizer in '{out}' has {len(tokenizer):,} entries, and --vocab-size is "
                f"{vocab_size:,}; give that number, or another directory"
            )
    else:
        tokenizer = train_tokenizer(read, vocab_size)
        keep_tokenizer(tokenizer, out)
    ids = pack(tokenizer, read)
    typer.echo(f"{len(read):,} texts, {len(ids):,} tokens", err=True)
    return ids


def keep_tokenizer(tokenizer: Any, out: Path) -> None:
    """Write a tokenizer's files; tokenizer.json, which says that they are whole, comes last."""
    partial = out / _TOKENIZER
    try:
        out.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(partial)
        for path in sorted(partial.iterdir(), key=lambda p: p.name == "tokenizer.json"):
            path.replace(out / path.name)
    except Exception as error:  # tokenizers raises Exception itself
        raise TrainingError(
            f"cannot write the tokenizer to '{out}': {error}; make room, or give another "
            "directory, and repeat the command"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def has_tokenizer(out: Path) -> bool:
    """Whether a directory has one; what a killed command left of one is cleared away."""
    shutil.rmtree(out / _TOKENIZER, ignore_errors=True)
    return (out / "tokenizer.json").exists()
