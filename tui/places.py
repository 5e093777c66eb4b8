"""Places of the program, as plain records, and the message that asks the app to go to one.

A screen names the place it leads to; only the app knows which screen shows it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from textual.message import Message

from energylens.tui.state import FeaturePlace, Selection, Workspace
from energylens.when import When


@dataclass(frozen=True)
class FeatureInList:
    """A feature that was found in a list, which its screen goes along."""

    selection: Selection
    row: int
    n_rows: int
    id_at: Callable[[int], int | None]
    """The feature in another row; None where there is none."""


@dataclass(frozen=True)
class FeatureTexts:
    """Every text with one feature's activation in it."""

    feature: FeaturePlace


@dataclass(frozen=True)
class WholeText:
    """A text, token by token."""

    run: str
    text_id: int
    shade: tuple[str, int] | None = None
    """The SAE and the feature to shade by."""


@dataclass(frozen=True)
class Landscape:
    """The energies of a text, layer by token."""

    run: str
    text_id: int
    token_index: int | None = None
    """None stands for the first token."""


@dataclass(frozen=True)
class Prompt:
    """A text of one's own, as a run's model reads it; an empty one is asked for."""

    run: str
    text: str = ""


@dataclass(frozen=True)
class Lab:
    """A text run with a feature changed."""

    feature: FeaturePlace
    text: str


@dataclass(frozen=True)
class Steering:
    """A prompt continued with a feature added."""

    feature: FeaturePlace
    prompt: str
    when: When | None = None
    """Where it is added; None is everywhere."""


@dataclass(frozen=True)
class TwoFeatures:
    """Two features side by side."""

    one: FeaturePlace
    other: FeaturePlace


@dataclass(frozen=True)
class TwoSaes:
    """Two SAEs side by side."""

    one: Selection
    other: Selection


@dataclass(frozen=True)
class TwoRuns:
    """Two runs side by side, with tests."""

    run: str
    other: str


@dataclass(frozen=True)
class Heads:
    """Every attention head of a run's model."""

    run: str


@dataclass(frozen=True)
class OneHead:
    """One of them."""

    run: str
    layer: int
    head: int


@dataclass(frozen=True)
class Attention:
    """All attention of a head in one context."""

    of: OneHead
    context_id: int
    destination: int
    source: int
    """Positions in the context that are looked at first."""


@dataclass(frozen=True)
class Origins:
    """What made a feature of an attention-output SAE fire at a token."""

    feature: FeaturePlace
    context_id: int
    pos: int


@dataclass(frozen=True)
class Attribution:
    """The features of an SAE behind what is predicted after a token, of a text or of a context of
    the run: one of the two is given."""

    selection: Selection
    pos: int
    text: str = ""
    context_id: int | None = None


@dataclass(frozen=True)
class DictionaryMap:
    """Where the features of an SAE lie beside each other."""

    selection: Selection
    feature_id: int | None = None
    """The one to begin at, its neighbours marked; None is the most active one."""
    words: str = ""
    """A filter, which marks what it leaves."""


@dataclass(frozen=True)
class Graphs:
    """The attribution graphs of the store."""


@dataclass(frozen=True)
class OneGraph:
    """One of them."""

    graph_id: str
    node_id: str | None = None
    """The node to begin at; None is the logit it was traced for."""


@dataclass(frozen=True)
class FilteredFeatures:
    """The features of the SAE in view that a filter leaves."""

    filter: str


@dataclass(frozen=True)
class Query:
    """A named query, to be filled in and run."""

    name: str


Pushed = (
    FeatureInList
    | FeatureTexts
    | WholeText
    | Landscape
    | Prompt
    | Lab
    | Steering
    | TwoFeatures
    | TwoSaes
    | TwoRuns
    | Heads
    | OneHead
    | Attention
    | Origins
    | Attribution
    | DictionaryMap
    | Graphs
    | OneGraph
)
"""Places shown over the one they are opened from."""
Place = Pushed | FilteredFeatures | Query


@dataclass
class Open(Message):
    """A place is to be shown."""

    place: Place


def one_feature(place: FeaturePlace) -> FeatureInList:
    """A feature that came from no list."""
    return FeatureInList(place.selection, 0, 1, lambda _: place.feature_id)


def place_of_row(row: Mapping[str, object], workspace: Workspace) -> Place | None:
    """The feature or the text a row of any table names, in the run and the SAE it names or those
    in view; None where it names none that there is."""
    seen = workspace.selection
    run = row.get("run_id", workspace.place.run if workspace.place else None)
    sae = row.get("sae_id", seen.sae.sae_id if seen else None)
    own = [c for c in workspace.choices if (c.run, c.sae.sae_id) == (run, sae)]
    feature_id, text_id = row.get("feature_id"), row.get("text_id")
    if own and isinstance(feature_id, int) and 0 <= feature_id < own[0].sae.d_sae:
        return one_feature(FeaturePlace(own[0], feature_id))
    is_there = run in [info.run_id for info in workspace.store.infos]
    return WholeText(str(run), text_id) if is_there and isinstance(text_id, int) else None
