"""``store.json``: all that the jobs of fusion must agree on, decided once.

It holds the key of the result, the layout of the volume, the tiles with their solved places, the
number of batches, and what the finish needs. Fusion and finish take no settings of their own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera import __version__
from tessera.config import Mosaic
from tessera.errors import TesseraError
from tessera.mosaic.register import Place, read_positions
from tessera.mosaic.tile import Tile, open_tiles
from tessera.volume.box import Grid, Triple
from tessera.volume.record import atomic_write, make_key
from tessera.volume.statistics import percentiles
from tessera.volume.store import Layout, Volume, create_volume, open_volume

_WINDOW = (0.1, 99.9)  # percentiles of the tiles that an integer type's range spans


@dataclass(frozen=True)
class Plan:
    """Content of ``store.json``.

    Attributes:
        key: hash of all that the fused volume depends on.
        layout: of the fused volume.
        places: tiles with solved places, in name order.
        batches: number of batches.
        window: values that become 1 and the largest integer; None for float32. 0 is empty.
        tiff: write a TIFF stack at the finish.
    """

    key: str
    layout: Layout
    places: tuple[Place, ...]
    batches: int
    window: tuple[float, float] | None
    tiff: bool

    @property
    def grid(self) -> Grid:
        """Blocks of the volume: one shard each."""
        return Grid.of(self.layout.shape, self.layout.shard)


def make_plan(positions: Path, settings: Mosaic, batches: int) -> Plan:
    """Decide the layout and the window; reads the tiles once if the type is an integer.

    Raises:
        TesseraError: bad positions, tiles, or shards.
    """
    content, places = read_positions(positions)
    tiles = open_tiles([p.folder for p in places])
    layout = layout_of(
        settings,
        tuple(content["frame"]["shape"]),
        settings.dtype,
        tuple(content["voxel_um"]),
        tuple(content["frame"]["origin_um"]),
    )
    window = settings.window
    if settings.dtype == "float32":
        window = None
    elif window is None:
        window = _window(tiles, places)
    key = make_key(
        tiles=[
            (p.name, t.digest(), p.offset, p.gain, p.offset_value)
            for p, t in zip(places, tiles, strict=True)
        ],
        layout=asdict(layout) | {"levels": 0},
        window=window and (window, 1),
    )
    return Plan(key, layout, tuple(places), batches, window, settings.tiff)


def layout_of(
    settings: Mosaic,
    shape: Sequence[int],
    dtype: str,
    voxel_um: Sequence[float],
    origin_um: Sequence[float],
) -> Layout:
    """Return the layout of a mosaic's volume under its settings."""
    return Layout(
        Triple(*map(int, shape)),
        dtype,
        (float(voxel_um[0]), float(voxel_um[1]), float(voxel_um[2])),
        Triple(*settings.chunk),
        Triple(*settings.shard),
        origin_um=(float(origin_um[0]), float(origin_um[1]), float(origin_um[2])),
        levels=settings.levels,
    )


def _window(tiles: list[Tile], places: Sequence[Place]) -> tuple[float, float]:
    """Range of values of all tiles, matched in brightness, without the last per mille."""
    ends = [percentiles(open_volume(t.volume.path), _WINDOW, true_cylinder(t)) for t in tiles]
    matched = [p.gain * np.array(e) + p.offset_value for p, e in zip(places, ends, strict=True)]
    low = float(min(m[0] for m in matched))
    high = float(max(m[1] for m in matched))
    if not high > low:
        raise TesseraError(
            f"{tiles[0].folder}: all tiles hold one value; give mosaic.window or look at the scans"
        )
    return low, high


def true_cylinder(tile: Tile) -> np.ndarray | None:
    """Return the (y, x) mask of a tile's circle, or None where it has none."""
    if tile.radius_vox is None:
        return None
    y, x = (np.arange(n) - (n - 1) / 2 for n in tile.shape[1:])
    return np.asarray(np.hypot(y[:, None], x[None, :]) <= tile.radius_vox)


def prepare_volume(path: Path, layout: Layout, key: str, provenance: dict[str, Any]) -> Volume:
    """Create the volume, or keep the one that is there if it is the same under the same key.

    So a store that runs again (a touched file, a lost ``store.json``) loses no finished block.
    """
    told = provenance | {"version": __version__, "key": key, "layout": _layout_json(layout)}
    if (path / "zarr.json").is_file():
        try:
            there = open_volume(path)
        except TesseraError:
            return create_volume(path, layout, told)
        known = there.provenance
        if known.get("key") == key and known.get("layout") == told["layout"]:
            return there
    return create_volume(path, layout, told)


def _layout_json(layout: Layout) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(layout)))
    return plain


def write_plan(folder: Path, plan: Plan) -> None:
    """Write ``store.json``; folders of tiles in it are relative to its own."""
    base = folder.resolve()
    content = {
        "key": plan.key,
        "grid": {"shape": list(plan.layout.shape), "block": list(plan.layout.shard)},
        "layout": _layout_json(plan.layout),
        "tiles": [
            {
                "name": p.name,
                "folder": os.path.relpath(p.folder.resolve(), base),
                "offset": list(p.offset),
                "gain": p.gain,
                "offset_value": p.offset_value,
            }
            for p in plan.places
        ],
        "batches": plan.batches,
        "window": plan.window,
        "tiff": plan.tiff,
    }
    atomic_write(folder / "store.json", json.dumps(content, indent=1) + "\n")


def read_plan(folder: Path) -> Plan:
    """Read ``store.json`` of a mosaic folder.

    Raises:
        TesseraError: if it cannot be read.
    """
    path = folder / "store.json"
    try:
        data = json.loads(path.read_text())
        places = tuple(
            Place(
                t["name"],
                folder / t["folder"],
                tuple(t["offset"]),
                t["gain"],
                t["offset_value"],
            )
            for t in data["tiles"]
        )
        window = data["window"]
        return Plan(
            data["key"],
            layout_from_json(data["layout"]),
            places,
            int(data["batches"]),
            None if window is None else (float(window[0]), float(window[1])),
            bool(data["tiff"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TesseraError(
            f"{path}: cannot be read as a mosaic's plan ({error}); run 'tessera mosaic store'"
        ) from None


def layout_from_json(data: dict[str, Any]) -> Layout:
    """Return a layout from what :func:`write_plan` wrote."""
    return Layout(
        Triple(*data["shape"]),
        data["dtype"],
        tuple(data["voxel_um"]),
        Triple(*data["chunk"]),
        Triple(*data["shard"]),
        tuple(data["channels"]),
        tuple(data["origin_um"]),
        int(data["levels"]),
    )
