"""As much of JSON Schema and OpenAPI 3.1 as the typed endpoints' documents use; more is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

_SCHEMA = {
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "description",
    "enum",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "properties",
    "required",
    "title",
    "type",
}
_OPERATION = {
    "description",
    "operationId",
    "parameters",
    "requestBody",
    "responses",
    "summary",
    "tags",
    "x-bentoml-name",
}
_TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


def check_document(document: dict[str, Any]) -> None:
    """Hold that it is OpenAPI 3.1."""
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert isinstance(document["info"]["title"], str)
    assert isinstance(document["info"]["version"], str)
    operations = [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    ids = [operation["operationId"] for *_, operation in operations if "operationId" in operation]
    assert len(set(ids)) == len(ids) > 0
    for path, method, operation in operations:
        assert path.startswith("/")
        assert method in _METHODS
        assert operation.keys() <= _OPERATION
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status)
            assert isinstance(response["description"], str)
            for content in response.get("content", {}).values():
                check_schema(document, content["schema"])
        for content in operation.get("requestBody", {}).get("content", {}).values():
            check_schema(document, content["schema"])
    for name, schema in document["components"]["schemas"].items():
        assert re.fullmatch(r"[\w.-]+", name, flags=re.ASCII)
        check_schema(document, schema)


def check_schema(document: dict[str, Any], schema: dict[str, Any]) -> None:
    assert schema.keys() <= _SCHEMA, schema.keys() - _SCHEMA
    if "$ref" in schema:
        resolve(document, schema)
        return
    kinds = schema.get("type", [])
    assert {kinds} if isinstance(kinds, str) else set(kinds) <= _TYPES
    assert len(set(schema.get("required", []))) == len(schema.get("required", []))
    assert set(schema.get("required", [])) <= schema.get("properties", {}).keys()
    for child in _children(schema):
        check_schema(document, child)


def _children(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from schema.get("properties", {}).values()
    yield from schema.get("anyOf", [])
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield schema[name]


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        assert schema["$ref"].startswith("#/")
        found: Any = document
        for piece in schema["$ref"][2:].split("/"):
            found = found[piece]
        schema = found
    return schema


def is_valid(document: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    """Whether ``value`` is what the schema describes."""
    schema = resolve(document, schema)
    kinds = schema.get("type", sorted(_TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not any(_is(kind, value) for kind in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return (
            value.keys() >= set(schema.get("required", []))
            and (schema.get("additionalProperties") is not False or value.keys() <= set(properties))
            and all(is_valid(document, properties[k], value[k]) for k in value if k in properties)
        )
    if isinstance(value, list):
        return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9) and all(
            is_valid(document, schema["items"], item) for item in value
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _is(kind: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "array": isinstance(value, list),
        "boolean": isinstance(value, bool),
        "integer": number and value == int(value),
        "null": value is None,
        "number": number,
        "object": isinstance(value, dict),
        "string": isinstance(value, str),
    }[kind]


def described(document: dict[str, Any], schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of the schema."""
    schema = resolve(document, schema)
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return st.one_of(*(_of(document, schema, kind) for kind in kinds))


def _of(document: dict[str, Any], schema: dict[str, Any], kind: str) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if kind == "object":
        return st.fixed_dictionaries(
            {name: described(document, child) for name, child in schema["properties"].items()}
        )
    if kind == "array":
        items = described(document, schema["items"])
        return st.lists(items, min_size=schema["minItems"], max_size=schema["maxItems"])
    floats = st.floats(low, high, allow_nan=False, allow_infinity=False)
    plain: dict[str, st.SearchStrategy[Any]] = {
        "null": st.none(),
        "boolean": st.booleans(),
        "string": st.text(max_size=20) | st.sampled_from(["nan", "None", "null", "\x00", "✈"]),
        "integer": st.integers(low, high) | st.integers(0, 255).map(float),
        "number": floats | st.integers(-(2**70), 2**70) | st.sampled_from([low, high]),
    }
    return plain[kind]
