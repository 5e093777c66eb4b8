"""Load SAEs of every sae-lens architecture and encode with them.

The SAE's own `encode` is always called: it alone knows its normalisation, its bias convention and
its activation function.
"""

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import sparsify_disk_loader
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from torch import Tensor

from energylens.builtin import builtin_path
from energylens.choices import did_you_mean
from energylens.errors import SaeError
from energylens.hub import need_hub
from energylens.lens.checkpoints import reason_of
from energylens.lens.models import sha256_of
from energylens.lens.omp import CODER, Pursuit
from energylens.lens.sae_config import check_header, read_config, read_declared

_LAYER = re.compile(r"blocks\.(\d+)\.")
_STREAMS = (
    ("residual", re.compile(r"hook_resid_(pre|mid|post)$")),
    ("attention", re.compile(r"hook_attn_out$|\.attn\.|hook_mixer_out$|hook_attn_in$")),
    ("mlp", re.compile(r"hook_mlp_(in|out)$|\.mlp\.|\.ln2\.")),
)


@dataclass(frozen=True)
class Sae:
    """A loaded SAE with what is known about where and how it reads."""

    sae_id: str
    source: str
    release: str | None
    """Release in the sae-lens registry; None for a local SAE."""
    module: Any
    """An SAE of sae-lens, or a Pursuit, which answers as one."""
    hook_name: str
    target_hook: str
    """What its output is compared with: `hook_name`, but for a transcoder the hook it predicts."""
    centred_writes: bool
    """It was trained on weights with the writes to the residual stream centred."""
    prepend_bos: bool | None
    """Whether its training texts began with BOS; None where unknown."""
    context_size: int | None
    """Tokens in its training contexts; None where unknown."""
    neuronpedia_id: str | None
    declared_l0: float | None
    """L0 its maker states; None where not stated."""
    head: int | None = None
    """The only attention head it reads and writes (hook_head_index); None where it takes the hook
    whole."""

    @property
    def d_in(self) -> int:
        return int(self.module.cfg.d_in)

    @property
    def d_sae(self) -> int:
        return int(self.module.cfg.d_sae)

    @property
    def architecture(self) -> str:
        """As sae-lens names it."""
        return str(self.module.cfg.architecture())

    @property
    def centring(self) -> bool:
        """Whether each vector's mean is taken off first: that of what is written to the residual
        stream was none in training; that of queries, heads or neurons was left as it is."""
        return self.centred_writes and is_centred(self.hook_name)

    @property
    def target_centring(self) -> bool:
        """The same for what its output stands for."""
        return self.centred_writes and is_centred(self.target_hook)

    @property
    def layer(self) -> int:
        """The block it reads at; -1 where its hook is in no block."""
        return layer_of(self.hook_name)

    @property
    def stream(self) -> str:
        """residual, attention, mlp or other."""
        return stream_of(self.hook_name)

    @property
    def W_dec(self) -> Float[Tensor, "d_sae d_out"]:
        """Decoder directions, float32, as they are stored: not folded, not normalised."""
        return self.module.W_dec.detach().float()

    @cached_property
    def write_directions(self) -> Float[Tensor, "d_sae d_out"]:
        """What one unit of each activation adds to the output, up to `write_scale`."""
        if getattr(self.module.cfg, "rescale_acts_by_decoder_norm", False):
            return self.W_dec / self.W_dec.norm(dim=1, keepdim=True)
        return self.W_dec

    def write_scale(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, " n"] | None:
        """What the output of each token is multiplied by, for an SAE that scales every input by
        itself; None where it does not."""
        kind = self.module.cfg.normalize_activations
        if kind not in ("layer_norm", "constant_norm_rescale"):
            return None
        with torch.no_grad():
            self.module.run_time_activation_norm_fn_in(self.prepare(x))
        if kind == "layer_norm":
            return self.module.ln_std.float()[:, 0]  # pyright: ignore
        return 1.0 / self.module.x_norm_coeff.float()[:, 0]  # pyright: ignore

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 over its weights."""
        return sha256_of(self.module.state_dict().items())

    def part(self, value: Float[Tensor, "*hook"]) -> Float[Tensor, "*own"]:
        """What it reads, or writes, of its hook's value: a view of its head, or all of it.

        A hook gives heads their own axis (batch, pos, head, d_head) or lays them side by side.
        """
        if self.head is None:
            return value
        if value.ndim > 3:
            return value[..., self.head, :]
        return value[..., self.head * self.d_in : (self.head + 1) * self.d_in]

    def encode(self, x: Float[Tensor, "batch pos *d_in"]) -> Float[Tensor, "batch pos d_sae"]:
        """Feature activations of activation vectors as the model computed them."""
        return self.module.encode(self.prepare(x))

    def prepare(self, x: Float[Tensor, "*hook"]) -> Float[Tensor, "*tokens d_in"]:
        """The SAE's input: its head or all heads side by side, its number format, and centred
        where it was trained so."""
        x = _side_by_side(self.part(x)).to(self.module.dtype)
        return x - x.mean(-1, keepdim=True) if self.centring else x

    def prepare_target(self, y: Float[Tensor, "*hook"]) -> Float[Tensor, "*tokens d_out"]:
        """What its output is compared with, as it was in training."""
        y = _side_by_side(self.part(y)).to(self.module.dtype)
        return y - y.mean(-1, keepdim=True) if self.target_centring else y

    def decode(self, codes: Float[Tensor, "batch pos d_sae"]) -> Float[Tensor, "batch pos d_out"]:
        """The SAE's output from the codes that it has just given."""
        return self.module.decode(codes)

    def reconstruct(self, x: Float[Tensor, "batch pos *d_in"]) -> Float[Tensor, "batch pos d_out"]:
        """The SAE's output on activation vectors, without an error term."""
        return self.module(self.prepare(x))


