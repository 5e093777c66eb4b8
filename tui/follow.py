"""Goes where the jump line leads."""

from pathlib import Path

from textual.app import App

from energylens.errors import QueryError, UsageError
from energylens.tui.address import read_line
from energylens.tui.jump import Jump
from energylens.tui.navigation import go_to, show_run
from energylens.tui.places import FilteredFeatures, Query, WholeText, one_feature
from energylens.tui.start import begin, look_up
from energylens.tui.state import FeaturePlace, Selection, Workspace, workspace_of


async def follow(app: App[None], jump: Jump) -> None:
    """Open the place.

    Raises:
        UsageError: there is no such place in this store.
    """
    workspace = workspace_of(app)
    if jump.selection is not None:
        workspace.select(jump.selection)
    if jump.kind == "view":
        await app.switch_mode(jump.name)
    elif jump.kind == "action":
        await app.run_action(jump.name)
    elif jump.kind == "sae":
        workspace.select(jump.selection or _named(workspace, jump.name))
    elif jump.kind == "run":
        await show_run(app, _run_named(workspace, jump.name))
    elif jump.kind == "query":
        await go_to(app, Query(jump.name))
    elif jump.kind == "address":
        await _open_again(app, jump.name)
    elif jump.kind == "filter":
        await go_to(app, FilteredFeatures(jump.name))
    elif jump.kind == "feature":
        await go_to(app, one_feature(_feature(_in_view(workspace), jump.number)))
    else:
        await go_to(app, WholeText(_run_in_view(workspace), jump.number))


async def _open_again(app: App[None], line: str) -> None:
    """Go where the words of a command line lead, if they are about this store."""
    path, told = read_line(line)
    own = workspace_of(app).store
    if path is not None and Path(path).name != own.path.resolve().name:
        raise UsageError(f"the line opens '{path}'; this is '{own.path}'")
    await begin(app, look_up(told, own))


def _feature(selection: Selection, number: int) -> FeaturePlace:
    if number >= selection.sae.d_sae:
        top = selection.sae.d_sae - 1
        raise QueryError(f"{selection.sae.sae_id} has the features 0 to {top:,}, no {number}")
    return FeaturePlace(selection, number)


def _in_view(workspace: Workspace) -> Selection:
    if workspace.selection is None:
        raise QueryError(f"the run {_run_in_view(workspace)} has no SAE; C looks at another run")
    return workspace.selection


def _run_in_view(workspace: Workspace) -> str:
    if workspace.place is None:
        raise QueryError("this store holds no run yet; make one with: energylens ingest")
    return workspace.place.run


def _run_named(workspace: Workspace, words: str) -> str:
    """The run whose name is the words, or else holds them."""
    names = [info.run_id for info in workspace.runs]
    found = [name for name in names if name.lower() == words] or [
        name for name in names if words in name.lower()
    ]
    if len(found) != 1:
        said = f"'{words}' could be" if found else f"no run has '{words}' in its name; there are"
        raise QueryError(f"{said}: {', '.join(found or names) or 'none yet'}")
    return found[0]


def _named(workspace: Workspace, words: str) -> Selection:
    """The SAE whose id holds the words; one of the run in view where several do."""
    exact = [c for c in workspace.choices if c.sae.sae_id.lower() == words]
    found = exact or [c for c in workspace.choices if words in c.sae.sae_id.lower()]
    run = workspace.selection.run if workspace.selection else None
    own = [c for c in found if c.run == run] or found
    if len(own) != 1:
        listed = ", ".join(c.sae.sae_id for c in own or workspace.choices)
        said = f"'{words}' could be" if own else f"no SAE has '{words}' in its name; there are"
        raise QueryError(f"{said}: {listed}")
    return own[0]
