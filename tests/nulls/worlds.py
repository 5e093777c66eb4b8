"""Simulated runs: what has nothing to do with each other, and the same with signals planted.

Features, from rare to dense, come in bursts and keep to some texts; gradients go on from token to
token and have a level of their own in each text; so do energies and routers. The dictionary (rates,
directions, what a token does to a router) is the same in all worlds, the rest is drawn anew.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from scipy import signal

from tests.synthetic import D, Layout, Places, World

N_FEATURES = 40
"""Fewer than the partners that co-activation keeps: every pair is listed."""
N_PLANTED = 8
N_VOCAB, N_CHOICES, N_LAYERS = 60, 4, 3
FEATURE_KINDS = ("plain", "profile", "covariates")
ROUTING_KINDS = ("plain", "lexical", "blind")
"""profile: activations and gradients share a wave over positions, which only `within` takes off;
covariates: both go with position, frequency and energy, which only `adjusted` takes off;
lexical: energies follow the token, and categories have words of their own; blind: routers do not
follow the token."""
_BURN_IN = 50
_WORDS = np.random.default_rng(41)
RATES = np.geomspace(0.01, 0.4, N_FEATURES)[_WORDS.permutation(N_FEATURES)]
DIRECTIONS = _WORDS.standard_normal((N_FEATURES, D)).astype(np.float32).astype(np.float64)
FREQUENCY = 1 / np.arange(2.0, N_VOCAB + 2)
ROUTED = _WORDS.standard_normal((N_LAYERS, N_VOCAB, N_CHOICES))


@dataclass(frozen=True)
class Effects:
    """How much of a thing is the text's own, in deviations."""

    rate: float = 0.8
    gradient: float = 0.7
    slope: float = 0.5
    """Of how gradients go with activations: a text may have them go together, the next apart."""
    energy: float = 0.5
    routing: float = 0.8
    token: float = 2.0
    """How much a router follows the token; of no text."""


def world(
    layout: Layout, seed: int, kind: str = "plain", is_planted: bool = False,
    effects: Effects | None = None, with_routing: bool = False, again: int = 0,
) -> World:  # fmt: skip
    """A run of this layout, with or without what `_plant_features` and `_route` plant; `again` is
    another model over the same texts."""
    effects = effects or Effects(token=0.0 if kind == "blind" else 2.0)
    own = zlib.crc32(f"{layout.name} {kind} {is_planted}".encode())
    generator = np.random.default_rng([seed, own, again])
    places = layout.draw(seed)
    vocab = generator.choice(N_VOCAB, places.n_tokens, p=FREQUENCY / FREQUENCY.sum())
    if kind == "lexical":
        turned = generator.random(places.n_tokens) < 0.3
        vocab = np.where(turned, (vocab + 7 * places.category[places.text]) % N_VOCAB, vocab)
    energy = np.exp(
        0.5 * _series(generator, places, 0.3, 1)[:, 0]
        + effects.energy * generator.standard_normal(places.n_texts)[places.text]
        - 0.2 * places.position / places.n_ctx
    )
    if kind == "lexical":
        energy *= 1 + vocab % 5
    drive = _series(generator, places, 0.8, N_FEATURES)
    drive += effects.rate * generator.standard_normal((places.n_texts, N_FEATURES))[places.text]
    a = _series(generator, places, 0.6, D)
    a += effects.gradient * generator.standard_normal((places.n_texts, D))[places.text]
    if kind == "profile":
        wave = np.sin(places.position / 4)[:, None]
        drive, a = drive + 0.7 * wave, a + 0.7 * wave
    if kind == "covariates":
        common = (places.position / places.n_ctx + 0.5 * energy + 0.3 * np.log1p(vocab))[:, None]
        drive, a = drive + 0.7 * common, a + 0.7 * common
    found = World(
        z=np.zeros(drive.shape), a=a, directions=DIRECTIONS, places=places, vocab_id=vocab,
        energy=energy, n_choices=N_CHOICES,
    )  # fmt: skip
    if is_planted:
        _plant_features(generator, drive, places)
    height = np.quantile(drive, 1 - RATES, axis=0).diagonal()
    found.z = np.exp(0.5 * np.maximum(drive - height, 0)) - 1
    found.z = found.z.astype(np.float32).astype(np.float64)
    slopes = effects.slope * generator.standard_normal((places.n_texts, N_FEATURES))
    if is_planted:
        slopes[:, :N_PLANTED] += 1.5
    unit = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
    found.a -= (slopes[places.text] * found.z) @ unit
    if with_routing:
        _route(generator, found, effects, is_planted)
    return found


