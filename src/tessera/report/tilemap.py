"""The tiles on the map: where each is, how far it was moved, how well each pair agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

_SIDE = 560.0
_PAD = 34.0


def layers(positions: dict[str, Any]) -> list[float]:
    """Return the heights (um) at which tiles lie, lowest first; half a tile apart is another."""
    tiles = positions["tiles"]
    apart = 0.5 * tiles[0]["shape"][0] * positions["voxel_um"][0]
    heights: list[float] = []
    for z in sorted(t["solved_um"][0] for t in tiles):
        if not heights or z - heights[-1] > apart:
            heights.append(z)
    return heights


def tile_map(positions: dict[str, Any], layer: float, magnify: float) -> Markup:
    """Draw the tiles of one layer, seen along z.

    Circles are where a tile is true; arrows lead from the stage position to the solved one,
    ``magnify`` times as long; lines between tiles are pairs, coloured by their residual.

    Args:
        positions: content of ``positions.json``.
        layer: height in um, one of :func:`layers`.
        magnify: how much longer than life arrows are.
    """
    voxel = positions["voxel_um"]
    half = 0.5 * positions["tiles"][0]["shape"][0] * voxel[0]
    tiles = {t["name"]: t for t in positions["tiles"] if abs(t["solved_um"][0] - layer) <= half}
    radius = {n: t["valid_radius_vox"] * voxel[2] for n, t in tiles.items()}
    centre = {n: np.array(t["solved_um"][1:]) for n, t in tiles.items()}
    low = np.min([c - radius[n] for n, c in centre.items()], axis=0)
    high = np.max([c + radius[n] for n, c in centre.items()], axis=0)
    scale = (_SIDE - 2 * _PAD) / max(high - low)
    height = float((high - low)[0] * scale + 2 * _PAD)

    def at(point: np.ndarray) -> tuple[float, float]:
        v, u = (point - low) * scale + _PAD
        return float(u), float(v)

    body = Markup("")
    for name, point in centre.items():
        u, v = at(point)
        body += Markup(
            '<circle class="tile" cx="{u:.1f}" cy="{v:.1f}" r="{r:.1f}"><title>{n}</title></circle>'
        ).format(u=u, v=v, r=radius[name] * scale, n=name)
    for pair in positions.get("pairs", []):
        if pair["a"] in tiles and pair["b"] in tiles:
            body += _pair(pair, at(centre[pair["a"]]), at(centre[pair["b"]]))
    for name, tile in tiles.items():
        moved = np.array(tile["correction_vox"][1:]) * voxel[2] * magnify
        body += _tile(name, at(centre[name]), at(centre[name] - moved), name == positions["anchor"])
    return Markup(
        '<svg class="chart map" viewBox="0 0 {s:g} {h:.0f}" role="img" aria-label="{label}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" '
        'markerHeight="6" orient="auto"><path class="tip" d="M0 0L8 4L0 8Z"/></marker></defs>'
        "{body}</svg>"
    ).format(s=_SIDE, h=height, label=f"Map of {len(tiles)} tiles seen along z", body=body)


def _pair(pair: dict[str, Any], a: tuple[float, float], b: tuple[float, float]) -> Markup:
    grade = "off" if not pair["used"] else _grade(pair["residual"])
    # Diagonal pairs cross in the middle of four tiles; their text moves along the line.
    diagonal = abs(a[0] - b[0]) > 1 and abs(a[1] - b[1]) > 1
    share = 0.5 if not diagonal else (0.38 if (b[0] - a[0]) * (b[1] - a[1]) > 0 else 0.62)
    place = a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
    text = f"{pair['residual']:.2f}" if pair["used"] else "left out"
    shift = ", ".join(f"{s:+.2f}" for s in pair["shift_vox"])
    title = (
        f"{pair['a']} – {pair['b']}: shift {shift} voxels, quality {pair['quality']:.2f}, "
        f"residual {pair['residual']:.3f} voxels"
    )
    return Markup(
        '<g class="pair {g}"><title>{title}</title>'
        '<line x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}"/>'
        '<text x="{x:.1f}" y="{y:.1f}">{text}</text></g>'
    ).format(
        g=grade, title=title, a=a[0], b=a[1], c=b[0], d=b[1], x=place[0], y=place[1] - 5, text=text
    )


def _grade(residual: float) -> str:
    """Good up to a fifth of a voxel, fair up to a half."""
    return "good" if residual <= 0.2 else "fair" if residual <= 0.5 else "poor"


def _tile(name: str, to: tuple[float, float], start: tuple[float, float], anchor: bool) -> Markup:
    arrow = Markup("")
    if np.hypot(to[0] - start[0], to[1] - start[1]) > 2:
        arrow = Markup(
            '<line class="arrow" x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" '
            'marker-end="url(#tip)"/>'
        ).format(a=start[0], b=start[1], c=to[0], d=to[1])
    kind = "anchor" if anchor else "centre"
    return arrow + Markup(
        '<circle class="{k}" cx="{u:.1f}" cy="{v:.1f}" r="4.5"/>'
        '<text class="name" x="{u:.1f}" y="{t:.1f}" text-anchor="middle">{name}</text>'
    ).format(k=kind, u=to[0], v=to[1], t=to[1] + 20, name=name)
