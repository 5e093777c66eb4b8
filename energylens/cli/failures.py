"""What is said of an error, and what a command then returns."""

import sys

from energylens.cli import signals
from energylens.errors import EnergyLensError

INTERRUPTED = 130


def said_of(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error."""
    stopped = signals.exit_code() or (INTERRUPTED if isinstance(error, KeyboardInterrupt) else None)
    if stopped is not None:
        return (
            stopped,
            "stopped; what was finished is kept, and the same command goes on from there",
        )
    if isinstance(error, EnergyLensError):
        return error.exit_code, str(error)
    if "duckdb" in sys.modules:  # or it is none of its errors
        import duckdb

        from energylens.queries.catalog import unreadable

        if isinstance(error, duckdb.Error):
            return said_of(unreadable(error))
    if isinstance(error, MemoryError):
        return 1, "out of memory; give a smaller --batch-tokens, or fewer SAEs or layers at once"
    if isinstance(error, OSError) and error.strerror:
        where = f" '{error.filename}'" if error.filename else ""
        return 1, f"the system refuses{where}: {error.strerror}"
    return 1, f"unexpected {type(error).__name__}: {error} (--debug shows where)"
