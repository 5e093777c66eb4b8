"""Which screen shows which place."""

from typing import Any

from textual.app import App
from textual.screen import Screen

from energylens.tui.places import (
    Attention,
    Attribution,
    DictionaryMap,
    FeatureInList,
    FeatureTexts,
    FilteredFeatures,
    Graphs,
    Heads,
    Lab,
    Landscape,
    OneGraph,
    OneHead,
    Origins,
    Place,
    Prompt,
    Pushed,
    Query,
    Steering,
    TwoFeatures,
    TwoRuns,
    TwoSaes,
    WholeText,
)
from energylens.tui.screens.attention import AttentionScreen
from energylens.tui.screens.attribution import AttributionScreen
from energylens.tui.screens.compare_features import CompareFeaturesScreen
from energylens.tui.screens.compare_runs import CompareRunsScreen
from energylens.tui.screens.compare_saes import CompareSaesScreen
from energylens.tui.screens.dictionary import MapScreen
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.feature_texts import FeatureTextsScreen
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.screens.graph import GraphScreen
from energylens.tui.screens.graphs import GraphsScreen
from energylens.tui.screens.head import HeadScreen
from energylens.tui.screens.heads import HeadsScreen
from energylens.tui.screens.lab import LabScreen
from energylens.tui.screens.landscape import LandscapeScreen
from energylens.tui.screens.origins import OriginsScreen
from energylens.tui.screens.prompt import PromptScreen
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.screens.steering import SteeringScreen
from energylens.tui.screens.text import TextScreen
from energylens.tui.state import workspace_of


async def go_to(app: App[None], place: Place) -> None:
    """Show a place: over what is shown now, or in the view it belongs to."""
    if isinstance(place, FilteredFeatures):
        await app.switch_mode("features")
        while len(app.screen_stack) > 1:
            await app.pop_screen()
        if isinstance(app.screen, FeaturesScreen):
            app.screen.filter_by(place.filter)
    elif isinstance(place, Query):
        await app.switch_mode("sql")
        if isinstance(app.screen, SqlScreen):
            app.screen.begin_query(place.name)
    elif not (isinstance(place, Prompt) and isinstance(app.screen, PromptScreen)):
        await app.push_screen(_screen_of(place))


async def show_run(app: App[Any], run: str) -> None:
    """Look at another run, in the view that is open."""
    while len(app.screen_stack) > 1:
        await app.pop_screen()
    workspace_of(app).select_run(run)


def _screen_of(place: Pushed) -> Screen[None]:
    match place:
        case FeatureInList():
            return FeatureScreen(place)
        case FeatureTexts():
            return FeatureTextsScreen(place.feature)
        case WholeText():
            return TextScreen(place)
        case Landscape():
            return LandscapeScreen(place)
        case Prompt():
            return PromptScreen(place)
        case Lab():
            return LabScreen(place)
        case Steering():
            return SteeringScreen(place)
        case TwoFeatures():
            return CompareFeaturesScreen(place)
        case TwoSaes():
            return CompareSaesScreen(place)
        case TwoRuns():
            return CompareRunsScreen(place)
        case Heads():
            return HeadsScreen(place)
        case OneHead():
            return HeadScreen(place)
        case Attention():
            return AttentionScreen(place)
        case Origins():
            return OriginsScreen(place)
        case Attribution():
            return AttributionScreen(place)
        case DictionaryMap():
            return MapScreen(place)
        case Graphs():
            return GraphsScreen()
        case OneGraph():
            return GraphScreen(place)
