"""What a command needs beyond the base install."""

from importlib.util import find_spec

from energylens.errors import MODEL_PACKAGES, MissingExtraError


def need_models() -> None:
    """Make sure that models can be run here.

    Raises:
        MissingExtraError: a package of the extra 'models' is not installed.
    """
    for package in MODEL_PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError("models", package)
