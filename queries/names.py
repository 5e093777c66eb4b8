"""What the names that people give stand for.

Runs and SAEs may be left out where there is one and may be given by a beginning that no other has.
A name that stands for nothing is an error that tells the nearest ones; it is never an empty table.
"""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import TypeVar

from energylens.db.layout import StoreLayout
from energylens.db.provenance import RunInfo, SaeInfo, read_run
from energylens.db.version import check_format
from energylens.errors import UnknownNameError

_N_NEAREST = 5
"""Names told where one is wrong."""
_NONE_YET = {
    "run": "the store has no run yet; make one with: energylens ingest",
    "sae": "the run has no SAE; energylens ingest takes some with --sae",
}
Thing = TypeVar("Thing")


def stored_runs(store: Path) -> list[RunInfo]:
    """The runs of a store, without opening it for queries.

    Raises:
        StoreError: there is no store, or a run's record cannot be read.
    """
    check_format(store)
    return [read_run(run.run_json) for run in StoreLayout(store).runs()]


def find_run(runs: Sequence[RunInfo], given: str | None) -> RunInfo:
    """A run by its name or the beginning of it; None is the only one.

    Runs made from others (prompts, interventions) do not count where no name is given.

    Raises:
        UnknownNameError: none or several can be meant.
    """
    if given is None:
        corpora = [run for run in runs if run.base_run is None]
        return _only("run", corpora or runs, [run.run_id for run in corpora or runs])
    names = [run.run_id for run in runs]
    return runs[names.index(pick(given, names, "the store has no run"))]


def find_sae(run: RunInfo, given: str | None) -> SaeInfo:
    """An SAE of a run by its name or the beginning of it; None is the only one.

    Raises:
        UnknownNameError: none or several can be meant.
    """
    names = [sae.sae_id for sae in run.saes]
    if given is None:
        return _only("sae", run.saes, names)
    return run.saes[names.index(pick(given, names, f"the run '{run.run_id}' has no SAE"))]


def check_number(what: str, given: object, n: int, where: str) -> int:
    """A whole number from 0 to n - 1.

    Raises:
        UnknownNameError: it is none of them.
    """
    number = whole_number(what, given)
    if 0 <= number < n:
        return number
    there = f"{what}s 0 to {n - 1:,}" if n else f"no {what}"
    raise UnknownNameError(f"there is no {what} {number} in {where}, which has {there}")


def whole_number(what: str, given: object) -> int:
    """A whole number, also as text.

    Raises:
        UnknownNameError: it is something else.
    """
    try:
        number = int(str(given))
    except ValueError:
        raise UnknownNameError(f"{what} takes a whole number, not '{given}'") from None
    return number


def pick(given: str, known: Sequence[str], said: str) -> str:
    """The known name that was given, or the only one that begins so; `said` begins the message.

    Raises:
        UnknownNameError: there is none, or several begin so.
    """
    if given in known:
        return given
    found = [name for name in known if given and name.startswith(given)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownNameError(
            f"several names begin with '{given}': {_listed(found)}; give more of the one you mean"
        )
    raise UnknownNameError(no_such(said, given, known))


def no_such(said: str, given: str, known: Iterable[str]) -> str:
    """That a name stands for nothing, with the nearest that do."""
    near = nearest(given, known)
    return f"{said} '{given}'; " + (f"nearest: {', '.join(near)}" if near else "there is none yet")


def nearest(given: str, known: Iterable[str]) -> list[str]:
    """The known names most like one, the likest first."""
    wanted = given.casefold()

    def likeness(name: str) -> tuple[bool, float]:
        other = name.casefold()
        is_part = bool(wanted) and (wanted in other or other in wanted)
        return is_part, SequenceMatcher(None, wanted, other).ratio()

    return sorted(dict.fromkeys(known), key=likeness, reverse=True)[:_N_NEAREST]


def _only(what: str, things: Sequence[Thing], names: Sequence[str]) -> Thing:
    if len(things) == 1:
        return things[0]
    if not things:
        raise UnknownNameError(_NONE_YET[what])
    choices = _listed([f"{what}={name}" for name in sorted(names)])
    raise UnknownNameError(f"say which {what}: {choices}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - 2 * _N_NEAREST
    return ", ".join(names[: 2 * _N_NEAREST]) + (f" and {more} more" if more > 0 else "")
