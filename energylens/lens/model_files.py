"""What a model's files declare, looked at before anything is built of it: they may come from
anybody, and a small file can ask for more memory or time than there is."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from energylens.errors import ModelError

_MOST_BYTES = 1 << 28
"""Of a configuration, a tokenizer, or a template; the largest tokenizers have 3 % of it."""
_MOST_HEADER = 1 << 25
"""Of a safetensors file; a shard of the largest mixtures of experts has less than 1 % of it."""
_LENGTH = 8
"""Bytes of a safetensors file that say how long its header is."""
_BUILT = re.compile(r"layer|expert|types|depth|n_blocks", re.IGNORECASE)
"""What a model is built of one after another, by the names configurations have for it."""
_SIZE = re.compile(r"size|dim|width|vocab|theta|position|length|token|capacity", re.IGNORECASE)
"""What is a width or a place of it, which may be large: `vocab_size_per_layer_input`."""
_MOST_BUILT = 10_000
_BITS = 8
"""Weights a byte of a file may hold: no format stores less than a bit of each."""
_ROOM = 1 << 28
"""Numbers of a model that stand in no file, such as masks; 1 GiB of them."""
_INDEX = "model.safetensors.index.json"


def check_files(folder: Path, source: str) -> None:
    """Make sure that reading a model's files ends, fits into memory and stays in its folder.

    Raises:
        ModelError: one is a pipe or a device, is far too large, or names a file elsewhere.
    """
    try:
        for path in _files(folder):
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise ModelError(f"'{path}' is no plain file; take it away, or fetch it again")
            if path.suffix == ".safetensors":
                _check_header(path, found.st_size)
            elif path.suffix in (".json", ".jinja", ".txt") and found.st_size > _MOST_BYTES:
                raise ModelError(
                    f"'{path}' has {found.st_size:,} bytes, more than any model's; it is damaged"
                )
        for name in _listed(folder / _INDEX):
            if Path(name).name != name or name == "..":
                raise ModelError(
                    f"'{folder / _INDEX}' names the file {name!r:.80}, which is none of its folder"
                )
    except OSError as error:
        where = error.filename or folder
        raise ModelError(
            f"the model '{source}' cannot be read: '{where}': {error.strerror}"
        ) from error


def check_built(raw: Any, source: str, name: str = "") -> None:
    """Make sure that a configuration asks for no endless number of layers or experts.

    Raises:
        ModelError: it does.
    """
    if isinstance(raw, dict):
        for key, value in raw.items():
            check_built(value, source, key if not _BUILT.search(name) else f"{name}.{key}")
    elif isinstance(raw, list):
        for value in raw:
            check_built(value, source, name)
    elif isinstance(raw, int | float) and _counts(name) and raw > _MOST_BUILT:
        raise ModelError(
            f"the config.json of '{source}' says {name}: {raw!s:.30}, which no model has; it is "
            "damaged"
        )


def _counts(name: str) -> bool:
    last = name.rsplit(".", 1)[-1]  # what stands above it may be named for a size
    return _BUILT.search(name) is not None and _SIZE.search(last) is None


def check_size(n_numbers: int, folder: Path, source: str) -> None:
    """Make sure that a model of so many numbers can lie in the files of its weights.

    Raises:
        ModelError: it cannot.
    """
    n_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if n_bytes and n_numbers > _BITS * n_bytes + _ROOM:
        raise ModelError(
            f"the config.json of '{source}' is that of a model with {n_numbers:,} numbers, but its "
            f"weights have {n_bytes:,} bytes; one of the two is another model's"
        )


def _files(folder: Path) -> Iterator[Path]:
    """Whatever a loader might open; links may lead to plain files, as in the hub's cache."""
    for place in (folder, folder / "additional_chat_templates"):
        if place.is_dir():
            yield from (path for path in sorted(place.iterdir()) if not path.is_dir())


def _listed(index: Path) -> set[str]:
    """The files that a list of shards names; none where it is no such list, which its reader
    says."""
    if not index.exists():
        return set()
    try:
        names = json.loads(index.read_bytes())["weight_map"].values()
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        return set()
    return {name for name in names if isinstance(name, str)}


def _check_header(path: Path, n_bytes: int) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
    if length > min(_MOST_HEADER, n_bytes):
        raise ModelError(
            f"'{path}' has {n_bytes:,} bytes and declares a header of {length:,}: it is cut short "
            "or damaged; fetch it again"
        )
