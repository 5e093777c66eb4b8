"""What becomes of jobs that could go on when the program is closed."""

from energylens.queries.display import counted
from energylens.tui.fuzzy import Entry
from energylens.tui.modals.choose import Choose


class Leaving(Choose[bool]):
    """Gives whether they are to be stopped; ctrl+q once more keeps them."""

    def __init__(self, n_jobs: int) -> None:
        entries = [
            Entry("keep running", False, "the next start on this store shows how far they are"),
            Entry("stop", True, "what they have finished stays in the store"),
        ]
        super().__init__(f"{counted(n_jobs, 'job')} still at work", entries)
