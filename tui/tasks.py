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

from energylens.db.store import Session, Store
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

        An error of ours goes to `failed`, or to the screen as a notice.
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
                found = question(session)
            except duckdb.InterruptException:
                return
            except EnergyLensError as error:
                self._tell(asker, session, failed or notify(asker), error)
            except duckdb.Error as error:
                self._tell(asker, session, notify(asker), EnergyLensError(_readable(error)))
            else:
                self._tell(asker, session, answer, found)
            finally:
                with self._lock:
                    if self._running.get(key) is session:
                        del self._running[key]

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
        self, asker: MessagePump, session: Session, callback: Callable[[Any], None], value: Any
    ) -> None:
        if not session.is_interrupted and not self._closed and asker.is_running:
            asker.call_later(callback, value)


def _readable(error: duckdb.Error) -> str:
    if isinstance(error, duckdb.IOException):
        return f"a file of the store changed while it was read; R reads the store again ({error})"
    return str(error)
