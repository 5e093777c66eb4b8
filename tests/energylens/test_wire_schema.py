"""The schema of the worker's protocol says what is taken, and the pages made from it are of now."""

import json
import random
from dataclasses import asdict
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from benchmarks import worker_page
from energylens.errors import UsageError
from energylens.methods import METHODS, CancelRequest
from energylens.protocol import EditRequest, InterventionRequest, PromptRequest
from energylens.wire import decode
from energylens.wire_schema import openrpc, records
from tests.cli.test_cli import run
from tests.tui.bad_worker import lie

TOLD = json.loads(json.dumps(openrpc()))
STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**63, -(2**63), 10**30, "", "x", [], [1], ["x"], [None], {}, {"a": 1},
)  # fmt: skip


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Of a part of the document, with its records beside it."""
    return Draft202012Validator(schema | {"components": TOLD["components"]})


def of(record: type) -> Draft202012Validator:
    return validator({"$ref": f"#/components/schemas/{record.__name__}"})


def test_the_pages_are_of_now() -> None:
    """Made by: python -m benchmarks.worker_page."""
    assert (worker_page.DOCS / "worker.md").read_text("utf-8") == worker_page.page()
    assert (worker_page.DOCS / "worker.json").read_text("utf-8") == worker_page.schema()


def test_the_command_prints_the_schema() -> None:
    assert json.loads(run("worker", "--schema").stdout) == TOLD


def test_every_schema_is_one_and_every_reference_leads_to_one() -> None:
    schemas = TOLD["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    parts = json.dumps(TOLD).split('"$ref": "#/components/schemas/')[1:]
    assert {part.split('"')[0] for part in parts} <= set(schemas)
    assert [method["name"] for method in TOLD["methods"]] == [method.name for method in METHODS]


def test_fields_say_what_they_mean() -> None:
    schemas = TOLD["components"]["schemas"]
    top = schemas["PromptRequest"]["properties"]["top"]
    assert top["default"] == 10 and top["description"].startswith("Features reported for each")
    assert schemas["InterventionRequest"]["required"] == ["text", "edit"]
    assert schemas["InterventionRequest"]["description"].startswith("Run a text with features")
    assert "category" in schemas["When"]["properties"], "a record of another module"


def strangely(value: Any, by: random.Random) -> Any:
    """The same with one thing in it changed, left out or added."""
    if isinstance(value, dict) and value and by.random() < 0.8:
        name = by.choice(sorted(value))
        kept = {key: item for key, item in value.items() if key != name}
        what = by.random()
        if what < 0.2:
            return kept
        if what < 0.3:
            return value | {"unknown": 1}
        return kept | {name: strangely(value[name], by)}
    if isinstance(value, list) and value and by.random() < 0.6:
        at = by.randrange(len(value))
        return [*value[:at], strangely(value[at], by), *value[at + 1 :]]
    return by.choice(STRANGE)


READ = [record for record in records() if record is not CancelRequest]
"""Those that are decoded; the id that `cancel` names is held against those of requests."""


@pytest.mark.parametrize("record", READ, ids=lambda record: record.__name__)
def test_what_the_schema_allows_is_what_is_read(record: type) -> None:
    by, check, taken = random.Random(record.__name__), of(record), 0
    for number in range(300):
        raw = json.loads(json.dumps(asdict(lie(record, by, by.choice((None, 1))))))  # type: ignore[call-overload]
        raw = raw if number % 3 == 0 else strangely(raw, by)
        if "\\ud8" in json.dumps(raw):  # half a character is no text, which no schema can say
            continue
        try:
            check.validate(_finite(raw))
            is_allowed = True
        except ValidationError:
            is_allowed = False
        try:
            decode(record, raw)
            is_read = True
        except UsageError:
            is_read = False
        assert is_allowed == is_read, raw
        taken += is_read
    assert taken


def _finite(value: Any) -> Any:
    """As it travels: NaN and infinity are null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value


def test_requests_as_we_make_them_are_allowed() -> None:
    edit = EditRequest("resid", (1, 2), positions=(0,))
    for asked in (PromptRequest("x"), InterventionRequest("x", edit)):
        of(type(asked)).validate(json.loads(json.dumps(asdict(asked))))
