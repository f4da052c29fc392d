"""Where the tiles were put and where their axes were found, against the truth.

The frame is anchored by the first tile in name order, whose stage position is taken as true by
all stages. Nothing else is fitted or subtracted: the error of a tile is its solved less its true
position. The anchor has no error by construction and is left out of the root mean square.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera.errors import TesseraError
from tessera.evaluate.density import Disc
from tessera.evaluate.scores import Score, root_mean_square, score


@dataclass(frozen=True)
class TileErrors:
    """Errors of one tile; NaN where a file is not given.

    Attributes:
        name: of the tile.
        anchor: True for the tile that anchors the frame.
        nominal_vox: stage position less true position (z, y, x), in voxels.
        solved_vox: solved position less true position (z, y, x), in voxels.
        axis_vox: rotation axis found less true axis, in columns.
    """

    name: str
    anchor: bool
    nominal_vox: np.ndarray
    solved_vox: np.ndarray
    axis_vox: float


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that an earlier stage wrote.

    Raises:
        TesseraError: it is missing or broken.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TesseraError(
            f"{path}: cannot be read ({error}); run the stage that makes it"
        ) from None
    if not isinstance(found, dict):
        raise TesseraError(f"{path}: is not a JSON object; run the stage that makes it again")
    return found


def tile_errors(
    truth: dict[str, Any], positions: dict[str, Any] | None, axes: Sequence[Path]
) -> list[TileErrors]:
    """Return the errors of all tiles, in name order.

    Args:
        truth: content of ``simulate/truth.json``.
        positions: content of ``mosaic/positions.json``.
        axes: files ``recon/<tile>/axis.json``; the folder is the tile's name.

    Raises:
        TesseraError: a tile has no truth.
    """
    voxel = np.array(truth["voxel_um"])
    placed = {t["name"]: t for t in (positions or {}).get("tiles", [])}
    found = {path.parent.name: float(read_json(path)["column"]) for path in axes}
    unknown = sorted((set(placed) | set(found)) - set(truth["tiles"]))
    if unknown:
        raise TesseraError(f"truth: knows no tile '{unknown[0]}'; give the truth of these scans")
    names = sorted(set(placed) | set(found))
    anchor = (positions or {}).get("anchor", min(truth["tiles"]))
    unset = np.full(3, np.nan)
    rows = []
    for name in names:
        true = truth["tiles"][name]
        at = np.array(true["true_um"])
        solved = np.array(placed[name]["solved_um"]) if name in placed else unset
        column = found.get(name, float("nan")) - true["axis_column"]
        nominal = (np.array(true["nominal_um"]) - at) / voxel
        rows.append(TileErrors(name, name == anchor, nominal, (solved - at) / voxel, column))
    return rows


def tile_scores(tiles: Sequence[TileErrors], draws: int) -> dict[str, Score]:
    """Return ``tiles.position_rms``, its start ``tiles.stage_rms`` and the axes' errors."""
    out = {}
    free = [t for t in tiles if not t.anchor]
    if free and np.isfinite([t.solved_vox for t in free]).all():
        solved = np.array([t.solved_vox for t in free])
        stage = np.array([t.nominal_vox for t in free])
        out["tiles.position_rms"] = _rms(np.square(solved).sum(1), draws, "vox")
        out["tiles.stage_rms"] = _rms(np.square(stage).sum(1), draws, "vox")
        worst = float(np.linalg.norm(solved, axis=1).max())
        out["tiles.position_max"] = Score(worst, "vox", len(free), of="tiles")
    axes = np.array([t.axis_vox for t in tiles if np.isfinite(t.axis_vox)])
    if len(axes):
        out["tiles.axis_rms"] = _rms(axes**2, draws, "columns")
        out["tiles.axis_max"] = Score(float(abs(axes).max()), "columns", len(axes), of="tiles")
    return out


def trust_scores(positions: dict[str, Any] | None, axes: Sequence[Path]) -> dict[str, Score]:
    """Return what can be said without a truth: each tile's axis, its confidence, the residual.

    Args:
        positions: content of ``mosaic/positions.json``.
        axes: files ``recon/<tile>/axis.json``.
    """
    out = {}
    sure = []
    for path in axes:
        axis = read_json(path)
        out[f"axis.{path.parent.name}"] = Score(float(axis["column"]), "columns", 1, of="tiles")
        sure.append(float(axis["confidence"]))
    if sure:
        out["tiles.axis_confidence"] = Score(min(sure), "1", len(sure), of="tiles")
    used = [p for p in (positions or {}).get("pairs", []) if p["used"]]
    if positions and used:
        out["tiles.residual_rms"] = Score(float(positions["rms_vox"]), "vox", len(used), of="pairs")
    return out


def _rms(squares: np.ndarray, draws: int, unit: str) -> Score:
    units = np.stack([np.ones(len(squares)), squares], 1)
    return score(units, root_mean_square, draws, unit, "tiles")


def discs(positions: dict[str, Any]) -> list[Disc]:
    """Return where each tile is true, in voxels of the fused volume."""
    out = []
    for tile in positions.get("tiles", []):
        z, y, x = tile["offset_vox"]
        rows, height, width = tile["shape"]
        middle = y + (height - 1) / 2, x + (width - 1) / 2
        out.append(Disc(z, z + rows, *middle, float(tile["valid_radius_vox"])))
    return out
