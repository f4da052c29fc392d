"""``config.yaml``: all sections as one frozen model, what holds between them, and how it is read.

A stage sees its own section alone (:mod:`tessera.settings`). Units stand in the names (``_um``,
``_vox``, ``_deg``); where a job runs (threads, memory, queues) is a profile's business and never
stands here.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from tessera.errors import TesseraError
from tessera.settings.model import Augment, Model
from tessera.settings.scan import Axis, Mosaic, Phase, Recon, Rings, Simulate
from tessera.settings.section import S, Section, section_json
from tessera.settings.segment import Analyse, Assembly, Evaluate, Fill, Label, Predict, Report
from tessera.settings.source import (
    BoxSetting,
    LabelledVolume,
    LabelSource,
    TrainSplit,
    VolumeSource,
)

__all__ = [
    "Analyse",
    "Assembly",
    "Augment",
    "Axis",
    "BoxSetting",
    "Config",
    "Evaluate",
    "Fill",
    "Label",
    "LabelSource",
    "LabelledVolume",
    "Model",
    "Mosaic",
    "Phase",
    "Predict",
    "Recon",
    "Report",
    "Rings",
    "Section",
    "Simulate",
    "TrainSplit",
    "VolumeSource",
    "parse_config",
    "parse_section",
    "read_config",
    "section_json",
]


class Config(Section):
    """The whole of ``config.yaml``."""

    specimen: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    results: str = "results"
    scans: str | tuple[str, ...] | None = Field(None, description="glob or list of raw scans")
    volume: VolumeSource | None = Field(None, description="start from a volume that exists")
    simulate: Simulate | None = Field(None, description="start from a simulated specimen")
    recon: Recon = Recon()
    mosaic: Mosaic = Mosaic()
    models: dict[str, Model] = Field(default_factory=dict)
    predict: Predict = Predict()
    label: Label = Label()
    analyse: Analyse = Analyse()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()

    @model_validator(mode="after")
    def _one_start(self) -> Config:
        starts = [n for n in ("scans", "volume", "simulate") if getattr(self, n) is not None]
        if len(starts) != 1:
            named = " and ".join(starts) or "none of them"
            raise ValueError(f"give one of scans, volume or simulate as the start, not {named}")
        return self

    @model_validator(mode="after")
    def _ensembles(self) -> Config:
        for name, model in self.models.items():
            for member in model.ensemble:
                known = self.models.get(member)
                if known is None or known.ensemble or known.net == "ffn":
                    raise ValueError(
                        f"models.{name}.ensemble names '{member}', which is no model that is "
                        "trained block by block; name such models of this config"
                    )
                if (known.classes, known.target) != (model.classes, model.target):
                    raise ValueError(
                        f"models.{name}.ensemble: '{member}' has other classes or another target; "
                        "an ensemble is of models that say the same things"
                    )
        return self

    @model_validator(mode="after")
    def _uses_apart(self) -> Config:
        """A volume that is named twice keeps its uses apart all the same."""
        for name, model in self.models.items():
            if not model.is_trained:
                continue
            own = [("split", self.volume, model.split)] if self.volume and model.labels else []
            others = [
                (f"volumes.{n}.split", one.volume, one.split) for n, one in enumerate(model.volumes)
            ]
            used = [
                (where, (volume.path, volume.dataset), use, box)
                for where, volume, split in own + others
                for use in ("train", "validation", "test")
                for box in getattr(split, use) or ((BoxSetting(),) if _whole(split, use) else ())
            ]
            for i, (where, data, use, box) in enumerate(used):
                for other_where, other_data, other_use, other in used[i + 1 :]:
                    if data == other_data and use != other_use and box.overlaps(other):
                        raise ValueError(
                            f"models.{name}: {where}.{use} from {box.start} and "
                            f"{other_where}.{other_use} from {other.start} overlap, for both are "
                            f"boxes of {data[0]}; move one so that no voxel has two uses"
                        )
        return self


def _whole(split: TrainSplit, use: str) -> bool:
    """True if training takes the whole volume because no box is given."""
    return use == "train" and not split.train


def parse_config(data: Any, where: str = "config") -> Config:
    """Turn what YAML or Snakemake read into settings; one sentence if it is wrong.

    Raises:
        TesseraError: with the first fault, its place, and the nearest known key.
    """
    if not isinstance(data, dict):
        raise TesseraError(f"{where}: expected settings as 'key: value' lines")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise TesseraError(_sentence(error, where)) from None


def read_config(path: str | Path) -> Config:
    """Read a ``config.yaml``."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise TesseraError(f"{path}: cannot be read ({error.strerror}); give a config") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        first = " ".join(str(error).split())
        raise TesseraError(f"{path}: is not YAML: {first}") from None
    return parse_config(data, str(path))


def parse_section(kind: type[S], text: str) -> S:
    """Read one section from the JSON that a rule hands to a command."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise TesseraError(_sentence(error, f"settings of {kind.__name__.lower()}")) from None


def _sentence(error: ValidationError, where: str) -> str:
    """One sentence for the first thing wrong; how many more there are, if any."""
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        *parents, key = first["loc"]
        near = difflib.get_close_matches(str(key), _known_keys(None, tuple(parents)), 1, 0.5)
        hint = f"; did you mean '{near[0]}'?" if near else "; remove it or see docs/config.md"
        text = f"{where}: unknown key '{place}'{hint}"
    else:
        message = first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        text = f"{where}: '{place}': {message}{shown}"
    more = error.error_count() - 1
    return text + (f" (and {more} more)" if more else "")


def _known_keys(data: Any, location: tuple[Any, ...]) -> list[str]:
    """Names allowed where a validation error happened, by walking the models."""
    model: Any = Config
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            annotation = model.model_fields[part].annotation if part in model.model_fields else None
        else:
            continue
        model = next((m for m in _models_in(annotation)), model)
    return list(model.model_fields) if model is not None else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for inner in getattr(annotation, "__args__", ()):
        found += _models_in(inner)
    return found