def _plant_features(generator: np.random.Generator, drive: np.ndarray, places: Places) -> None:
    """After N_PLANTED features that push the gradient (see `world`) come as many that keep to a
    category, and as many in pairs that share half of their drive."""
    for f in range(N_PLANTED, 2 * N_PLANTED):
        drive[:, f] += 2.5 * (places.category[places.text] == f % 4)
    for f in range(2 * N_PLANTED, 3 * N_PLANTED, 2):
        text = 2.0 * generator.standard_normal(places.n_texts)[places.text]
        drive[:, f : f + 2] += text[:, None]


def _route(
    generator: np.random.Generator, found: World, effects: Effects, is_planted: bool
) -> None:
    """First choices that follow the token, the text and what was chosen just before, layers
    knowing nothing of each other; planted: a quarter of the tokens take one path, choices go with
    the category and the energy, and features of the last rank with choices."""
    places = found.places
    series = _series(generator, places, 0.5, N_LAYERS * N_CHOICES)
    logits = series.reshape(-1, N_LAYERS, N_CHOICES) + effects.token * ROUTED[
        :, found.vocab_id
    ].swapaxes(0, 1)
    own = generator.standard_normal((places.n_texts, N_LAYERS, N_CHOICES))
    logits += effects.routing * own[places.text]
    certain = _series(generator, places, 0.5, N_LAYERS)
    certain += effects.routing * generator.standard_normal((places.n_texts, N_LAYERS))[places.text]
    certain += (places.position / places.n_ctx + 0.02 * found.vocab_id)[:, None]
    assert found.energy is not None
    if is_planted:
        category = places.category[places.text] % N_CHOICES
        logits[np.arange(len(logits)), 0, category] += 1.5
        logits[:, 1, 2] += 1.5 * (found.energy - 1)
        certain += 0.8 * found.energy[:, None]
    choices = found.choices = logits.argmax(axis=2)
    found.sure = 0.5 + np.log1p(np.exp(certain))
    found.entropy, found.seen = (_like(generator, found, effects, share) for share in (0.7, 0.5))
    if is_planted:
        choices[generator.random(len(logits)) < 0.2] = (3, 1, 2)
        for f in range(3 * N_PLANTED, 3 * N_PLANTED + 4):
            on = generator.random(len(logits)) < 0.3
            found.z[on & (choices[:, 1] == f % N_CHOICES), f] = 1.0


def _like(
    generator: np.random.Generator, found: World, effects: Effects, share: float
) -> np.ndarray:
    """[N], above zero: a number that goes with the energy, with a level of its own in each text."""
    assert found.energy is not None
    places = found.places
    own = 0.5 * _series(generator, places, 0.3, 1)[:, 0]
    own += effects.energy * generator.standard_normal(places.n_texts)[places.text]
    return np.exp(share * np.log(found.energy) + (1 - share) * own)


def _series(generator: np.random.Generator, places: Places, phi: float, width: int) -> np.ndarray:
    """[N, width]: series of unit variance that begin anew with each text."""
    padded = places.length + _BURN_IN
    noise = generator.standard_normal((int(padded.sum()), width)) * np.sqrt(1 - phi**2)
    whole = np.asarray(signal.lfilter([1], [1, -phi], noise, axis=0))
    start = np.cumsum(padded) - places.length
    return whole[np.repeat(start, places.length) + places.place]