def _side_by_side(x: Float[Tensor, "*hook"]) -> Float[Tensor, "*tokens d"]:
    """With all heads in one axis, where they have their own."""
    return x.flatten(2) if x.ndim > 3 else x


def layer_of(hook_name: str) -> int:
    """The block of a hook; -1 where it is in none."""
    found = _LAYER.search(hook_name)
    return int(found.group(1)) if found else -1


def stream_of(hook_name: str) -> str:
    """residual, attention, mlp or other."""
    return next((name for name, pattern in _STREAMS if pattern.search(hook_name)), "other")


def writes_to_stream(hook_name: str) -> bool:
    """Whether the hook is the residual stream, or what a whole block part adds to it."""
    return bool(re.search(r"hook_(resid_(pre|mid|post)|attn_out|mlp_out|mixer_out)$", hook_name))


def is_centred(hook_name: str) -> bool:
    """Whether centring the weights that write to the residual stream takes the mean off what the
    hook gives: the stream, and what embeddings, blocks' parts and single heads add to it."""
    return writes_to_stream(hook_name) or bool(
        re.search(r"hook_(embed|pos_embed|result)$", hook_name)
    )


def load_saes(sources: list[str]) -> list[Sae]:
    """Load SAEs; a `builtin:` name may stand for several. Two may have the same id. Codes of
    one that ends in `@omp:K` are those of a pursuit over its dictionary.

    Raises:
        SaeError: one cannot be found or read.
        HubError: the hub cannot be reached, and one is not kept here.
    """
    return [sae for source in sources for sae in _load(source)]


def _load(source: str) -> list[Sae]:
    plain, _, coder = source.rpartition("@")
    found = CODER.fullmatch(coder)
    if plain and found:
        return [_pursued(sae, int(found[1])) for sae in _load(plain)]
    if source.startswith("builtin:"):
        return [_from_disk(folder, source) for folder in _bundled(source)]
    path = Path(source)
    if path.is_file():
        return [_from_disk(path.parent, source)]
    if path.is_dir():
        if (path / "cfg.json").is_file():
            return [_from_disk(path, source)]
        inside = sorted(cfg.parent for cfg in path.glob("*/cfg.json"))
        if not inside:
            raise SaeError(f"'{source}' holds no cfg.json, neither itself nor one folder down")
        return [_from_disk(folder, str(folder)) for folder in inside]
    if source.startswith((".", "/", "~")):
        raise SaeError(f"there is no SAE at '{source}'")
    return [_from_registry(source)]


def _pursued(sae: Sae, k: int) -> Sae:
    """The same dictionary with codes by orthogonal matching pursuit."""
    return replace(
        sae,
        sae_id=f"{sae.sae_id}-omp{k}",
        source=f"{sae.source}@omp:{k}",
        module=Pursuit(sae.module, k, sae.source),
        declared_l0=None,
    )


def _bundled(source: str) -> list[Path]:
    """The folders of `builtin:NAME`, or the one of `builtin:NAME/sae_id`."""
    name, _, sae_id = source.partition("/")
    folders = sorted(cfg.parent for cfg in builtin_path("saes", name).glob("*/cfg.json"))
    found = [folder for folder in folders if sae_id in ("", folder.name)]
    if not found:
        there = ", ".join(folder.name for folder in folders)
        raise SaeError(f"there is no SAE '{sae_id}' in '{name}'; there are: {there}")
    return found


def _from_disk(folder: Path, source: str) -> Sae:
    if not (folder / "cfg.json").is_file():
        raise SaeError(f"there is no cfg.json in '{folder}', so '{source}' is no SAE")
    _check_name(folder)
    try:
        raw = read_config(folder / "cfg.json")
        for weights in folder.glob("*.safetensors"):
            check_header(weights)
        with _centring_is_ours():
            if (folder / "sae.safetensors").is_file():
                module = SAE.load_from_disk(folder, converter=sparsify_disk_loader)
            else:
                module = SAE.load_from_disk(folder)
        metadata = dict(module.cfg.metadata.items())
    except MemoryError:
        raise
    except Exception as error:  # sae-lens takes cfg.json's word, and fails in as many ways
        raise SaeError(f"the SAE in '{folder}' cannot be loaded: {reason_of(error)}") from error
    declared = raw.get("declared_l0", metadata.get("declared_l0"))
    name = Path(os.path.abspath(folder)).name  # noqa: PTH100 - "." and "x/.." have a name too
    return _record(name, source, None, module, metadata, declared)


