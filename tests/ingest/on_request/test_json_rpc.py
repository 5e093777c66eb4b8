"""The worker as programs meet it that know JSON-RPC 2.0 and the worker's schema, and no more.

Every line it writes is read by another project's reader of JSON-RPC, and held against the schemas
of the specification (written here from its text) and of the worker's own document.
"""

import json
from collections.abc import Iterator
from typing import Any

import mcp_types
import pytest
from jsonschema import Draft202012Validator

from energylens.wire_schema import openrpc
from tests.ingest.on_request.test_worker import Client, params, path, prompt, steer

__all__ = ["params", "path"]

TOLD = openrpc()
BY_NAME = {method["name"]: method for method in TOLD["methods"]}
ID = {"type": ["string", "integer", "null"]}
MARK = {"jsonrpc": {"const": "2.0"}}
SPECIFICATION = Draft202012Validator(
    {
        "oneOf": [
            {
                "properties": {**MARK, "id": ID, "result": {}},
                "required": ["jsonrpc", "id", "result"],
                "additionalProperties": False,
            },
            {
                "properties": {
                    **MARK,
                    "id": ID,
                    "error": {
                        "properties": {
                            "code": {"type": "integer"}, "message": {"type": "string"}, "data": {},
                        },
                        "required": ["code", "message"],
                        "additionalProperties": False,
                    },
                },
                "required": ["jsonrpc", "id", "error"],
                "additionalProperties": False,
            },
            {
                "properties": {
                    **MARK,
                    "method": {"type": "string"},
                    "params": {"type": ["object", "array"]},
                },
                "required": ["jsonrpc", "method"],
                "additionalProperties": False,
            },
        ]
    }
)  # fmt: skip


def validate(schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator(schema | {"components": TOLD["components"]}).validate(value)


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


def heard(client: Client) -> Any:
    """The next line, checked."""
    line = client.answers.readline()
    message = json.loads(line)
    SPECIFICATION.validate(message)
    read = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == message
    return message


def asked(client: Client, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request that the schema allows, with its reports and it checked."""
    told = BY_NAME[method]
    assert given.keys() == {one["name"] for one in told["params"]}
    for one in told["params"]:
        validate(one["schema"], given[one["name"]])
    client.send({"id": method, "method": method, "params": given})
    while (message := heard(client)).get("method") == "progress":
        notice = TOLD["x-notifications"][0]
        for one in notice["params"]:
            validate(one["schema"], message["params"][one["name"]])
        assert message["params"]["id"] == method
    assert message["id"] == method
    if "result" in message:
        validate(told["result"]["schema"], message["result"])
    else:
        assert message["error"]["code"] in {one["code"] for one in told["errors"]}
    return message


def test_every_answer_is_as_the_schema_says(client: Client, params: dict[str, Any]) -> None:
    edit = {"sae_id": "resid", "feature_ids": [3]}
    requests: dict[str, dict[str, Any]] = {
        "hello": {},
        "load": params,
        "open": params,
        "prompt": {**params, "request": {"text": "Fish.", "other": "Fist."}},
        "intervene": {**params, "request": {"text": "Fish.", "edit": edit, "keep": False}},
        "attribute": {**params, "request": {"text": "Fish.", "sae_id": "resid", "top": 2}},
        "steer": {
            **params,
            "request": {"prompt": "F", "edit": edit | {"kind": "add"}, "n_tokens": 2},
        },
        "attention": {**params, "request": {"layer": 0, "head": 0, "text": "Fish."}},
        "cancel": {"id": "nobody"},
    }
    for method, given in requests.items():
        assert "result" in asked(client, method, given), method


def test_errors_are_as_the_schema_says(client: Client, params: dict[str, Any]) -> None:
    sources = {"sae_id": "resid", "feature_id": 1, "text": "Fish."}
    refused = asked(client, "sources", {**params, "request": sources})
    assert refused["error"]["code"] == -32000 and refused["error"]["data"]["kind"] != "x"
    assert asked(client, "efas", {**params, "request": {"sae_id": "no", "variant": "own"}})["error"]
    for line in (b"nonsense\n", b"[]\n", b'{"jsonrpc": "2.0", "id": 1, "method": 2}\n'):
        client.send(line)
        assert heard(client)["error"]["code"] in (-32700, -32600)


def test_a_cancelled_request_ends_once(client: Client, params: dict[str, Any]) -> None:
    client.send(steer("long", params))
    client.send(prompt("next", params))
    client.send({"id": "stop", "method": "cancel", "params": {"id": "long"}})
    answers: dict[str, Any] = {}
    while len(answers) < 3:
        message = heard(client)
        if "id" in message:
            assert message["id"] not in answers
            answers[message["id"]] = message
    assert answers["long"]["error"]["code"] == -32800
    assert "result" in answers["next"] and answers["stop"]["result"] == {"cancelled": True}
