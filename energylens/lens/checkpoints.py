"""Find and read a Hugging Face causal language model: a directory, a hub name or a GGUF file.

Only safetensors and GGUF weights are read and no code of the model's repository is run. What is
refused is refused for a reason that names the class.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download
from tqdm.auto import tqdm
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    modeling_gguf_pytorch_utils,
)

from energylens.builtin import builtin_path
from energylens.errors import MissingExtraError, ModelError
from energylens.hub import hub_file, need_hub
from energylens.lens.model_files import check_built, check_files, check_size

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
# its bar for GGUF files knows no such switch
_gguf_bar = partial(tqdm, disable=True)
modeling_gguf_pytorch_utils.tqdm = _gguf_bar  # pyright: ignore[reportPrivateImportUsage]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_REASON_LENGTH = 400


@dataclass(frozen=True)
class Checkpoint:
    """Where a model lies."""

    source: str
    """As it was asked for."""
    where: str
    """A directory, or a name on the hub."""
    gguf: str | None = None
    """The GGUF file's name in the directory; None for safetensors."""

    @property
    def folder(self) -> Path | None:
        """Where safetensors and what belongs to them lie, if they are here already."""
        path = Path(self.where)
        return path if self.gguf is None and path.is_dir() else None

    @property
    def files(self) -> dict[str, Any]:
        """What transformers is told beside `where`."""
        return {"trust_remote_code": False} | (
            {} if self.gguf is None else {"gguf_file": self.gguf}
        )


@dataclass(frozen=True)
class Loaded:
    """A model as transformers gives it."""

    model: Any
    tokenizer: Any
    quantisation: str | None
    """Formats of the tensors on disk, before they were made numbers again; None where they were
    never quantised."""


def load_checkpoint(source: str, dtype: str) -> Loaded:
    """Read a model and its tokenizer.

    Raises:
        ModelError: it cannot be found or read, is no causal language model, lacks weights, or its
            weights hold NaN.
        MissingExtraError: a GGUF file is asked for and the extra `gguf` is not installed.
        HubError: the hub cannot be reached, and the model is not kept here.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown number format '{dtype}'; there are: {', '.join(DTYPES)}")
    place = _find(source)
    quantisation = None if place.gguf is None else _gguf_formats(place)
    if place.folder is not None:
        check_files(place.folder, source)
    try:
        _check_kind(place)
        found: Any = AutoModelForCausalLM.from_pretrained(
            place.where,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **place.files,
        )
        model, info = found
        tokenizer = AutoTokenizer.from_pretrained(place.where, **place.files)
    except ModelError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, RuntimeError and others
        raise ModelError(_load_message(place, error)) from error
    _check_weights(model, info, source)
    _take_text_whole(tokenizer)
    return Loaded(model.eval(), tokenizer, quantisation)


def reason_of(error: Exception) -> str:
    """An error's message in one line, its reason kept though it stand in a later line."""
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= _REASON_LENGTH:
        return text
    return text[:_REASON_LENGTH].rsplit(" ", 1)[0] + " ..."


def context_length(config: Any) -> int | None:
    """Most tokens a model takes at once, by whichever name its configuration has for it; None
    where it says nothing of it (recurrent models, ALiBi)."""
    text = config.get_text_config()
    for name in (
        "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length",
        "max_seq_length", "max_context_length", "context_length", "seq_length", "seq_len",
        "n_ctx", "max_target_positions", "model_max_length",
    ):  # fmt: skip
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _find(source: str) -> Checkpoint:
    if source.startswith("builtin:"):
        return Checkpoint(source, str(builtin_path("models", source)))
    path = Path(source)
    if path.suffix.lower() == ".gguf":
        if find_spec("gguf") is None:
            raise MissingExtraError("gguf", "gguf")
        path = _gguf_file(source)
        return Checkpoint(source, str(path.parent), path.name)
    if path.is_dir():
        if (path / "config.json").is_file():
            return Checkpoint(source, str(path))
        inside = sorted(file.name for file in path.glob("*.gguf"))
        hint = f"; it holds {inside[0]}: give that file" if inside else ""
        raise ModelError(f"'{source}' holds no config.json, so it is no Hugging Face model{hint}")
    if path.exists() or source.startswith((".", "/", "~")):
        raise ModelError(f"'{source}' is no directory with a Hugging Face model, and no GGUF file")
    need_hub(f"the model '{source}'", source)
    return Checkpoint(source, source)


