"""Goes where the jump line leads."""

from typing import TYPE_CHECKING

from energylens.errors import QueryError
from energylens.tui.jump import Jump
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.screens.text import TextScreen
from energylens.tui.state import Selection, Workspace

if TYPE_CHECKING:
    from energylens.tui.app import LensApp


async def follow(app: "LensApp", jump: Jump) -> None:
    """Open the place.

    Raises:
        QueryError: there is no such place in this store.
    """
    workspace = app.workspace
    if jump.kind == "view":
        await app.switch_mode(jump.name)
    elif jump.kind == "action":
        await app.run_action(jump.name)
    elif jump.kind == "sae":
        workspace.select(_named(workspace, jump.name))
    elif jump.kind == "filter":
        await app.switch_mode("features")
        while len(app.screen_stack) > 1:
            await app.pop_screen()
        if isinstance(app.screen, FeaturesScreen):
            app.screen.filter_by(jump.name)
    elif jump.kind == "feature":
        place = _in_view(workspace)
        if jump.number >= place.sae.d_sae:
            top = place.sae.d_sae - 1
            raise QueryError(f"{place.sae.sae_id} has the features 0 to {top:,}, no {jump.number}")
        await app.push_screen(FeatureScreen(place, 0, 1, lambda _: jump.number))
    else:
        await app.push_screen(TextScreen(_in_view(workspace), jump.number))


def _in_view(workspace: Workspace) -> Selection:
    if workspace.selection is None:
        raise QueryError("this store has no SAE; see 1, Overview")
    return workspace.selection


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
