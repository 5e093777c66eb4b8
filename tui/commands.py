"""The command palette: every action of the screen in view, every view, every run, every SAE."""

from collections.abc import Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.types import IgnoreReturnCallbackType

from energylens.queries.display import visible
from energylens.tui.navigation import show_run
from energylens.tui.state import workspace_of
from energylens.tui.widgets.view_bar import VIEWS


class LensCommands(Provider):
    """Found by any part of their names; names are drawn as they are, never read as markup."""

    async def discover(self) -> Hits:
        """Everything, before a letter is typed."""
        for title, doc, run in self._commands():
            yield DiscoveryHit(Content(title), run, text=title, help=doc)

    async def search(self, query: str) -> Hits:
        """What matches the letters typed."""
        matcher = self.matcher(query)
        for title, doc, run in self._commands():
            score = matcher.match(title)
            if score > 0:
                yield Hit(score, Content(title), run, text=title, help=doc)

    def _commands(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        """Title, what it does, and the doing."""
        app, workspace = self.app, workspace_of(self.screen)
        for key, mode, title, _ in VIEWS:
            yield f"view: {title}", f"key {key}", partial(app.switch_mode, mode)
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.description:
                key = app.get_key_display(binding)
                doc = f"{binding.tooltip or binding.description}, key {key}"
                act = partial(app.run_action, binding.action, active.node)
                yield f"here: {binding.description}", doc, act
        for info in workspace.runs:
            doc = f"{info.kind}, {info.n_tokens:,} tokens"
            yield visible(f"run: {info.run_id}"), doc, partial(show_run, app, info.run_id)
        for choice in workspace.choices:
            doc = f"{choice.sae.d_sae:,} features"
            title = visible(f"SAE: {choice.sae.sae_id}  {choice.run}")
            yield title, doc, partial(workspace.select, choice)
