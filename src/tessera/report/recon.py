"""The reconstruction of each tile: what came in, what was corrected, where the axis is."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
from markupsafe import Markup

from tessera.report import chart, picture
from tessera.report.page import Figure, Section, Table
from tessera.report.results import Results

_SHOWN = 4  # tiles with pictures of their own; all are in the table
_SIDE = 520


def section(results: Results) -> Section:
    """Return the section; without tiles it has no parts."""
    out = Section("recon", "Reconstruction")
    tiles = results.tiles
    if not tiles:
        return out
    axes = {tile: results.json("recon", tile, "axis.json") or {} for tile in tiles}
    least = min((a.get("confidence", 1.0) for a in axes.values()), default=1.0)
    many = f"{len(tiles)} tiles" if len(tiles) > 1 else "One tile"
    out.lead = (
        f"{many} reconstructed by filtered backprojection, each about the rotation axis that was "
        f"found in it; the least certain axis has a confidence of {least:.2f}."
    )
    first = results.arrays("recon", tiles[0], "qc.npz")
    pixel = _pixel_um(results, tiles[0])
    shown = tiles[:_SHOWN]
    span = {1: 3, 2: 3, 3: 2}.get(len(shown), 3)
    for tile in shown:
        quality = first if tile == tiles[0] else results.arrays("recon", tile, "qc.npz")
        out.add(_slice(tile, quality, pixel, span))
    out.add(_sinogram(tiles[0], first, "sinogram_raw", "Sinogram as recorded"))
    out.add(_sinogram(tiles[0], first, "sinogram_clean", "Sinogram after correction"))
    out.add(_axis(tiles[0], axes[tiles[0]]))
    out.add(_candidates(tiles[0], first))
    out.add(_closing(tiles[0], first))
    out.add(_profile(tiles[0], first, pixel))
    out.add(_flat(tiles[0], first))
    out.add(_table(results, axes))
    return out


def _pixel_um(results: Results, tile: str) -> float | None:
    volume = results.volume("recon", tile, "tile.zarr")
    return volume.voxel_um[2] if volume else None


def _slice(
    tile: str, quality: dict[str, np.ndarray], pixel: float | None, span: int
) -> Figure | None:
    data = quality.get("slice")
    if data is None:
        return None
    small = picture.shrink(data, _SIDE)
    scale = pixel * data.shape[1] / small.shape[1] if pixel else None
    row = f", row {int(quality['row'])}" if "row" in quality else ""
    body = picture.image(picture.grey(small), f"Reconstructed slice of {tile}", scale)
    return Figure(body, f"{tile}{row}. Black to white: the middle 99 % of the values.", span)


def _sinogram(tile: str, quality: dict[str, np.ndarray], key: str, title: str) -> Figure | None:
    data = quality.get(key)
    if data is None:
        return None
    small = picture.shrink(data, 700)
    ring = quality.get("ring_score")
    which = 0 if key.endswith("raw") else 1
    score = f" Ring score {ring[which]:.3g}." if ring is not None and len(ring) == 2 else ""
    stretch = max(0.25, min(1.0, 0.62 * small.shape[1] / small.shape[0]))
    body = picture.image(
        picture.grey(small), f"{title}: angle downwards, detector column across", aspect=stretch
    )
    return Figure(body, f"{tile}: angle downwards, detector column across.{score}", 3, title)


def _axis(tile: str, axis: dict[str, Any]) -> Figure | None:
    candidates = axis.get("candidates") or []
    if len(candidates) < 2:
        return None
    column = float(axis["column"])
    pairs = sorted((float(c), float(s)) for c, s in candidates)
    curve = chart.Line("cost", [c for c, _ in pairs], [s for _, s in pairs])
    body = chart.lines(
        [curve],
        f"Cost of each candidate rotation axis of {tile}; the best is column {column:.2f}",
        "detector column",
        "mismatch",
        marks=[(column, f"{column:.2f}")],
    )
    return Figure(
        body,
        f"{tile}: mismatch between the first projection and the mirrored last one, for each column "
        "that the axis could stand on. One clear minimum is what one wants to see.",
        3,
        "Rotation axis",
    )


def _candidates(tile: str, quality: dict[str, np.ndarray]) -> Figure | None:
    sheet = quality.get("axis_candidates")
    if sheet is None:
        return None
    body = picture.image(sheet, f"The middle row of {tile} about candidates for the rotation axis")
    return Figure(
        body,
        f"{tile}: one row, reconstructed about the axis that was taken, two columns to either side "
        "of it, and the other minima of the search. About a wrong axis edges double and points "
        "become arcs.",
        6,
        "Candidates for the rotation axis",
    )


def _closing(tile: str, quality: dict[str, np.ndarray]) -> Figure | None:
    rows = quality.get("first_and_mirrored_last")
    if rows is None or len(rows) != 2:
        return None
    columns = list(range(rows.shape[1]))
    curves = [
        chart.Line("first", columns, rows[0].tolist(), "c0"),
        chart.Line("last, mirrored", columns, rows[1].tolist(), "c1"),
    ]
    body = chart.lines(
        curves, f"First and mirrored last projection of {tile}", "detector column", "line integral"
    )
    return Figure(
        body,
        f"{tile}: half a turn apart, one projection is the other's mirror image. Their offset is "
        "twice the axis' distance from the middle of the detector.",
        3,
        "Half a turn apart",
    )


def _profile(tile: str, quality: dict[str, np.ndarray], pixel: float | None) -> Figure | None:
    values = quality.get("profile")
    if values is None:
        return None
    step = pixel or 1.0
    places = ((np.arange(len(values)) - (len(values) - 1) / 2) * step).tolist()
    unit = "µm" if pixel else "voxels"
    body = chart.lines(
        [chart.Line("attenuation", places, values.tolist())],
        f"Attenuation along a line through the middle of {tile}",
        f"distance from the axis ({unit})",
        "1/cm" if pixel else "1/pixel",
    )
    return Figure(
        body,
        f"{tile}: attenuation along a line through the axis. A level that sags in the middle would "
        "be cupping, one that rises at the rim a truncated field.",
        3,
        "Line profile",
    )


def _flat(tile: str, quality: dict[str, np.ndarray]) -> Figure | None:
    pairs = [(name, quality[name]) for name in ("flat", "dark") if name in quality]
    if not pairs:
        return None
    body = Markup("")
    for name, data in pairs:
        small = picture.shrink(data, 500)
        stretch = 1.0 if small.shape[0] * 4 > small.shape[1] else small.shape[1] / 4 / len(small)
        body += picture.image(picture.grey(small), f"{name} field of {tile}", aspect=stretch)
    body = Markup('<div class="stack">{}</div>').format(body)
    names = " and ".join(f"{n} ({np.median(d):.4g} counts)" for n, d in pairs)
    return Figure(body, f"{tile}: {names}, as the detector saw them.", 3, "Flat and dark field")


def _table(results: Results, axes: dict[str, dict[str, Any]]) -> Table:
    errors = _errors(results)
    rows = []
    for tile, axis in axes.items():
        ring = results.arrays("recon", tile, "qc.npz").get("ring_score")
        cells = [
            tile,
            f"{axis.get('column', float('nan')):.2f}",
            f"{axis.get('tilt_deg', 0.0):+.3f}",
            f"{axis.get('confidence', float('nan')):.2f}",
            f"{ring[0]:.3g} → {ring[1]:.3g}" if ring is not None and len(ring) == 2 else "–",
        ]
        if errors:
            cells.append(errors.get(tile, "–"))
        rows.append(cells)
    head = ["Tile", "Axis (column)", "Tilt (deg)", "Confidence", "Ring score"]
    return Table(
        head + (["Axis error (columns)"] if errors else []),
        rows,
        "The rotation axis and the stripes of each tile"
        + (", with the axis' error against the simulated truth." if errors else "."),
    )


def _errors(results: Results) -> dict[str, str]:
    path = results.root / "evaluate" / "tiles.csv"
    if not path.is_file():
        return {}
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        r["tile"]: f"{float(r['axis_error_columns']):+.3f}" for r in rows if r["axis_error_columns"]
    }
