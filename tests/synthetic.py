"""Stores written from arrays, so that what they should show is known."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from sae_lens import StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata
from scipy import signal

from energylens.db.layout import StoreLayout
from energylens.db.provenance import RunInfo, SaeInfo, write_run
from energylens.db.shards import write_shard
from energylens.db.table import GRADIENTS_OF_CODES
from energylens.db.version import create_store
from energylens.ingest.index.build import build_indexes
from energylens.ingest.progress import Progress
from energylens.lens.models import load_model, tokenizer_sha256
from energylens.lens.saes import load_saes

J, T, D, F = 80, 64, 24, 400
RUN, SAE = "synthetic", "planted"
CATEGORIES = ("a", "b", "c", "d")


@dataclass
class World:
    """Arrays over J windows of T tokens, window by window; one text a window."""

    z: np.ndarray
    """[J * T, F]."""
    a: np.ndarray
    """[J * T, D]: dE/dh."""
    directions: np.ndarray
    category: np.ndarray = field(default_factory=lambda: np.arange(J) % 4)
    """Of each window; -1 for none."""
    vocab_id: np.ndarray = field(default_factory=lambda: np.arange(J * T) * 7919 % 50)
    choices: np.ndarray | None = None
    """[J * T, L]: first choices of as many routers."""
    n_choices: int = 4

    @property
    def g(self) -> np.ndarray:
        return -self.a @ self.directions.T


WINDOW, POSITION = np.repeat(np.arange(J), T), np.tile(np.arange(T), J)
VALID = POSITION > 0
"""The first token of a window is masked."""


def autoregressive(generator: np.random.Generator, phi: float, width: int) -> np.ndarray:
    """[J, T, width] series of unit noise."""
    noise = generator.standard_normal((J, T + 40, width))
    return np.asarray(signal.lfilter([1], [1, -phi], noise, axis=1))[:, 40:]


def unrelated(kind: str, seed: int = 0) -> World:
    """Activations and gradients that have nothing to do with each other, nor with categories:
    the rows of the table of false positives."""
    generator = np.random.default_rng(seed)
    level = np.zeros((J, T, F))
    if kind != "iid":
        level = 3.0 * autoregressive(generator, 0.9, F) / np.sqrt(1 / (1 - 0.81))
    if "topic" in kind:
        level += 2.0 * generator.standard_normal((J, 1, F))
    if "profile" in kind:
        level += 2.0 * np.sin(np.arange(T) / 10)[None, :, None]
    drive = level + generator.standard_normal((J, T, F))
    z = np.maximum(drive - np.quantile(drive, 0.9), 0)
    a = generator.standard_normal((J, T, D))
    if "ar" in kind:
        a = autoregressive(generator, 0.8, D)
    if "ar+topic" in kind:
        a += generator.standard_normal((J, 1, D))
    if "profile" in kind:
        a += np.sin(np.arange(T) / 10)[None, :, None]
    directions = np.abs(generator.standard_normal((F, D))) + 0.5
    return World(
        z.reshape(J * T, F).astype(np.float32).astype(np.float64),
        a.reshape(J * T, D),
        directions.astype(np.float32).astype(np.float64),
        category=generator.permutation(J) % 4,
    )


NULLS = ["iid", "bursty", "bursty+topic", "bursty,ar", "bursty+topic,ar+topic", "profile"]


def plant_efas(world: World, strength: float, n: int = 20) -> World:
    """The first n features push the gradient along their direction when they are active."""
    unit = world.directions / np.linalg.norm(world.directions, axis=1, keepdims=True)
    for f in range(n):
        world.a -= strength * world.z[:, f, None] * unit[f]
    return world


def write_world(path: Path, world: World, model: Path) -> Path:
    """A store of one run and one SAE, with its index; `model` is a model of width D."""
    known = SAEMetadata(hook_name="blocks.1.hook_resid_post")
    sae = StandardSAE(StandardSAEConfig(d_in=D, d_sae=F, metadata=known))
    with torch.no_grad():
        sae.W_dec.copy_(torch.from_numpy(world.directions))
    sae.save_model(path.parent / f"{path.stem}-sae" / SAE)
    create_store(path)
    layout = StoreLayout(path).run(RUN)
    layout.root.mkdir(parents=True)
    (loaded,) = load_saes([str(path.parent / f"{path.stem}-sae" / SAE)])
    info = SaeInfo(
        sae_id=SAE, source=loaded.source, release=None, hook_name=loaded.hook_name, layer=1,
        stream="residual", architecture="standard", d_in=D, d_sae=F,
        weights_sha256=loaded.weights_sha256, normalize_activations="none", centring=False,
        folded=False, neuronpedia_id=None, declared_l0=None, l0=float((world.z != 0).sum(1).mean()),
    )  # fmt: skip
    known_model = load_model(str(model))
    run = RunInfo(
        run_id=RUN,
        kind="corpus",
        created="",
        model=str(model),
        model_class="",
        model_revision=None,
        model_sha256=known_model.weights_sha256,
        tokenizer_sha256=tokenizer_sha256(known_model.tokenizer),
        texts="",
        texts_sha256="",
        n_texts=J,
        n_contexts=J,
        n_tokens=J * T,
        n_ctx=T,
        prepend_bos=False,
        n_layers=3,
        d_model=D,
        d_vocab=300,
        dtype="float32",
        loader="",
        hooks=[loaded.hook_name],
        efas=["lens"],
        n_shards=1,
        saes=[info],
    )
    write_run(layout.run_json, run)
    tables = _tables(world)
    with write_shard(layout, 0, tuple(tables)) as writer:
        for name, rows in tables.items():
            writer.write(name, rows)
    build_indexes(path, Progress(), n_flips=999)
    return path


def _tables(world: World) -> dict[str, pa.Table]:
    n = J * T
    generator = np.random.default_rng(9)
    energy = generator.gamma(2.0, 1.0, n).astype(np.float32)
    names = [CATEGORIES[c] if c >= 0 else None for c in world.category]
    token, feature = np.nonzero(world.z)
    g = world.g
    nulls = {c.name: pa.nulls(len(token), c.type) for c in GRADIENTS_OF_CODES}
    tables = {
        "texts": _rows(
            J, text_id=np.arange(J), category=pa.array(names, pa.string()),
            source=pa.nulls(J, pa.string()), text=["x"] * J, sha256=[""] * J,
            n_tokens=np.full(J, T),
        ),
        "contexts": _rows(
            J, context_id=np.arange(J), text_id=np.arange(J), part=np.zeros(J, np.int32),
            n_tokens=np.full(J, T),
        ),
        "tokens": _rows(
            n, token_index=np.arange(n), context_id=WINDOW, pos=POSITION, vocab_id=world.vocab_id,
            token=["x"] * n, token_bytes=[b"x"] * n, char_start=np.zeros(n, np.int32),
            char_end=np.ones(n, np.int32), is_special=np.zeros(n, bool),
            norm_ratio=np.ones(n, np.float32), energy=energy, entropy=energy,
            confidence=np.full(n, 0.5), rank=np.zeros(n, np.int32),
            log_frequency=np.log(1.0 + world.vocab_id),
        ),
        "codes": _rows(
            len(token), sae_id=[SAE] * len(token), token_index=token, feature_id=feature,
            activation=world.z[token, feature], **{**nulls, "g_lens": g[token, feature]},
        ),
        **_gradients(world, g, energy.astype(np.float64)),
    }  # fmt: skip
    if world.choices is not None:
        tables |= _routing(world, world.choices, energy)
    return tables


def _gradients(world: World, g: np.ndarray, energy: np.ndarray) -> dict[str, pa.Table]:
    a = np.where(VALID[:, None], world.a, 0.0).reshape(J, T, D)
    places = [(h, t) for h in (0, 1) for t in range(1, T)]
    half = np.arange(J) % 2
    covariates = {
        "sum_pos_g": POSITION.astype(float),
        "sum_frequency_g": np.log(1.0 + world.vocab_id).astype(np.float32).astype(float),
        "sum_energy_g": energy,
    }
    sums = []
    for number in np.unique(world.category):
        own = VALID & (world.category[WINDOW] == number)
        sums.append(
            _rows(
                F, sae_id=[SAE] * F, variant=["lens"] * F, shard=np.zeros(F, np.int32),
                category=pa.array([CATEGORIES[number] if number >= 0 else None] * F, pa.string()),
                feature_id=np.arange(F), n_tokens=np.full(F, own.sum()), sum_g=g[own].sum(0),
                sum_gg=np.square(g[own]).sum(0),
                **{name: x[own] @ g[own] for name, x in covariates.items()},
            )
        )  # fmt: skip
    m = len(places)
    return {
        "gradient_contexts": _rows(
            J, sae_id=[SAE] * J, variant=["lens"] * J, context_id=np.arange(J),
            n_tokens=np.full(J, T - 1), sum_gradient=list(a.sum(axis=1)),
        ),
        "gradient_positions": _rows(
            m, sae_id=[SAE] * m, variant=["lens"] * m, shard=np.zeros(m, np.int32),
            half=[h for h, _ in places], pos=[t for _, t in places],
            n_tokens=[int((half == h).sum()) for h, _ in places],
            sum_gradient=[a[half == h, t].sum(axis=0) for h, t in places],
        ),
        "gradient_sums": pa.concat_tables(sums),
    }  # fmt: skip


def _routing(world: World, choices: np.ndarray, energy: np.ndarray) -> dict[str, pa.Table]:
    n, n_layers = choices.shape
    routes, tokens = [], []
    for layer in range(n_layers):
        name = [f"blocks.{layer}.router"] * n
        logits = 3.0 * np.eye(world.n_choices, dtype=np.float32)[choices[:, layer]]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        common = {"router": name, "layer": np.full(n, layer), "token_index": np.arange(n)}
        routes.append(
            _rows(n, **common, rank=np.zeros(n, np.int16), choice_id=choices[:, layer],
                  weight=p.max(axis=1))
        )  # fmt: skip
        tokens.append(
            _rows(n, **common, logits=list(logits), entropy=-(p * np.log(p)).sum(axis=1),
                  margin=p.max(axis=1) - np.sort(p, axis=1)[:, -2],
                  seen_energy=pa.nulls(n, pa.float32()), energy_in=energy + 1.0, energy_out=energy,
                  write_norm=pa.nulls(n, pa.float32()), solver_steps=pa.nulls(n, pa.int16()))
        )  # fmt: skip
    return {"routing": pa.concat_tables(routes), "routing_tokens": pa.concat_tables(tokens)}


def _rows(n: int, **columns: object) -> pa.Table:
    return pa.table({"run_id": [RUN] * n, **columns})
