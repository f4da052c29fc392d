"""Where the tiles are: ``positions.json`` from the overlaps of all tiles.

1. Pairs that overlap at their nominal places (and in their circles) are measured.
2. Tiles that no good pair connects are looked for further away, by :data:`WIDER` times the reach.
3. One solution for all; gain and offset of each tile; the gate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera.config import Mosaic
from tessera.errors import TesseraError
from tessera.mosaic.brightness import match_brightness
from tessera.mosaic.overlap import find_pairs
from tessera.mosaic.pair import Measured, measure
from tessera.mosaic.solve import Solution, connected, gate, good, solve
from tessera.mosaic.tile import Tile, Vector, frame_box, open_tiles, to_vector
from tessera.mosaic.turn import Turn
from tessera.volume.record import atomic_write

WIDER = 3.0


@dataclass(frozen=True)
class Place:
    """One tile of ``positions.json``, as fusion needs it.

    Attributes:
        folder: where its ``tile.zarr`` is.
        offset: solved place of its first voxel in the fused volume (z, y, x), in voxels.
        gain, offset_value: its values become gain * value + offset_value.
    """

    name: str
    folder: Path
    offset: Vector
    gain: float
    offset_value: float


def register(folders: Sequence[Path], settings: Mosaic) -> dict[str, Any]:
    """Measure, solve and judge; returns the content of ``positions.json``.

    Raises:
        TesseraError: tiles that are no tiles of one mosaic, or none of which overlap.
    """
    return solve_tiles(open_tiles(folders), settings)


def solve_tiles(tiles: list[Tile], settings: Mosaic) -> dict[str, Any]:
    """Do the same for tiles that are open."""
    pairs = measure_pairs(tiles, settings)
    solution = solve(len(tiles), pairs, settings.min_quality, settings.max_residual_vox)
    gains, offsets = np.ones(len(tiles)), np.zeros(len(tiles))
    if settings.match_brightness:
        used = [p for p, u in zip(pairs, solution.used, strict=True) if u]
        gains, offsets = match_brightness(len(tiles), used)
    reason = gate([t.name for t in tiles], pairs, solution, settings.min_quality)
    return _content(tiles, pairs, solution, gains, offsets, reason)


def measure_pairs(tiles: list[Tile], settings: Mosaic) -> list[Measured]:
    """Measure all overlaps, and look further for tiles that none connects."""
    nominal = find_pairs(tiles)
    if len(tiles) > 1 and not nominal:
        raise TesseraError(
            f"no two of {len(tiles)} tiles overlap at their stage positions; check that positions "
            "and voxel size have the same unit"
        )
    found = {(p.a, p.b): measure(tiles, p, settings.max_shift_vox) for p in nominal}
    believed = [m for m in found.values() if good(m, settings.min_quality)]
    lost = ~connected(len(tiles), believed)
    if lost.any():
        reach = WIDER * settings.max_shift_vox
        for p in find_pairs(tiles, margin=int(np.ceil(reach))):
            if lost[p.a] or lost[p.b]:
                found[p.a, p.b] = measure(tiles, p, reach)
    return [found[key] for key in sorted(found)]


def _content(
    tiles: list[Tile],
    pairs: list[Measured],
    solution: Solution,
    gains: np.ndarray,
    offsets: np.ndarray,
    reason: str,
) -> dict[str, Any]:
    voxel = np.array(tiles[0].volume.voxel_um)
    frame = frame_box(tiles)
    used_norms = np.linalg.norm(solution.residuals, axis=1)[solution.used]
    entries = []
    for number, tile in enumerate(tiles):
        nominal = np.array(tile.volume.origin_um) + np.array(tile.centre_vox) * voxel
        moved = solution.corrections[number]
        entries.append(
            {
                "name": tile.name,
                "folder": str(tile.folder),
                "shape": list(tile.shape),
                "valid_radius_vox": tile.radius_vox,
                "nominal_um": _list(nominal),
                "solved_um": _list(nominal + moved * voxel),
                "nominal_vox": _list(nominal / voxel),
                "solved_vox": _list(nominal / voxel + moved),
                "correction_vox": _list(moved),
                "offset_vox": _list(np.array(tile.offset) + moved - frame.start),
                "gain": round(float(gains[number]), 9),
                "offset": round(float(offsets[number]), 9),
                "reached": bool(solution.reached[number]),
            }
        )
    return {
        "anchor": tiles[0].name,
        "voxel_um": _list(voxel),
        "frame": {
            "shape": list(frame.shape),
            "origin_um": _list(np.array(tiles[0].volume.origin_um) + np.array(frame.start) * voxel),
        },
        "tiles": entries,
        "pairs": [
            _pair(tiles, pair, residual, bool(used))
            for pair, residual, used in zip(pairs, solution.residuals, solution.used, strict=True)
        ],
        "rms_vox": round(solution.rms_vox, 6),
        "max_residual_vox": round(float(used_norms.max(initial=0.0)), 6),
        "gate": {"passed": not reason, "reason": reason or None},
    }


def _pair(tiles: list[Tile], pair: Measured, residual: np.ndarray, used: bool) -> dict[str, Any]:
    return {
        "a": tiles[pair.pair.a].name,
        "b": tiles[pair.pair.b].name,
        "overlap_vox": list(pair.pair.box.shape),
        "shift_vox": _list(pair.shift),
        "quality": round(pair.quality, 6),
        "regions": {"agreed": pair.agreed[0], "looked_at": pair.agreed[1]},
        "spread_vox": round(pair.spread_vox, 6),
        "residual_vox": _list(residual),
        "residual": round(float(np.linalg.norm(residual)), 6),
        "used": used,
        "turn": _turn(pair.turn),
    }


def _turn(turn: Turn | None) -> dict[str, Any] | None:
    if turn is None:
        return None
    return {
        "rotation_deg": _list(turn.rotation_deg),
        "scale": round(turn.scale, 6),
        "there": turn.there,
    }


def _list(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(v), 6) for v in values]


def write_positions(path: Path, content: dict[str, Any]) -> None:
    """Write ``positions.json``; folders in it are relative to its own."""
    base = path.resolve().parent
    tiles = [
        t | {"folder": os.path.relpath(Path(t["folder"]).resolve(), base)} for t in content["tiles"]
    ]
    atomic_write(path, json.dumps(content | {"tiles": tiles}, indent=1) + "\n")


def read_positions(path: Path) -> tuple[dict[str, Any], list[Place]]:
    """Read ``positions.json``.

    Raises:
        TesseraError: if it cannot be read, or its gate is shut.
    """
    try:
        content = json.loads(path.read_text())
        places = [
            Place(
                t["name"],
                path.parent / t["folder"],
                to_vector(t["offset_vox"]),
                float(t["gain"]),
                float(t["offset"]),
            )
            for t in content["tiles"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TesseraError(
            f"{path}: cannot be read as tile positions ({error}); run 'tessera mosaic register'"
        ) from None
    if not content["gate"]["passed"]:
        raise TesseraError(f"{path}: {content['gate']['reason']}")
    return content, places
