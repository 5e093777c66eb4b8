"""Questions to the store, asked in threads so that the screen never waits.

One question at a time for each asker and topic: a newer one interrupts the older. Answers come
back as callbacks on the asker's own message queue. Leaving interrupts everything.
"""

import threading
from collections.abc import Callable
from typing import Any

import duckdb
from textual.dom import DOMNode
from textual.message_pump import MessagePump

from energylens.db.store import Session, Store, reread
from energylens.errors import EnergyLensError
from energylens.tui.notices import notify


class Tasks:
    """Runs questions; one of it for an app."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: dict[tuple[int, str], Session] = {}
        self._lock = threading.Lock()
        self._closed = False

    def ask(
        self,
        asker: DOMNode,
        topic: str,
        question: Callable[[Session], Any],
        answer: Callable[[Any], None],
        failed: Callable[[EnergyLensError], None] | None = None,
    ) -> None:
        """Run `question` in a thread; `answer` gets its result on the asker's message queue.

        An error goes to `failed`, or to the screen as a notice; one of the two is always called,
        except where the question was interrupted.
        """
        key = (id(asker), topic)
        session = Session(self._store)
        with self._lock:
            if self._closed:
                return
            older, self._running[key] = self._running.get(key), session
        if older is not None:
            older.interrupt()

        def work() -> None:
            try:
                found = reread(session, lambda: question(session))
            except BaseException as error:  # a panic of Polars is no Exception
                self._tell(asker, key, session, failed or notify(asker), _of_ours(error))
            else:
                self._tell(asker, key, session, answer, found)

        asker.run_worker(work, thread=True, group=topic, exit_on_error=False)

    def cancel(self, asker: DOMNode, topic: str) -> bool:
        """Interrupt a question; whether there was one."""
        with self._lock:
            session = self._running.pop((id(asker), topic), None)
        if session is None:
            return False
        session.interrupt()
        return True

    def close(self) -> None:
        """Interrupt everything and take no more questions."""
        with self._lock:
            self._closed = True
            sessions = list(self._running.values())
        for session in sessions:
            session.interrupt()

    def _tell(
        self,
        asker: MessagePump,
        key: tuple[int, str],
        session: Session,
        callback: Callable[[Any], None],
        value: Any,
    ) -> None:
        """Have the asker hear the answer, unless a newer question is asked before it does."""

        def hear() -> Any:
            return callback(value) if self._done(key, session) else None

        is_wanted = not session.is_interrupted and not self._closed and asker.is_running
        if not (is_wanted and asker.call_later(hear)):
            self._done(key, session)

    def _done(self, key: tuple[int, str], session: Session) -> bool:
        """Forget a question; whether its answer is still wanted."""
        with self._lock:
            if self._running.get(key) is session:
                del self._running[key]
            return not session.is_interrupted


def _of_ours(error: BaseException) -> EnergyLensError:
    """The error, as one that a screen may show."""
    if isinstance(error, EnergyLensError):
        return error
    if isinstance(error, duckdb.IOException):
        return EnergyLensError(
            f"a file of the store changed while it was read; R reads the store again ({error})"
        )
    if isinstance(error, duckdb.Error):
        return EnergyLensError(str(error))
    if isinstance(error, MemoryError):
        return EnergyLensError("this does not fit into memory; ask for fewer rows or columns")
    return EnergyLensError(f"this could not be read or shown: {str(error) or type(error).__name__}")