def _gguf_file(source: str) -> Path:
    """Where a GGUF file lies, fetched from the hub if it is named there."""
    named = hub_file(source)
    if named is not None:
        need_hub(f"the model '{source}'", named[0])
        try:
            return Path(hf_hub_download(*named))
        except Exception as error:  # of the hub's client and what it is built on
            raise ModelError(_load_message(Checkpoint(source, source), error)) from error
    if not Path(source).is_file():
        raise ModelError(f"there is no file '{source}'")
    return Path(source)


def _gguf_formats(place: Checkpoint) -> str:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(Path(place.where) / str(place.gguf))
        kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    except Exception as error:  # the reader raises ValueError, IndexError, and what numpy raises
        raise ModelError(
            f"'{place.source}' cannot be read as GGUF ({reason_of(error)}): it is cut short or "
            "damaged; fetch it again"
        ) from error
    return "GGUF " + ", ".join(f"{kind} ({n} tensors)" for kind, n in kinds.most_common())


def _check_kind(place: Checkpoint) -> None:
    """Make sure that transformers has a causal language model for the configuration."""
    known = f"transformers {version('transformers')}"
    if place.gguf is None:
        raw, _ = PretrainedConfig.get_config_dict(place.where, **place.files)
        check_built(raw, place.source)
        kind = raw.get("model_type")
        if kind not in CONFIG_MAPPING:
            own = ", and the code it brings is not run" if raw.get("auto_map") else ""
            named = f"of the type '{kind}'" if kind else "of no type its config.json names"
            raise ModelError(f"'{place.source}' is {named}, which {known} does not know{own}")
    config = AutoConfig.from_pretrained(place.where, **place.files)
    name = type(config).__name__.removesuffix("Config")
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"'{place.source}' is a {name}, an encoder-decoder: it writes a second text and gives "
            "the tokens of the first no energy; a causal language model is needed"
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"'{place.source}' is a {name}, of which {known} makes no causal language model: it "
            "predicts no next token"
        )
    if place.folder is not None:
        check_size(_n_numbers(config), place.folder, place.source)


def _n_numbers(config: PretrainedConfig) -> int:
    """How many numbers a model of a configuration holds; none of them is made."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))


def _load_message(place: Checkpoint, error: Exception) -> str:
    if place.gguf is not None:
        return (
            f"the GGUF file '{place.source}' cannot be loaded by transformers: {reason_of(error)}; "
            "its architecture or quantisation may not be supported; give the safetensors model"
        )
    if Path(place.where).is_dir():
        return f"the model in '{place.source}' cannot be loaded: {reason_of(error)}"
    return (
        f"the model '{place.source}' is no directory here and could not be had from the hub "
        f"({reason_of(error)}); check the name and the network, or give a directory"
    )


def _check_weights(model: Any, info: Any, source: str) -> None:
    parameters = dict(model.named_parameters())
    for mismatch in info["mismatched_keys"]:
        name, there, here = (
            (*mismatch, "?", "?")[:3] if isinstance(mismatch, tuple) else (mismatch, "?", "?")
        )
        raise ModelError(
            f"the weights of '{source}' do not fit its config.json: {name} has the shape "
            f"{_shape(there)} in the file and {_shape(here)} in the configuration"
        )
    missing = sorted(set(info["missing_keys"]) & set(parameters))
    if missing:
        raise ModelError(
            f"'{source}' holds no weights for {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            + f": they would be random; it may be no {type(model).__name__}"
        )
    for name, parameter in parameters.items():
        if not torch.isfinite(parameter).all():
            raise ModelError(
                f"the weights of '{source}' hold NaN or infinity in {name}; "
                "the file is damaged or was made so; fetch or train it again"
            )


def _shape(size: Any) -> str:
    return "?" if size == "?" else " x ".join(map(str, size))


def _take_text_whole(tokenizer: Any) -> None:
    """Switch off what a tokenizer.json may hold for training: cutting, padding, random merges."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None
