"""The schema and the settings page are those of the models, and a validator agrees with them."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tessera import schema
from tessera.config import parse_config
from tessera.errors import TesseraError

REPO = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("path", "make"), list(zip(schema.FILES, (schema.schema_text, schema.page_text), strict=True))
)
def test_written_files_are_those_of_the_models(path, make):
    assert (REPO / path).read_text() == make(), "run `make schema`"


@pytest.mark.parametrize(
    ("change", "sound"),
    [
        ({}, True),
        ({"recon": {"filter": "hann"}}, True),
        ({"recon": {"filtre": "hann"}}, False),
        ({"recon": {"rows": 0}}, False),
        ({"mosaic": {"shard": [64, 64]}}, False),
        ({"models": {"a": {"net": "vgg"}}}, False),
    ],
)
def test_a_validator_of_json_schema_agrees_with_the_models(change, sound):
    given = yaml.safe_load((REPO / "config.yaml").read_text()) | change
    validator = Draft202012Validator(json.loads(schema.schema_text()))
    assert validator.is_valid(given) is sound
    if sound:
        parse_config(given)
    else:
        with pytest.raises(TesseraError):
            parse_config(given)
