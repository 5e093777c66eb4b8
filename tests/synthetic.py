"""Stores written from arrays, so that what they should show is known."""

import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
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
PIECES = ("x", " x", "12", "!", "\n")
"""Of tokens, by vocabulary id: each of another class."""
_QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
_BUNDLED = (12, 26, 62, 130, 260)
"""Tokens of the bundled texts at those quantiles."""


@dataclass(frozen=True)
class Layout:
    """How texts come: how many and how long, into which contexts cut, in which categories."""

    name: str = "even"
    n_texts: int = J
    lengths: str = "even"
    """even: T tokens each; bundled: as those of the bundled texts; lognormal: a long tail."""
    n_ctx: int = T
    shares: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    """Of the texts in each category."""
    is_sorted: bool = False
    """Categories hold texts of like length: the shortest are all of the first."""

    def draw(self, seed: int) -> "Places":
        """Texts of this kind."""
        generator = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        if self.lengths == "even":
            length = np.full(self.n_texts, T)
        elif self.lengths == "bundled":
            length = np.interp(generator.random(self.n_texts), _QUANTILES, _BUNDLED).astype(int)
        else:
            length = (
                np.exp(generator.normal(np.log(45), 0.9, self.n_texts)).clip(4, 900).astype(int)
            )
        bounds = np.cumsum(self.shares) * self.n_texts
        order = np.argsort(length, kind="stable") if self.is_sorted else np.arange(self.n_texts)
        category = np.empty(self.n_texts, dtype=np.int64)
        category[order] = np.searchsorted(bounds - 1e-9, np.arange(self.n_texts), side="right")
        if not self.is_sorted:
            category = generator.permutation(category)
        return Places(length, self.n_ctx, category)


