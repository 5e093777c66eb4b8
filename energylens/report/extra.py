"""What reports need beyond the base install."""

from importlib.util import find_spec

from energylens.errors import MissingExtraError


def need_report() -> None:
    """Make sure that figures can be drawn here.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("report", "matplotlib")
