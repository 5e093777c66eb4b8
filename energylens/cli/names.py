"""Runs and SAEs as they are given to commands: in full, by their beginning, or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energylens.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from energylens.db.provenance import RunInfo

RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]", help="A run, or the beginning of its name; left out where there is one."
    ),
]
RunAndSaeArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN] [SAE]",
        help="A run and one of its SAEs, or the beginning of their names; each may be left out "
        "where there is one.",
    ),
]
RunAndTextArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[RUN] TEXT",
        help="The text, or @FILE; before it the run whose model to use, or the beginning of its "
        "name, where there are several.",
    ),
]


def chosen_run(store: Path, given: str | None) -> str:
    """The run that is meant."""
    return _find_run(_runs(store), given).run_id


def run_and_sae(store: Path, words: list[str] | None) -> tuple[str, str]:
    """The run and the SAE that up to two words mean; one word alone may be either."""
    from energylens.queries.names import find_sae

    given = words or []
    if len(given) > 2:
        raise UsageError(f"a run and an SAE are asked for, not {len(given)} words")
    runs = _runs(store)
    if len(given) == 1:
        return _either(runs, given[0])
    name, sae = given or (None, None)
    run = _find_run(runs, name)
    return run.run_id, find_sae(run, sae).sae_id


def run_and_text(store: Path, words: list[str]) -> tuple[str, str]:
    """The run and the text that one or two words mean."""
    if len(words) > 2:
        raise UsageError(
            f"a run and a text are asked for, not {len(words)} words; put the text in quotes"
        )
    runs = _runs(store)
    if len(words) == 1 and words[0] in (run.run_id for run in runs):
        raise UsageError(f"'{words[0]}' is a run; the text to read with its model comes after it")
    run = _find_run(runs, words[0] if len(words) == 2 else None)
    return run.run_id, words[-1]


def run_and_files(store: Path, words: list[str]) -> tuple[str, list[Path]]:
    """The run and the files that words mean: the first is a run unless it is a file."""
    runs = _runs(store)
    if Path(words[0]).exists():
        return _find_run(runs, None).run_id, [Path(word) for word in words]
    try:
        run = _find_run(runs, words[0])
    except UnknownNameError as error:
        raise UnknownNameError(f"there is no file '{words[0]}', and {error}") from None
    if len(words) == 1:
        raise UsageError(f"'{words[0]}' is a run; the files to read come after it")
    return run.run_id, [Path(word) for word in words[1:]]


def two_runs(store: Path, one: str | None, other: str | None) -> tuple[str, str]:
    """Two runs to compare; where neither is given, the only two, the older one first."""
    runs = _runs(store)
    if one is None:
        corpora = sorted((r.created, r.run_id) for r in runs if r.base_run is None)
        if len(corpora) == 2:
            return corpora[0][1], corpora[1][1]
        listed = ", ".join(name for _, name in corpora) or "none"
        raise UnknownNameError(f"say which two runs to compare; there are: {listed}")
    if other is None:
        raise UsageError(f"'{one}' is compared with another run, which comes after it")
    return _find_run(runs, one).run_id, _find_run(runs, other).run_id


def _either(runs: "list[RunInfo]", word: str) -> tuple[str, str]:
    """What one word means: a run with one SAE, or an SAE of the only run."""
    from energylens.queries.names import find_sae, nearest

    corpora = [run for run in runs if run.base_run is None]
    saes = corpora[0].saes if len(corpora) == 1 else []
    names = {
        "run": [run.run_id for run in runs],
        "SAE": [sae.sae_id for sae in saes],
    }
    meant = [what for what, known in names.items() if word in known] or [
        what for what, known in names.items() if any(name.startswith(word) for name in known)
    ]
    if not meant:
        near = ", ".join(nearest(word, names["run"] + names["SAE"])) or "none"
        raise UnknownNameError(f"there is no run and no SAE '{word}'; nearest: {near}")
    if len(meant) == 2:
        raise UnknownNameError(f"'{word}' may be the run or the SAE; give both: RUN SAE")
    run = _find_run(runs, word if meant == ["run"] else None)
    return run.run_id, find_sae(run, word if meant == ["SAE"] else None).sae_id


def _runs(store: Path) -> "list[RunInfo]":
    from energylens.queries.names import stored_runs

    return stored_runs(store)


def _find_run(runs: "list[RunInfo]", given: str | None) -> "RunInfo":
    from energylens.queries.names import find_run

    return find_run(runs, given)