@dataclass(frozen=True)
class Places:
    """Where N tokens stand, text by text."""

    length: np.ndarray
    """Tokens of each text."""
    n_ctx: int
    category: np.ndarray
    """Of each text; -1 for none."""

    @property
    def n_texts(self) -> int:
        return len(self.length)

    @property
    def n_windows(self) -> int:
        return len(self.text_of_window)

    @property
    def n_tokens(self) -> int:
        return int(self.length.sum())

    @cached_property
    def text(self) -> np.ndarray:
        return np.repeat(np.arange(self.n_texts), self.length)

    @cached_property
    def place(self) -> np.ndarray:
        """Of each token in its text."""
        return np.arange(self.n_tokens) - np.repeat(
            np.cumsum(self.length) - self.length, self.length
        )

    @property
    def position(self) -> np.ndarray:
        return self.place % self.n_ctx

    @cached_property
    def text_of_window(self) -> np.ndarray:
        return np.repeat(np.arange(self.n_texts), -(-self.length // self.n_ctx))

    @cached_property
    def window(self) -> np.ndarray:
        return np.cumsum(self.position == 0) - 1

    @property
    def valid(self) -> np.ndarray:
        """The first token of a window is masked."""
        return self.position > 0


EVEN = Places(np.full(J, T), T, np.arange(J) % 4)
WINDOW, POSITION, VALID = EVEN.window, EVEN.position, EVEN.valid


@dataclass
class World:
    """Arrays over N tokens, text by text."""

    z: np.ndarray
    """[N, features]."""
    a: np.ndarray
    """[N, D]: dE/dh."""
    directions: np.ndarray
    places: Places = EVEN
    vocab_id: np.ndarray = field(default_factory=lambda: np.arange(J * T) * 7919 % 50)
    energy: np.ndarray | None = None
    choices: np.ndarray | None = None
    """[N, L]: first choices of as many routers."""
    sure: np.ndarray | float = 3.0
    """[N, L]: by how much a choice's logit exceeds the others'."""
    seen: np.ndarray | None = None
    """[N]: the energy that routers are shown, nats."""
    entropy: np.ndarray | None = None
    """[N]: of predictions, nats; without it the energy stands for it."""
    n_choices: int = 4
    pieces: tuple[str, ...] = PIECES
    """Of tokens, by vocabulary id, over and over."""

    @property
    def g(self) -> np.ndarray:
        return -self.a @ self.directions.T

    @property
    def category(self) -> np.ndarray:
        return self.places.category

    @property
    def energies(self) -> np.ndarray:
        """Of the next token."""
        if self.energy is not None:
            return self.energy.astype(np.float32)
        drawn = np.random.default_rng(9).gamma(2.0, 1.0, self.places.n_tokens)
        return drawn.astype(np.float32)


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
        replace(EVEN, category=generator.permutation(J) % 4),
    )


NULLS = ["iid", "bursty", "bursty+topic", "bursty,ar", "bursty+topic,ar+topic", "profile"]


def plant_efas(world: World, strength: float, n: int = 20) -> World:
    """The first n features push the gradient along their direction when they are active."""
    unit = world.directions / np.linalg.norm(world.directions, axis=1, keepdims=True)
    for f in range(n):
        world.a -= strength * world.z[:, f, None] * unit[f]
    return world


def write_world(path: Path, world: World, model: Path, run_id: str = RUN) -> Path:
    """A store of one run and one SAE, with its index; `model` is a model of width D."""
    known = SAEMetadata(hook_name="blocks.1.hook_resid_post")
    sae = StandardSAE(StandardSAEConfig(d_in=D, d_sae=len(world.directions), metadata=known))
    with torch.no_grad():
        sae.W_dec.copy_(torch.from_numpy(world.directions))
    sae.save_model(path.parent / f"{path.stem}-sae" / SAE)
    (loaded,) = load_saes([str(path.parent / f"{path.stem}-sae" / SAE)])
    known_model = load_model(str(model))
    run = run_of(
        world,
        run_id,
        model=str(model),
        model_sha256=known_model.weights_sha256,
        tokenizer_sha256=tokenizer_sha256(known_model.tokenizer),
    )
    (info,) = run.saes
    info = replace(info, source=loaded.source, weights_sha256=loaded.weights_sha256)
    create_store(path)
    write_shards(path, world, replace(run, saes=[info]))
    build_indexes(path, Progress(), n_flips=999)
    return path


def run_of(world: World, run_id: str = RUN, **changes: str) -> RunInfo:
    """The record of a run over a world, as if a model had been measured."""
    places, d_sae = world.places, len(world.directions)
    info = SaeInfo(
        sae_id=SAE, source="", release=None, hook_name="blocks.1.hook_resid_post", layer=1,
        stream="residual", architecture="standard", d_in=D, d_sae=d_sae, weights_sha256="",
        normalize_activations="none", centring=False, folded=False, neuronpedia_id=None,
        declared_l0=None, l0=float((world.z != 0).sum(1).mean()),
    )  # fmt: skip
    run = RunInfo(
        run_id=run_id, kind="corpus", created="", model="", model_class="", model_revision=None,
        model_sha256="", tokenizer_sha256="", texts="", texts_sha256="", n_texts=places.n_texts,
        n_contexts=places.n_windows, n_tokens=places.n_tokens, n_ctx=places.n_ctx,
        prepend_bos=False, n_layers=3, d_model=D, d_vocab=300, dtype="float32", loader="",
        hooks=[info.hook_name], efas=["lens"], n_shards=1, saes=[info],
    )  # fmt: skip
    return replace(run, **changes)


def write_shards(store: Path, world: World, run: RunInfo) -> None:
    """A run with its one shard, without an index."""
    layout = StoreLayout(store).run(run.run_id)
    layout.root.mkdir(parents=True)
    write_run(layout.run_json, run)
    tables = tables_of(world, run.run_id)
    with write_shard(layout, 0, tuple(tables)) as writer:
        for name, rows in tables.items():
            writer.write(name, rows)


def tables_of(world: World, run_id: str = RUN) -> dict[str, pa.Table]:
    places, energy = world.places, world.energies
    n, n_texts, n_windows = places.n_tokens, places.n_texts, places.n_windows
    names = [CATEGORIES[c] if c >= 0 else None for c in world.category]
    token, feature = np.nonzero(world.z)
    g = world.g
    pieces = [world.pieces[v % len(world.pieces)] for v in world.vocab_id]
    nulls = {c.name: pa.nulls(len(token), c.type) for c in GRADIENTS_OF_CODES}
    tables = {
        "texts": _rows(
            n_texts, text_id=np.arange(n_texts), category=pa.array(names, pa.string()),
            source=pa.nulls(n_texts, pa.string()), text=["x" * k for k in places.length],
            sha256=[str(j) for j in range(n_texts)], n_tokens=places.length,
        ),
        "contexts": _rows(
            n_windows, context_id=np.arange(n_windows), text_id=places.text_of_window,
            part=(places.place // places.n_ctx)[places.position == 0],
            n_tokens=np.bincount(places.window),
        ),
        "tokens": _rows(
            n, token_index=np.arange(n), context_id=places.window, pos=places.position,
            vocab_id=world.vocab_id, token_bytes=[piece.encode() for piece in pieces],
            token=pieces,
            char_start=np.zeros(n, np.int32), char_end=np.ones(n, np.int32),
            is_special=np.zeros(n, bool), norm_ratio=np.ones(n, np.float32), energy=energy,
            entropy=energy if world.entropy is None else world.entropy,
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
    return {name: _of_run(run_id, rows) for name, rows in tables.items()}


def _gradients(world: World, g: np.ndarray, energy: np.ndarray) -> dict[str, pa.Table]:
    places, d_sae = world.places, len(world.directions)
    valid, window, position = places.valid, places.window, places.position
    half = window % 2
    place = half * places.n_ctx + position
    kept = np.unique(place[valid])
    a = np.where(valid[:, None], world.a, 0.0)
    by_window, by_place = (
        np.stack([np.bincount(by, column) for column in a.T], axis=1) for by in (window, place)
    )
    covariates = {
        "sum_pos_g": position.astype(float),
        "sum_frequency_g": np.log(1.0 + world.vocab_id).astype(np.float32).astype(float),
        "sum_energy_g": energy,
    }
    sums = []
    for number in np.unique(world.category):
        own = valid & (world.category[places.text] == number)
        name = CATEGORIES[number] if number >= 0 else None
        sums.append(
            _rows(
                d_sae, sae_id=[SAE] * d_sae, variant=["lens"] * d_sae,
                shard=np.zeros(d_sae, np.int32), feature_id=np.arange(d_sae),
                category=pa.array([name] * d_sae, pa.string()),
                n_tokens=np.full(d_sae, own.sum()), sum_g=g[own].sum(0),
                sum_gg=np.square(g[own]).sum(0),
                **{name: x[own] @ g[own] for name, x in covariates.items()},
            )
        )  # fmt: skip
    j, m = places.n_windows, len(kept)
    return {
        "gradient_contexts": _rows(
            j, sae_id=[SAE] * j, variant=["lens"] * j, context_id=np.arange(j),
            n_tokens=np.bincount(window, valid).astype(np.int32), sum_gradient=list(by_window),
        ),
        "gradient_positions": _rows(
            m, sae_id=[SAE] * m, variant=["lens"] * m, shard=np.zeros(m, np.int32),
            half=kept // places.n_ctx, pos=kept % places.n_ctx,
            n_tokens=np.bincount(place, valid).astype(np.int32)[kept],
            sum_gradient=list(by_place[kept]),
        ),
        "gradient_sums": pa.concat_tables(sums),
    }  # fmt: skip


def _routing(world: World, choices: np.ndarray, energy: np.ndarray) -> dict[str, pa.Table]:
    n, n_layers = choices.shape
    routes, tokens = [], []
    sure = np.broadcast_to(world.sure, choices.shape)
    seen = pa.nulls(n, pa.float32()) if world.seen is None else world.seen.astype(np.float32)
    for layer in range(n_layers):
        name = [f"blocks.{layer}.router"] * n
        logits = np.eye(world.n_choices, dtype=np.float32)[choices[:, layer]] * sure[:, layer, None]
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        common = {"router": name, "layer": np.full(n, layer), "token_index": np.arange(n)}
        routes.append(
            _rows(n, **common, rank=np.zeros(n, np.int16), choice_id=choices[:, layer],
                  weight=p.max(axis=1))
        )  # fmt: skip
        tokens.append(
            _rows(n, **common, logits=list(logits), entropy=-(p * np.log(p)).sum(axis=1),
                  margin=p.max(axis=1) - np.sort(p, axis=1)[:, -2],
                  seen_energy=seen, energy_in=1.5 * energy + 1.0,
                  energy_out=energy,
                  write_norm=pa.nulls(n, pa.float32()), solver_steps=pa.nulls(n, pa.int16()))
        )  # fmt: skip
    return {"routing": pa.concat_tables(routes), "routing_tokens": pa.concat_tables(tokens)}


def _rows(n: int, **columns: object) -> pa.Table:
    found = pa.table(columns)
    assert len(found) == n, "a column of another length"
    return found


def _of_run(run_id: str, rows: pa.Table) -> pa.Table:
    return rows.add_column(0, "run_id", pa.array([run_id] * len(rows)))
