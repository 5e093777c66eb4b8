"""What reports need beyond the base install."""

from importlib.util import find_spec

from energylens.errors import MissingExtraError


def need_report(package: str = "matplotlib") -> None:
    """Make sure that figures can be drawn here, or what else a package of the extra does.

    Raises:
        MissingExtraError: the package is not installed.
    """
    if find_spec(package) is None:
        raise MissingExtraError("report", package)
