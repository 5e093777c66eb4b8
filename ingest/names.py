"""What runs and SAEs are called: every name stands for one SAE, on every file system."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from energylens.db.layout import file_name
from energylens.db.provenance import SaeInfo
from energylens.errors import UsageError
from energylens.lens.saes import Sae

_SUFFIXES = (6, 16, 64)
"""Digits of the weights' hash that tell SAEs of one name apart; more where those are taken too."""


def named_apart(saes: Sequence[Sae]) -> list[Sae]:
    """SAEs with ids of their own: the first of a name keeps it, a later one has the beginning of
    its weights' hash behind it.

    Raises:
        UsageError: one of them is given twice.
    """
    named: list[Sae] = []
    for sae in saes:
        twin = next((one for one in named if _clash(one.sae_id, sae.sae_id)), None)
        if twin is not None and _traits(twin) == _traits(sae):
            raise UsageError(
                f"the SAE '{sae.sae_id}' is given twice ('{twin.source}' and '{sae.source}' are "
                "the same); leave one out"
            )
        named.append(named_beside(sae, [one.sae_id for one in named]))
    return named


def named_beside(sae: Sae, taken: Iterable[str]) -> Sae:
    """The SAE under an id that none of the `taken` ones can be mistaken for."""
    known = list(taken)
    names = [sae.sae_id, *(f"{sae.sae_id}-{sae.weights_sha256[:n]}" for n in _SUFFIXES)]
    for name in names:
        if not any(_clash(name, other) for other in known):
            return replace(sae, sae_id=name)
    raise UsageError(
        f"every name for the SAE '{sae.sae_id}' is taken; give its folder another name"
    )


def is_same(sae: Sae, info: SaeInfo) -> bool:
    """Whether a loaded SAE is the one of a record: weights, place and manner, whatever its name."""
    return _traits(sae) == (
        info.weights_sha256,
        info.hook_name,
        info.architecture,
        info.normalize_activations,
        info.centring,
        info.hook_head_index,
    )


def _traits(sae: Sae) -> tuple[object, ...]:
    return (
        sae.weights_sha256,
        sae.hook_name,
        sae.architecture,
        str(sae.module.cfg.normalize_activations),
        sae.centring,
        sae.head,
    )


def _clash(one: str, other: str) -> bool:
    """Whether two ids have one file name, or would on a file system that ignores case."""
    return file_name(one).casefold() == file_name(other).casefold()


def check_run_id(run_id: str) -> None:
    """Make sure that a name for a run can be the name of its folder.

    Raises:
        UsageError: it cannot.
    """
    if not run_id.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise UsageError(f"--run-id takes letters, digits, '-', '_' and '.'; not '{run_id}'")
    if run_id.startswith("."):
        raise UsageError("--run-id does not begin with a dot")
