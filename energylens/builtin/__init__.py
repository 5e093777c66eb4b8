"""What Energy-Lens brings along: a small model, SAEs trained on it, and texts of seven kinds."""

from pathlib import Path

from energylens.errors import UsageError

_ROOT = Path(__file__).resolve().parent
PRESETS = _ROOT / "presets"
"""Holds a TOML file for each preset of an ingest."""


def builtin_path(kind: str, name: str) -> Path:
    """The directory of a bundled thing; `kind` is `models`, `saes` or `texts`.

    Raises:
        UsageError: there is no such thing; the message lists what there is.
    """
    names, own = builtin_names(kind), name.removeprefix("builtin:")
    if f"builtin:{own}" not in names:
        raise UsageError(
            f"there is no '{name}' among the bundled {kind}; there are: {', '.join(names)}"
        )
    return _ROOT / kind / own


def builtin_names(kind: str) -> list[str]:
    """The bundled things of one kind, as `builtin:` names."""
    folder = _ROOT / kind
    return [f"builtin:{p.name}" for p in sorted(folder.iterdir()) if p.is_dir()]
