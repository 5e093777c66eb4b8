"""The program opens where the command line says, and says what it cannot find before it opens."""

from pathlib import Path

import pytest

from energylens.db.store import Store
from energylens.errors import EnergyLensError, UsageError
from energylens.tui.address import Told
from energylens.tui.places import FeatureInList
from energylens.tui.screens.efas import EfasScreen
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.screens.specialists import SpecialistsScreen
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.start import Start, look_up
from energylens.tui.widgets.sql_editor import SqlEditor
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Open


@pytest.mark.parametrize(("view", "screen"), [("spec", SpecialistsScreen), ("4", EfasScreen)])
async def test_a_view_is_opened_by_its_name_or_key(drive: Open, view: str, screen: type) -> None:
    async with drive(told=Told(view=view)) as d:
        assert isinstance(d.app.screen, screen)


async def test_a_features_page_is_opened_over_its_view(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path, told=Told(view="specialists", feature="two:7")) as d:
        assert isinstance(d.app.screen, FeatureScreen)
        assert any("two" in line and "7" in line for line in d.lines[:6])
        await d.press("escape")
        assert isinstance(d.app.screen, SpecialistsScreen)
        assert d.app.workspace.selection is not None
        assert d.app.workspace.selection.sae.sae_id == "two"


async def test_a_filter_opens_the_list_that_it_leaves(drive: Open, rich_path: Path) -> None:
    told = Told(sae="one", filter="feature_id<3")
    async with drive("large", rich_path, told=told) as d:
        assert isinstance(d.app.screen, FeaturesScreen)
        await d.until("3 of 48")


async def test_a_filter_holds_in_another_views_list(drive: Open, rich_path: Path) -> None:
    told = Told(sae="one", view="efas", filter="feature_id<3")
    async with drive("large", rich_path, told=told) as d:
        assert isinstance(d.app.screen, EfasScreen)
        await d.until("3 of ")
        table = d.app.screen.query(VirtualTable).first()
        assert set(d.app.screen.frame(table.id or "")["feature_id"]) == {0, 1, 2}


async def test_a_statement_is_run_at_once(drive: Open) -> None:
    async with drive("large", told=Told(statement="SELECT 6 * 7 AS answer")) as d:
        assert isinstance(d.app.screen, SqlScreen)
        assert d.app.screen.query_one(SqlEditor).text == "SELECT 6 * 7 AS answer"
        await d.until("42")


async def test_a_filter_that_cannot_be_read_is_told_there(drive: Open) -> None:
    async with drive("large", told=Told(filter="nothing_such > 3")) as d:
        await d.until("nothing_such")


def test_what_is_left_out_is_the_stores_own(rich: Store) -> None:
    assert look_up(Told(), rich) == Start()
    found = look_up(Told(feature="5"), rich)
    assert found.place is not None and found.place.sae is not None
    assert isinstance(found.opens, FeatureInList) and found.opens.id_at(0) == 5
    assert found.place == look_up(Told(run=rich.runs[0].info.run_id), rich).place


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told(run="nine"), "no run 'nine'"),
        (Told(sae="nine"), "no SAE 'nine'"),
        (Told(feature="two:99"), "99"),
        (Told(feature="nine:1"), "no SAE 'nine'"),
        (Told(feature="two:x"), "'x'"),
        (Told(feature="two:"), "feature"),
        (Told(sae="one", feature="two:1"), "give one"),
        (Told(view="nowhere"), "no 'nowhere'"),
        (Told(view="starred"), "--view names a view"),
        (Told(view="efas", statement="SELECT 1"), "leave out --view"),
    ],
)
def test_what_cannot_be_found_is_said_before_anything_opens(
    rich: Store, told: Told, said: str
) -> None:
    with pytest.raises(EnergyLensError, match=said) as error:
        look_up(told, rich)
    assert isinstance(error.value, UsageError)
