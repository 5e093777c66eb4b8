"""What an SAE's files say of it, read typed: a configuration may come from anybody."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from energylens.errors import SaeError

_MOST_BYTES = 1 << 20
"""Of a configuration, and of the header of an SAE's weights: both have a few thousand."""
_LENGTH = 8
"""Bytes of a safetensors file that say how long its header is."""


@dataclass(frozen=True)
class Declared:
    """What a configuration says beside the shapes; fields as sae-lens calls them."""

    hook_name: str
    hook_name_out: str | None = None
    prepend_bos: bool | None = None
    context_size: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)] | None = None
    neuronpedia_id: str | None = None
    declared_l0: Annotated[float, msgspec.Meta(ge=0)] | None = None
    model_from_pretrained_kwargs: dict[str, Any] | None = field(default_factory=dict)

    @property
    def centred_writes(self) -> bool:
        """Whether it was trained on weights with the writes centred."""
        return bool((self.model_from_pretrained_kwargs or {}).get("center_writing_weights", False))


def read_declared(source: str, metadata: Mapping[str, Any]) -> Declared:
    """The fields that are used, each of its type.

    Raises:
        SaeError: no hook is named, or a field is not what it should be; the message names it.
    """
    if not metadata.get("hook_name"):
        raise SaeError(f"the SAE '{source}' does not say which hook it reads (hook_name)")
    try:
        found = msgspec.convert(dict(metadata), Declared, strict=False)
    except msgspec.ValidationError as error:
        raise SaeError(f"the configuration of the SAE '{source}' is not right: {error}") from error
    if found.declared_l0 is not None and not math.isfinite(found.declared_l0):
        raise SaeError(f"the SAE '{source}' declares an L0 of {found.declared_l0}")
    return found


def read_config(path: Path) -> dict[str, Any]:
    """A cfg.json as it stands.

    Raises:
        ValueError: it is too large, not JSON, no object, or holds text that UTF-8 cannot.
        RecursionError: it is nested too deeply.
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"cfg.json has {path.stat().st_size:,} bytes")
    raw = json.loads(path.read_bytes())
    if not isinstance(raw, dict):
        raise ValueError("cfg.json holds no JSON object")
    if not isinstance(raw.get("metadata", {}), dict):
        raise ValueError("the 'metadata' of its cfg.json is no JSON object")
    json.dumps(raw, ensure_ascii=False).encode()
    return raw


def check_header(path: Path) -> None:
    """Make sure that a safetensors file's header is not one made to fill the memory.

    Raises:
        ValueError: it is.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
    if length > _MOST_BYTES:
        raise ValueError(f"'{path.name}' declares a header of {length:,} bytes: it is damaged")