def _check_name(folder: Path) -> None:
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise SaeError(
            f"the folder {str(folder)!r} has a name that is not UTF-8; rename it"
        ) from None


def _from_registry(source: str) -> Sae:
    release, _, name = source.partition("/")
    registry = get_pretrained_saes_directory()
    if release not in registry:
        raise SaeError(
            f"'{source}' is no file here, and sae-lens knows no release '{release}'"
            f"{did_you_mean(release, registry)}; give a directory, or release/sae_id as in "
            "gpt2-small-res-jb/blocks.8.hook_resid_pre"
        )
    entry = registry[release]
    if name not in entry.saes_map:
        some = ", ".join(list(entry.saes_map)[:5])
        near = did_you_mean(name, entry.saes_map)
        raise SaeError(f"the release '{release}' has no SAE '{name}'{near}; it has {some}, ...")
    need_hub(f"the SAE '{source}'", entry.repo_id)
    try:
        with _centring_is_ours():
            module = SAE.from_pretrained(release, name)
    except Exception as error:  # the hub client raises errors of many kinds
        raise SaeError(f"'{source}' could not be had: {reason_of(error)}") from error
    metadata = dict(module.cfg.metadata.items())
    metadata.setdefault("neuronpedia_id", entry.neuronpedia_id.get(name))
    return _record(source, source, release, module, metadata, entry.expected_l0.get(name))


def _record(
    sae_id: str,
    source: str,
    release: str | None,
    module: SAE[Any],
    metadata: Mapping[str, Any],
    declared_l0: Any,
) -> Sae:
    l0 = declared_l0 if declared_l0 is not None else getattr(module.cfg, "k", None)
    known = read_declared(source, {**metadata, "declared_l0": l0})
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise SaeError(f"the weights of the SAE '{source}' hold NaN or infinity in {name}")
    head = metadata.get("hook_head_index")
    if head is not None:
        _check_head(source, head, metadata)
    module.turn_off_forward_pass_hook_z_reshaping()  # heads are laid side by side before
    module.eval().requires_grad_(False)
    sae = Sae(
        sae_id=sae_id,
        source=source,
        release=release,
        module=module,
        hook_name=known.hook_name,
        target_hook=known.hook_name_out or known.hook_name,
        centred_writes=known.centred_writes,
        prepend_bos=known.prepend_bos,
        context_size=known.context_size,
        neuronpedia_id=known.neuronpedia_id or None,
        declared_l0=known.declared_l0,
        head=head,
    )
    _try(sae)
    return sae


def _try(sae: Sae) -> None:
    """Make sure that an SAE runs: its configuration may hold numbers that its weights do not bear,
    such as a k above its width."""
    try:
        with torch.no_grad():
            sae.module(torch.zeros(1, 1, sae.d_in, dtype=sae.module.dtype))
    except MemoryError:
        raise
    except Exception as error:
        raise SaeError(f"the SAE '{sae.source}' does not run: {reason_of(error)}") from error


def _check_head(source: str, head: object, metadata: Mapping[str, Any]) -> None:
    if not isinstance(head, int) or isinstance(head, bool) or head < 0:
        raise SaeError(f"the SAE '{source}' names no attention head: its hook_head_index is {head}")
    out = metadata.get("hook_name_out")
    if out and out != metadata.get("hook_name"):
        raise SaeError(
            f"the transcoder '{source}' reads one attention head (hook_head_index {head}) and "
            f"predicts '{out}': which head of that is not known, so it cannot be used"
        )


def check_fit(sae: Sae, activation: Tensor) -> None:
    """Make sure the SAE's width is that of its hook; `activation` is one the hook gave.

    Raises:
        SaeError: the widths differ; the message gives both.
    """
    width = activation.shape[2:].numel()
    if sae.head is not None:
        heads, rest = divmod(width, sae.d_in)
        fits = not rest and (activation.ndim < 4 or activation.shape[-1] == sae.d_in)
        if ".attn." not in sae.hook_name:
            raise SaeError(
                f"the SAE '{sae.sae_id}' reads head {sae.head} (hook_head_index), but "
                f"'{sae.hook_name}' has no attention heads: its metadata do not fit its hook"
            )
        if not fits or sae.head >= heads:
            shape = " x ".join(map(str, activation.shape[2:]))
            raise SaeError(
                f"the SAE '{sae.sae_id}' reads head {sae.head} of heads of width {sae.d_in} "
                f"(hook_head_index), but the model's '{sae.hook_name}' is {shape}: it was made "
                "for another model or hook"
            )
    elif width != sae.d_in:
        raise SaeError(
            f"the SAE '{sae.sae_id}' reads vectors of width {sae.d_in}, but the model's "
            f"'{sae.hook_name}' has width {width}: it was made for another model or hook"
        )


@contextmanager
def _centring_is_ours() -> Iterator[None]:
    """Silence sae-lens' advice to load the model with other weights: `prepare` sees to that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*This SAE has non-empty model_from_pretrained_kwargs")
        yield
