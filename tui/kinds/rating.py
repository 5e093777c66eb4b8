"""Screens about one feature, which people rate."""

from energylens.db.ratings import Rating
from energylens.queries.ratings import keep_rating
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.modals.rate import Numbers, RateModal
from energylens.tui.settings import login_name, settings_path
from energylens.tui.state import FeaturePlace


class RatingScreen(MarkingScreen):
    """Has the action `rate`; the screen says by which key, after the keys used more often."""

    def action_rate(self) -> None:
        """Ask for a rating of the feature, and keep it in place of the rater's last one."""
        place, rater = self.feature_in_view(), self.workspace.rater or login_name()
        if place is None:
            return
        if rater is None:
            self.notify(
                f'nobody is logged in by a name; set rater = "your name" in {settings_path()}',
                severity="warning",
            )
            return

        def given(numbers: Numbers | None) -> None:
            if numbers is not None:
                self._keep(place, rater, numbers)

        self.app.push_screen(RateModal(place, rater), given)

    def _keep(self, place: FeaturePlace, rater: str, numbers: Numbers) -> None:
        store, selection = self.workspace.store, place.selection
        of = selection.run, selection.sae.sae_id, place.feature_id
        rating = Rating(*of, rater, *numbers)

        def told(_: None) -> None:
            said = " ".join(map(str, numbers))
            self.notify(f"feature {place.feature_id}: rated {said} by {rater}")
            self.workspace.noted()

        self.workspace.tasks.ask(self, "rating", lambda _: keep_rating(store, rating), told)
