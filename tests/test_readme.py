"""README's five questions: SQL and Python give one answer, and its pages are there."""

import re
from pathlib import Path

import polars as pl
import pytest

import energylens
from tests.energylens.test_python import beside, folder

README = Path(__file__).parents[1] / "README.md"
__all__ = ["beside", "folder"]  # fixtures: the bundled model over a few of the bundled texts


def questions() -> list[tuple[str, str]]:
    """The statement and the expression of each."""
    found = re.findall(
        r"^\* `(FROM .*)`\n\* `(store\..*)`$", README.read_text("utf-8"), re.MULTILINE
    )
    return [(sql, python) for sql, python in found]


def test_there_are_five_questions_and_few_lines() -> None:
    text = README.read_text("utf-8")
    assert len(questions()) == text.count("\n**Wh") == 5
    assert len(text.splitlines()) <= 120


@pytest.mark.parametrize(("sql", "python"), questions())
def test_sql_and_python_answer_alike(sql: str, python: str, beside: Path) -> None:
    with energylens.open("demo.lens") as store:
        asked = store.sql(re.sub(r"'mesanet-categories-\w+'", f"'{store.info().run_id}'", sql))
        answered = eval(python, {"store": store})
        assert isinstance(answered, pl.DataFrame) and len(answered) > 0
        assert asked.select(answered.columns).equals(answered, null_equal=True)
