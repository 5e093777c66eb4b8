"""Why a view has nothing to show, and what would make it: told from what the store holds.

The one place where such sentences are made. Each names the first thing that is missing on the way
to what a view shows, so that what it advises is what helps.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from energylens.db.store import Session, Store
from energylens.protocol import EfasRequest, IndexRequest
from energylens.queries.holdings import Holdings, holdings
from energylens.tui.state import RunPlace

GRADIENTS = ("lens", "own", "total", "calibration")
"""Variants of EFAS that take gradients, which are computed when asked for."""
Wanted = Literal[
    "features",
    "specialists",
    "efas",
    "pairs that hold",
    "pairs",
    "clusters",
    "choices",
    "paths",
    "anchor features",
    "texts",
    "hard tokens",
    "layers",
    "drops",
    "heads",
    "token features",
    "map",
]
"""What is shown, view by view."""


@dataclass(frozen=True)
class Remedy:
    """What makes what is missing."""

    command: str
    """For a shell."""
    title: str = ""
    method: str = ""
    """Of the worker, where it can do the same; empty where only the command can."""
    request: object = None


@dataclass(frozen=True)
class Lack:
    """What is missing and why."""

    said: str
    remedy: Remedy | None = None
    """None where nothing needs to be made."""


def why_nothing(
    session: Session, store: Store, place: RunPlace, wanted: Wanted, variant: str = "lens"
) -> Lack:
    """Why there is nothing of what is wanted; to be asked where a question had no rows."""
    sae = place.sae.sae_id if place.sae else None
    held = holdings(session, store.run(place.run), sae)
    return lack_of(held, store.path, wanted, variant)


def why_no_health(session: Session, store: Store, place: RunPlace) -> Lack | None:
    """Why the index says nothing of the routers' health, of a run that holds their choices."""
    held = holdings(session, store.run(place.run), None)
    if "routing" not in held.has or "routing_layers" in held.has:
        return None
    return index_lack(held, store.path, "the health of the routers and what their choices tell")


def no_graphs(path: Path) -> Lack:
    """That nobody has taken attribution graphs into the store."""
    return Lack(
        "This store has no attribution graphs, which circuit-tracer and Neuronpedia write as JSON.",
        Remedy(shlex.join(["energylens", "import", "graph", str(path), "FILE..."])),
    )


def lack_of(held: Holdings, path: Path, wanted: Wanted, variant: str = "lens") -> Lack:
    """The first thing that is missing on the way to what is wanted."""
    if "tokens" not in held.has:
        return Lack(
            "No shard of this run is complete yet: the ingest command that began it goes on."
        )
    return _REASONS[wanted](held, path, variant)


def index_lack(held: Holdings, path: Path, what: str) -> Lack | None:
    """That the index is not there, or is older than the shards; None where it is fresh."""
    if held.index == "fresh":
        return None
    is_missing = held.index == "missing"
    state = "has no index yet" if is_missing else "has an index of other shards or another version"
    said = f"This run {state}; {what} are read from it."
    return Lack(said, _indexing(path, held.info.run_id))


def _features(held: Holdings, path: Path, _: str) -> Lack:
    return _of_sae(held, path, "features") or Lack(
        f"The index of this run knows no feature of {held.sae_id}.",
        _indexing(path, held.info.run_id),
    )


def _specialists(held: Holdings, path: Path, _: str) -> Lack:
    if held.sae_id is not None and "categories" not in held.has:
        return Lack(
            "The texts of this run are in no categories, so no feature can stand for one.",
            _ingest(held, path, "--texts TEXTS", "as <category>/*.txt, or with a column category"),
        )
    return _of_sae(held, path, "specialists") or Lack(
        f"No specialist was tested: {held.sae_id} is active in no text that counts."
    )


def _efas(held: Holdings, path: Path, variant: str) -> Lack:
    lack = _of_sae(held, path, "tests of EFAS")
    if lack is not None:
        return lack
    if "energy" not in held.has:
        return _no_energy(held, path)
    run, sae = held.info.run_id, held.sae_id or ""
    if variant in GRADIENTS and variant not in held.info.efas:
        command = _shell("efas", path, run, sae, "--variant", variant)
        title = f"EFAS with the gradient {variant}"
        return Lack(
            f"EFAS with the gradient '{variant}' is not computed for this run.",
            Remedy(command, title, "efas", EfasRequest(sae, variant)),
        )
    if variant == "drop" and held.layer_before_drop is None:
        return Lack(
            "What later blocks are worth is told by energies under the lens at the place an SAE "
            f"reads or before it. Of {sae} there are none, or it reads the last layer."
        )
    return Lack(
        "No feature could be tested: a test takes 30 tokens that are not masked, in 10 texts."
    )


def _holding_pairs(held: Holdings, path: Path, _: str) -> Lack:
    lack = _of_sae(held, path, "pairs of features")
    if lack is None and "coactivation" in held.has:
        return Lack(
            f"No pair of features of {held.sae_id} holds: none has a q at or below 0.05 and enough "
            "tokens together. f lists all pairs."
        )
    return lack or _pairs(held, path, "")


