"""What a comparison may change by: `energy > 0.05` and the like, as `--fail-on` takes them."""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from energylens.errors import UsageError
from energylens.queries.names import nearest

_OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_FORM = re.compile(
    r"\s*([a-z_0-9]+)\s*(>=|<=|>|<)\s*(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)\s*", re.I | re.A
)
MEASURES = {
    "energy": "mean energy, other less first",
    "energy_low": "lower end of that difference's 95 % interval: above 0 it rose for sure",
    "energy_high": "upper end of it",
    "worst_category": "largest rise of energy in a category of texts",
    "fvu": "largest rise of fvu of an SAE",
    "l0": "largest change of l0 of an SAE, up or down",
    "live": "features of an SAE that were active and no longer are, most of all SAEs",
    "specialists": "categories that have lost their specialist at a place, over all places",
}
"""What may be bounded."""


@dataclass(frozen=True)
class Threshold:
    """A comparison fails where this holds."""

    measure: str
    sign: str
    bound: float

    def __str__(self) -> str:
        return f"{self.measure} {self.sign} {self.bound:g}"

    def holds(self, values: Mapping[str, float | None]) -> bool:
        """Whether the comparison is over the bound.

        Raises:
            UsageError: the two runs have nothing to measure it by.
        """
        value = values[self.measure]
        if value is None:
            raise UsageError(
                f"'{self}' cannot be judged: the runs share nothing that has {self.measure} "
                f"({MEASURES[self.measure]})"
            )
        return bool(_OPERATORS[self.sign](value, self.bound))


def parse_threshold(text: str) -> Threshold:
    """A threshold as it is written.

    Raises:
        UsageError: it is not `MEASURE > NUMBER`, or there is no such measure.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"--fail-on takes a measure and a bound, as 'energy > 0.05', not '{text}'")
    name = found[1].lower()
    if name not in MEASURES:
        near = ", ".join(nearest(name, MEASURES)) or ", ".join(MEASURES)
        raise UsageError(f"--fail-on knows no measure '{name}'; nearest: {near}")
    return Threshold(name, found[2], float(found[3]))
