"""The fused volume: where the tiles went, what came out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from tessera.report import chart, picture
from tessera.report.page import Figure, Section, Table
from tessera.report.results import Results
from tessera.report.tilemap import layers, tile_map
from tessera.volume.box import Box
from tessera.volume.store import Volume

_SIDE = 640
_WALK = 24  # slices that a reader can walk through
_WALK_SIDE = 420
_MOST_LAYERS = 3
_MOST_PAIRS = 60


def section(results: Results) -> Section:
    """Return the section; without a volume it has no parts."""
    out = Section("volume", "The volume")
    volume = fused_volume(results)
    positions = results.json("mosaic", "positions.json")
    out.lead = _lead(volume, positions)
    if positions and len(positions["tiles"]) > 1:
        _maps(out, positions)
    if volume is not None:
        span = display_range(results, volume)
        for part in _planes(volume, span):
            out.add(part)
        out.add(_walk(volume, span))
    out.add(_histogram(results))
    if positions and positions.get("pairs"):
        out.add(_pairs(positions))
    return out


def fused_volume(results: Results, most: int = 0) -> Volume | None:
    """Open the fused volume; with ``most``, the finest level no side of which is longer."""
    volume = results.volume("mosaic", "volume.zarr")
    if volume is None or not most:
        return volume
    level = 0
    while level + 1 < volume.levels and max(-(-n // 2**level) for n in volume.shape) > most:
        level += 1
    return results.volume("mosaic", "volume.zarr", level=level)


def display_range(results: Results, volume: Volume) -> picture.Range:
    """Return what is shown as black and white: the middle 98 % of the whole volume."""
    known = (results.fused or {}).get("statistics", {})
    if "p01" in known and known["p99"] > known["p01"]:
        room = 0.15 * (known["p99"] - known["p01"])
        return known["p01"] - room, known["p99"] + room
    z = volume.shape.z // 2
    return picture.window(volume.read(_plane(volume, 0, z)))


def _lead(volume: Volume | None, positions: dict[str, Any] | None) -> str:
    parts = []
    if positions and len(positions["tiles"]) > 1:
        used = sum(p["used"] for p in positions["pairs"])
        parts.append(
            f"{len(positions['tiles'])} tiles placed by one least-squares solution over {used} "
            f"overlaps, whose residual is {positions['rms_vox']:.3f} voxel (RMS)"
        )
    if volume is not None:
        size = " × ".join(str(n) for n in volume.shape)
        um = " × ".join(
            picture.length_text(round(n * v))
            for n, v in zip(volume.shape, volume.voxel_um, strict=True)
        )
        parts.append(f"{size} voxels (z, y, x), or {um}")
    return "; ".join(parts) + "." if parts else ""


def _maps(out: Section, positions: dict[str, Any]) -> None:
    heights = layers(positions)
    moved = max(np.abs(t["correction_vox"]).max() for t in positions["tiles"])
    magnify = float(np.clip(round(40 / max(moved, 1e-6)), 1, 50))
    for layer in heights[:_MOST_LAYERS]:
        where = f" at z = {layer:.0f} µm" if len(heights) > 1 else ""
        out.add(
            Figure(
                tile_map(positions, layer, magnify),
                f"Tiles{where}, seen along z; a circle is where a tile is true. Numbers: residual "
                f"of each overlap in voxels. Arrows: from the stage's position to the solved one, "
                f"{magnify:.0f} times as long. The ring marks the anchor.",
                3,
                "Tile layout",
            )
        )


def _plane(volume: Volume, axis: int, at: int) -> Box:
    start, stop = [0, 0, 0], list(volume.shape)
    start[axis], stop[axis] = at, at + 1
    return Box.of(tuple(start), tuple(stop))


def _planes(volume: Volume, span: picture.Range) -> list[Figure]:
    """Three planes through the middle."""
    names = (
        ("z", "y downwards, x across"),
        ("y", "z downwards, x across"),
        ("x", "z downwards, y across"),
    )
    out = []
    for axis, (name, how) in enumerate(names):
        at = volume.shape[axis] // 2
        data = volume.read(_plane(volume, axis, at)).squeeze(axis)
        small = picture.shrink(data, _SIDE)
        down, across = [v for n, v in enumerate(volume.voxel_um) if n != axis]
        body = picture.image(
            picture.grey(small, span),
            f"Slice of the volume at {name} = {at}",
            across * data.shape[1] / small.shape[1],
            aspect=down / across,
        )
        flat = small.shape[0] * down < 0.6 * small.shape[1] * across
        wide = 3 if axis == 0 or flat else 2
        out.append(
            Figure(body, f"{name} = {at}: {how}.", wide, f"Through the middle, along {name}")
        )
    return out


def _walk(volume: Volume, span: picture.Range) -> Figure | None:
    """Slices along z behind a slider."""
    depth = volume.shape.z
    if depth < 4:
        return None
    levels = np.unique(np.linspace(0, depth - 1, min(_WALK, depth)).round().astype(int))
    frames = [
        picture.grey(picture.shrink(volume.read(_plane(volume, 0, int(z)))[0], _WALK_SIDE), span)
        for z in levels
    ]
    height, width = frames[0].shape
    step = volume.voxel_um[0]
    body = Markup(
        '<div class="walk" data-z="{zs}" data-step="{step}">'
        '<div class="frame" role="img" aria-label="Slices of the volume along z" '
        'style="aspect-ratio:{w}/{h};background-image:url({src});background-size:100% {n}00%">'
        '</div><label><input type="range" min="0" max="{last}" value="{middle}" '
        'aria-label="slice along z"><output></output></label></div>'
    ).format(
        zs=",".join(map(str, levels)), step=f"{step:g}", w=width, h=height,
        src=picture.strip(frames), n=len(frames), last=len(frames) - 1, middle=len(frames) // 2,
    )  # fmt: skip
    return Figure(body, f"{len(frames)} of {depth} slices: move the slider.", 3, "Walk along z")


def _histogram(results: Results) -> Figure | None:
    known = (results.fused or {}).get("statistics", {})
    if not known.get("histogram"):
        return None
    counts, edges = np.array(known["histogram"], float), np.array(known["edges"], float)
    low, high = _middle(counts, edges)
    kept = (edges[:-1] >= low) & (edges[1:] <= high)
    cut = np.append(edges[:-1][kept], edges[1:][kept][-1:])
    floating = str((results.fused or {}).get("dtype", "")).startswith("float")
    body = chart.histogram(
        counts[kept].tolist(),
        cut.tolist(),
        "Histogram of all voxels",
        "linear attenuation (1/cm)" if floating and results.tiles else "grey value",
        "voxels",
        log=True,
        marks=[(known["mean"], "mean")] if "mean" in known else [],
    )
    return Figure(
        body,
        f"All voxels of the volume: mean {known['mean']:.4g}, standard deviation "
        f"{known['std']:.4g}. Networks see the volume less this mean, over this deviation.",
        3,
        "Grey values",
    )


def _middle(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Where all but 2 in 10 000 voxels lie: a few outliers would squeeze the rest."""
    share = np.cumsum(counts) / counts.sum()
    first = int(np.searchsorted(share, 1e-4))
    last = int(np.searchsorted(share, 1 - 1e-4))
    return float(edges[first]), float(edges[min(last + 1, len(edges) - 1)])


def _pairs(positions: dict[str, Any]) -> Table:
    worst = sorted(positions["pairs"], key=lambda p: (p["used"], -p["residual"]))
    rows = [
        [
            f"{p['a']} – {p['b']}",
            " × ".join(map(str, p["overlap_vox"])),
            ", ".join(f"{s:+.2f}" for s in p["shift_vox"]),
            f"{p['quality']:.2f}",
            f"{p['residual']:.3f}",
            "yes" if p["used"] else "no",
        ]
        for p in worst[:_MOST_PAIRS]
    ]
    more = f" The worst {_MOST_PAIRS} of {len(worst)}." if len(worst) > _MOST_PAIRS else ""
    return Table(
        ["Pair", "Overlap (vox)", "Shift z, y, x (vox)", "Quality", "Residual (vox)", "Used"],
        rows,
        "Overlaps: shift measured against the stage positions, its quality (correlation), and what "
        f"the global solution leaves of it.{more}",
    )
