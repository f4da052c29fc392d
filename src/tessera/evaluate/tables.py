"""Tables beside the scores: who was matched with whom, and how far off each tile is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np

from tessera.evaluate.detection import Census, Detection
from tessera.evaluate.tiles import TileErrors

Frame = tuple[tuple[float, float, float], tuple[float, float, float]]  # origin_um, voxel_um


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(header)
    write.writerows(rows)
    return out.getvalue()


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


def objects_csv(truth: Census, found: Census, result: Detection, frame: Frame) -> str:
    """Return one line an object or pair that is scored: ``match``, ``miss`` or ``false_alarm``."""
    origin, voxel = (np.array(part) for part in frame)
    size = float(np.prod(voxel))

    def true(row: int) -> list[str]:
        where = (origin + truth.centroid_vox[row] * voxel).tolist()
        return [str(truth.id[row]), *map(_number, (*where, truth.voxels[row] * size))]

    def predicted(row: int) -> list[str]:
        where = (origin + found.centroid_vox[row] * voxel).tolist()
        return [str(found.id[row]), *map(_number, (*where, found.voxels[row] * size))]

    rows: list[list[str]] = []
    listed = set()
    for row in np.flatnonzero(result.true_counts).tolist():
        partner = int(result.partner_of_truth[row])
        if partner < 0:
            rows.append(["miss", *true(row), *[""] * 5, ""])
        else:
            listed.add(partner)
            apart = _number(result.distance_um[row])
            rows.append(["match", *true(row), *predicted(partner), apart])
    for row in np.flatnonzero(result.found_counts).tolist():
        partner = int(result.partner_of_found[row])
        if partner < 0:
            rows.append(["false_alarm", *[""] * 5, *predicted(row), ""])
        elif row not in listed:
            apart = _number(result.distance_um[partner])
            rows.append(["match", *true(partner), *predicted(row), apart])
    columns = ("id", "z_um", "y_um", "x_um", "volume_um3")
    header = ["kind", *(f"true_{c}" for c in columns), *(f"found_{c}" for c in columns)]
    return _csv([*header, "distance_um"], rows)


def tiles_csv(tiles: Sequence[TileErrors]) -> str:
    """Return one line a tile: errors of stage and solution (voxels) and of the axis (columns)."""
    header = ["tile", "anchor"]
    header += [f"{kind}_error_{axis}_vox" for kind in ("stage", "solved") for axis in "zyx"]
    return _csv(
        [*header, "axis_error_columns"],
        (
            [t.name, int(t.anchor), *map(_number, (*t.nominal_vox, *t.solved_vox, t.axis_vox))]
            for t in tiles
        ),
    )


def blocks_csv(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Return hits, false alarms and misses of each block and class, (blocks, classes, 3)."""
    rows = (
        [block, name, *row]
        for block, per_class in enumerate(counts.tolist())
        for name, row in zip(classes, per_class, strict=True)
    )
    return _csv(["block", "class", "hits", "false_alarms", "misses"], rows)
