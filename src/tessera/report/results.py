"""What a results folder holds: every file is optional, and what is not there is not shown."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tessera.errors import TesseraError
from tessera.volume.store import Volume, open_volume


class Results:
    """The folder of one specimen, ``results/<specimen>``."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise TesseraError(f"{root}: no results here; give the folder of a specimen's results")
        self.root = root

    @property
    def specimen(self) -> str:
        """Name of the specimen."""
        return self.root.resolve().name

    def json(self, *parts: str) -> dict[str, Any] | None:
        """Read a JSON object; None if it is not there.

        Raises:
            TesseraError: it is there but broken.
        """
        path = self.root.joinpath(*parts)
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise TesseraError(f"{path}: cannot be read ({error}); run its stage again") from None
        return found if isinstance(found, dict) else None

    def lines(self, *parts: str) -> list[dict[str, Any]]:
        """Read a file of JSON lines; a torn last line is passed over."""
        path = self.root.joinpath(*parts)
        rows = []
        for line in path.read_text().splitlines() if path.is_file() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return [row for row in rows if isinstance(row, dict)]

    def arrays(self, *parts: str) -> dict[str, np.ndarray]:
        """Read an ``.npz``; empty if it is not there."""
        path = self.root.joinpath(*parts)
        if not path.is_file():
            return {}
        try:
            with np.load(path) as data:
                return {name: data[name] for name in data.files}
        except (OSError, ValueError) as error:
            raise TesseraError(f"{path}: cannot be read ({error}); run its stage again") from None

    def volume(self, *parts: str, level: int = 0) -> Volume | None:
        """Open a volume; None if it is not there."""
        path = self.root.joinpath(*parts)
        return open_volume(path, level) if (path / "zarr.json").is_file() else None

    @cached_property
    def tiles(self) -> list[str]:
        """Names of the reconstructed tiles."""
        return sorted(p.parent.name for p in self.root.glob("recon/*/axis.json"))

    @cached_property
    def models(self) -> list[str]:
        """Names of the trained models."""
        return sorted(p.parent.name for p in self.root.glob("train/*/model.json"))

    @cached_property
    def classes(self) -> list[tuple[str, str]]:
        """(model, class) of each class whose objects were labelled."""
        found = sorted(self.root.glob("label/*/*/labels.json"))
        return [(p.parent.parent.name, p.parent.name) for p in found]

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """All scores by name."""
        return self.json("evaluate", "metrics.json") or {}

    @cached_property
    def fused(self) -> dict[str, Any] | None:
        """What ``mosaic/volume.json`` says."""
        return self.json("mosaic", "volume.json")
