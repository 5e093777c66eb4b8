"""What holds the science's functions to the shapes and types they are written with, in the tests of
the science; elsewhere the same functions run by the million."""

from collections.abc import Callable
from pathlib import Path

import jaxtyping
import pytest
from beartype import beartype

SCIENCE = ("energylens", "lens", "stats")


def checked(function: Callable) -> Callable:
    """Held at each call; functions inside of functions are not, for they are made at each call and
    a check would be compiled for each."""
    return function if "<locals>" in function.__qualname__ else beartype(function)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    room = item.path.relative_to(Path(__file__).parent).parts[0]
    jaxtyping.config.update("jaxtyping_disable", room not in SCIENCE)
