"""Energy-Lens: look inside a language model through features and energies."""

import importlib.util
from pathlib import Path

__version__ = "0.1.0"


def _check_neighbours() -> None:
    """Fail at once where another `db`, `ingest`, `queries` or `tui` hides ours.

    Raises:
        ImportError: one of the four resolves to a file that is not beside this package.
    """
    root = Path(__file__).resolve().parent.parent
    for name in ("db", "ingest", "queries", "tui"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent != root / name:
            raise ImportError(
                f"Energy-Lens needs its own package '{name}' from {root}, but Python finds "
                f"{origin or 'none'}; install Energy-Lens into an environment of its own, or "
                "rename or leave the folder that holds that file"
            )


_check_neighbours()