def _pairs(held: Holdings, path: Path, _: str) -> Lack:
    lack = _of_sae(held, path, "pairs of features")
    if lack is None and "coactivation" in held.has:
        return Lack(f"Every pair of {held.sae_id} has a feature that is dense: on most tokens.")
    return lack or Lack(f"No two features of {held.sae_id} are active together.")


def _clusters(held: Holdings, path: Path, _: str) -> Lack:
    return _of_sae(held, path, "clusters of features") or Lack(
        f"{held.sae_id} has no clusters: no two of its features reach a phi of 0.5."
    )


def _choices(held: Holdings, path: Path, _: str) -> Lack:
    return _no_routers(held) or Lack("Every token whose choices the run holds is masked.")


def _paths(held: Holdings, path: Path, _: str) -> Lack:
    return (
        _no_routers(held)
        or index_lack(held, path, "paths")
        or Lack("No path through the routers is taken often enough to be told.")
    )


def _anchor_features(held: Holdings, path: Path, _: str) -> Lack:
    return (
        _no_routers(held)
        or _of_sae(held, path, "features of choices")
        or Lack(f"No feature of {held.sae_id} goes with a choice of the routers.")
    )


def _texts(held: Holdings, path: Path, _: str) -> Lack:
    if "energy" not in held.has:
        return _no_energy(held, path)
    return Lack("Every token with an energy is masked; M counts masked tokens too.")


def _hard_tokens(held: Holdings, path: Path, _: str) -> Lack:
    if "energy" not in held.has:
        return _no_energy(held, path)
    return Lack("No token stands two standard deviations out of its context; v turns on.")


def _layers(held: Holdings, path: Path, _: str) -> Lack:
    if "lens" not in held.has:
        return Lack(
            "This run holds no energies under the lens, layer by layer.",
            _ingest(held, path, "--energies all"),
        )
    return Lack("Every token with an energy under the lens is masked; M counts them too.")


def _drops(held: Holdings, path: Path, _: str) -> Lack:
    last = held.info.n_layers - 1
    if "lens" in held.has and last not in held.info.lens_layers:
        return Lack(
            f"What later blocks are worth is told against layer {last}, the last, whose energies "
            "are not stored.",
            _ingest(held, path, "--energies all"),
        )
    return _layers(held, path, "")


def _heads(held: Holdings, path: Path, _: str) -> Lack:
    return Lack(
        "The attention heads of this run's model are not measured yet.",
        Remedy(_shell("heads", path, held.info.run_id)),
    )


def _token_features(held: Holdings, path: Path, _: str) -> Lack:
    if not held.info.saes:
        return _no_sae(held, path, "features of tokens")
    return Lack("No feature is active at this token.")


def _map(held: Holdings, path: Path, _: str) -> Lack:
    return _of_sae(held, path, "maps of features") or Lack(
        f"The index was made where the weights of {held.sae_id} or its model are not to be had, "
        "and a map is read off them.",
        _indexing(path, held.info.run_id),
    )


_REASONS: dict[Wanted, Callable[[Holdings, Path, str], Lack]] = {
    "features": _features,
    "specialists": _specialists,
    "efas": _efas,
    "pairs that hold": _holding_pairs,
    "pairs": _pairs,
    "clusters": _clusters,
    "choices": _choices,
    "paths": _paths,
    "anchor features": _anchor_features,
    "texts": _texts,
    "hard tokens": _hard_tokens,
    "layers": _layers,
    "drops": _drops,
    "heads": _heads,
    "token features": _token_features,
    "map": _map,
}


def _of_sae(held: Holdings, path: Path, what: str) -> Lack | None:
    """What anything about the features of an SAE takes."""
    if held.sae_id is None:
        return _no_sae(held, path, what)
    return index_lack(held, path, what)


def _no_sae(held: Holdings, path: Path, what: str) -> Lack:
    kept = [a.split()[1] for a in held.info.additions if a.startswith("activations ")]
    if "activations" in held.info.keep or kept:
        remedy = Remedy(_shell("recompute", path, held.info.run_id, "--sae", "SAE"))
    else:
        remedy = _ingest(held, path, "--sae SAE")
    return Lack(f"This run was made without an SAE; {what} take one.", remedy)


def _no_energy(held: Holdings, path: Path) -> Lack:
    return Lack("This run holds no energies.", _ingest(held, path, "--energies all"))


def _no_routers(held: Holdings) -> Lack | None:
    if "routing" in held.has:
        return None
    return Lack(
        "This run holds no choices of routers: "
        f"{held.info.model_class} has none. Mixtures of experts and MesaNets have."
    )


def _indexing(path: Path, run: str) -> Remedy:
    return Remedy(_shell("index", path, "--run-id", run), "make the index", "index", IndexRequest())


def _ingest(held: Holdings, path: Path, option: str, said: str = "") -> Remedy | None:
    """The command that makes such a run anew, with an option more; None of a run that was made from
    another one."""
    made = held.info
    if made.base_run is not None:
        return None
    words = ["ingest", path, "--model", made.model]
    if not option.startswith("--texts"):
        words += ["--texts", made.texts]
    for sae in made.saes if not option.startswith("--sae") else ():
        words += ["--sae", sae.source]
    return Remedy(f"{_shell(*words)} {option}{f'   # {said}' if said else ''}")


def _shell(*words: object) -> str:
    return " ".join(["energylens", *(shlex.quote(str(word)) for word in words)])
