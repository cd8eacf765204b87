"""The JSON schema of rule files, for editors."""

from __future__ import annotations

from typing import Any

from replay.rules.axes import AXES
from replay.rules.model import Rules


def json_schema() -> dict[str, Any]:
    """Return the schema of a rule file as TOML has it: numbers are numbers or decimal text.

    Values with a closed list carry the sentence that explains them. What goes with what beyond the shape of the
    tables is not in a schema: ``replay rules check`` tells.
    """
    schema = Rules.model_json_schema(by_alias=True, mode="validation")
    _loosen(schema)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Rules of an exchange"
    for pattern, axis in AXES.items():
        key = pattern.rpartition(".")[2]
        for part in schema["$defs"].values():
            field = part.get("properties", {}).get(key)
            values = set(field.get("enum", [field.get("const")])) if isinstance(field, dict) else set()
            if values and values <= set(axis.now) and "description" not in field:
                field["description"] = " ".join(
                    f"{value}: {axis.now[value]}" for value in axis.now if value in values
                )
    return schema


def _loosen(node: Any) -> None:
    """Let exact numbers be written as TOML numbers or as text, as the reader takes them."""
    if isinstance(node, dict):
        if node.get("type") == "integer":
            node["type"] = ["number", "string"]
        for inner in node.values():
            _loosen(inner)
    elif isinstance(node, list):
        for inner in node:
            _loosen(inner)
