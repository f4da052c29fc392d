"""The settings of ``config.yaml`` as a JSON schema and as a page, generated from the models.

``make schema`` writes ``workflow/schemas/config.schema.json``, for editors that complete and check
YAML, and ``docs/config.md``, for people. A test holds them and the models together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tessera.config import Config, Section

FILES = ("workflow/schemas/config.schema.json", "docs/config.md")

_HEAD = """# Settings

Every key of `config.yaml`, with its kind, its default and what it means. Sizes and places are in
the order z, y, x. A key that is not here is refused, with the nearest that is. Where and with how
many cores, how much memory and time a job runs is a profile's business, see [cluster](cluster.md).

This page and `workflow/schemas/config.schema.json` are written by `make schema`.
"""


def schema_text() -> str:
    """Return the schema as JSON text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | (
        Config.model_json_schema()
    )
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def page_text() -> str:
    """Return the settings as a page in Markdown: a table for each section."""
    parts = [_HEAD]
    for name, kind in _sections(Config, ""):
        parts.append(f"## {f'`{name}`' if name else 'The file'}\n")
        parts.append(f"{(kind.__doc__ or '').strip()}\n")
        parts.append("| key | kind | default | |\n|---|---|---|---|")
        parts += [_row(key, field) for key, field in kind.model_fields.items()]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _sections(kind: type[BaseModel], path: str) -> list[tuple[str, type[BaseModel]]]:
    """A model and those inside it, each with its place in the file, outermost first."""
    found = [(path, kind)]
    for key, field in kind.model_fields.items():
        for inner, suffix in _models_in(field.annotation):
            found += _sections(inner, f"{path}.{key}{suffix}".lstrip("."))
    return found


def _models_in(annotation: Any, suffix: str = "") -> list[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, suffix)]
    origin = getattr(annotation, "__origin__", None)
    more = {dict: ".NAME", tuple: "[]"}.get(origin, "") if origin is not None else ""
    found: list[tuple[type[BaseModel], str]] = []
    for inner in getattr(annotation, "__args__", ()):
        found += [m for m in _models_in(inner, suffix + more) if m not in found]
    return found


def _row(key: str, field: FieldInfo) -> str:
    text = (field.description or "").replace("|", "\\|")
    return f"| `{key}` | {_kind(field)} | {_default(field)} | {text} |"


def _kind(field: FieldInfo) -> str:
    text = _kind_of(field.annotation)
    bounds = []
    for rule in field.metadata:
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
            if hasattr(rule, name):
                bounds.append(f"{sign} {getattr(rule, name):g}")
    return f"{text}, {', '.join(bounds)}" if bounds else text


def _kind_of(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    origin = getattr(annotation, "__origin__", None)
    inner: tuple[Any, ...] = getattr(annotation, "__args__", ())
    if "Literal" in str(origin):
        return ", ".join(f"`{value}`" for value in inner)
    if "Annotated" in type(annotation).__name__:
        return _kind_of(origin)
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"list of {_kind_of(inner[0])}"
        return f"{len(inner)} x {_kind_of(inner[0])}"
    if origin is dict:
        return f"NAME: {_kind_of(inner[1])}"
    if inner:  # a union
        return " or ".join(_kind_of(a) for a in inner if a is not type(None))
    return {"str": "text", "bool": "true or false", "int": "whole number", "float": "number"}.get(
        getattr(annotation, "__name__", ""), "anything"
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel | dict):
        return "see below" if isinstance(value, BaseModel) else ""
    if value is None or value == ():
        return ""
    shown = json.dumps(value)
    return f"`{shown}`"


def main() -> None:
    """Write both files below the current folder."""
    for path, text in zip(FILES, (schema_text(), page_text()), strict=True):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)


if __name__ == "__main__":
    main()
