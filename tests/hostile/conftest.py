"""How many cases each test tries, and values that nobody thinks of.

Few cases by default; ENERGYLENS_HOSTILE_CASES sets the number in a long run.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from energylens.db.store import Store
from energylens.queries.catalog import open_catalog

N_CASES = int(os.environ.get("ENERGYLENS_HOSTILE_CASES", "60"))
IS_LONG = N_CASES > 60

odd_texts: st.SearchStrategy[str] = st.one_of(
    st.text(st.characters(codec=None), max_size=20),  # lone surrogates too
    st.sampled_from([
        "", "\0", "a\0b", "\ufeffx", "\udcff", "\ud800", "\x1b]0;x\x07", "\u202e", "../../x", "/x",
        "[bold]x[/]", "x" * 5000, "1" * 5000, "-1", "NaN", "$x", "{}", "'", '"', "%s", "\\",
    ]),
)  # fmt: skip
"""Texts as nobody would write them."""

json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), odd_texts,
        st.sampled_from([10**400, -(10**400), 2**63, -(2**63) - 1, 1e308, 5e-324, -0.0]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
"""Values that JSON can hold, NaN and infinities as Python writes them included."""


@pytest.fixture(scope="module")
def rich_store(rich_path: Path) -> Iterator[Store]:
    """A store with rows of every table, open."""
    with open_catalog(rich_path) as store:
        yield store
