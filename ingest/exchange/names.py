"""What things are called in files that leave this machine."""

import re
from pathlib import Path


def without_folder(source: str) -> str:
    """What a model or texts are called, without the folder they lie in here."""
    return Path(source).name if Path(source).is_absolute() else source


def plain_name(text: str, most: int) -> str:
    """At most so many small letters, digits, dashes and underscores, or `unnamed`."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:most] or "unnamed"
