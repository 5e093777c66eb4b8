"""What figures are made from: a run, and how its names are written."""

from dataclasses import dataclass

from energylens.db.provenance import RunInfo
from energylens.db.store import Reader
from energylens.queries.display import visible

MOST_SAES = 8
"""SAEs that have a panel of their own, the first ones by layer."""


@dataclass(frozen=True)
class Source:
    """A run of an open store."""

    reader: Reader
    info: RunInfo
    n_texts: int

    @property
    def run(self) -> str:
        """Its name."""
        return self.info.run_id

    @property
    def saes(self) -> list[str]:
        """Its SAEs by layer."""
        return [s.sae_id for s in sorted(self.info.saes, key=lambda s: (s.layer, s.sae_id))]

    @property
    def panels(self) -> list[str]:
        """The SAEs that have a panel of their own."""
        return self.saes[:MOST_SAES]

    def said_of_panels(self) -> str:
        """A sentence where some SAEs are left out."""
        left = len(self.saes) - len(self.panels)
        return f" {left} more SAEs are left out." if left else ""


def short(name: str, length: int = 28) -> str:
    """A name as a label: one line, the middle left out where it is long."""
    shown = visible(name)
    half = (length - 1) // 2
    return shown if len(shown) <= length else f"{shown[:half]}…{shown[-half:]}"


def grid(n: int, across: int = 4) -> tuple[int, int]:
    """Rows and columns for n panels."""
    columns = min(n, across)
    return -(-n // columns), columns
