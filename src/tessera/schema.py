"""The JSON schema of ``config.yaml``, generated from the settings models.

``python -m tessera.schema`` prints it; ``workflow/schemas/config.schema.json`` is that output, for
editors that complete and check YAML. A test holds the two together.
"""

from __future__ import annotations

import json

from tessera.config import Config


def schema_text() -> str:
    """Return the schema as JSON text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | (
        Config.model_json_schema()
    )
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
