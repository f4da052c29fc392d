"""What was found: objects in three dimensions, their sizes, their counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from tessera.report import chart
from tessera.report.page import Figure, Section, Table
from tessera.report.results import Results
from tessera.report.scene import RAMP, embed, read_scene


def section(results: Results) -> Section:
    """Return the section on objects; without labelled classes it has no parts."""
    out = Section("objects", "What was found")
    counts = []
    for number, (model, name) in enumerate(results.classes):
        numbers = results.json("analyse", model, f"{name}.json")
        if numbers is None:
            continue
        counts.append(f"{numbers['count']} {plural(name, numbers['count'])}")
        out.add(_scene(results, model, name, number))
        out.add(_sizes(name, numbers, "equivalent_diameter_um", "Size", "diameter (µm)"))
        out.add(_sizes(name, numbers, "nearest_neighbour_um", "Spacing", "distance (µm)", "c1"))
        out.add(_numbers(name, numbers))
    if out.parts:
        volume = results.fused or {}
        mm3 = float(np.prod(volume.get("shape", [0])) * np.prod(volume.get("voxel_um", [1]))) * 1e-9
        where = f" in {mm3:.4g} mm³" if mm3 else ""
        out.lead = f"{' and '.join(counts)}{where}, each with a global id, a place and a size."
    return out


def plural(name: str, count: int) -> str:
    """Return a class's name for a count of objects."""
    return name if count == 1 else f"{name}s"


def _scene(results: Results, model: str, name: str, number: int) -> Figure | None:
    scene = read_scene(results, model, name)
    labels = results.volume("label", model, name, "labels.zarr")
    if scene is None or labels is None:
        return None
    size, origin = np.array(labels.voxel_um), np.array(labels.origin_um)
    start = origin - size / 2
    box = np.stack([start, start + size * np.array(labels.shape)])[:, ::-1]
    shown = len(scene.facts)
    which = f"all {shown}" if shown == scene.total else f"the {shown} largest of {scene.total}"
    ramp = ", ".join(f"rgb({r},{g},{b})" for r, g, b in RAMP.tolist())
    key = Markup(
        '<div class="ramp"><span>smaller</span><i style="background:linear-gradient(90deg,{})">'
        "</i><span>larger</span></div>"
    ).format(ramp)
    return Figure(
        embed(scene, box, number) + key,
        f"{which.capitalize()} {plural(name, shown)}, coloured by the rank of their volume; the "
        "frame is the volume. Drag to turn, scroll or pinch to come nearer, point to read.",
        6,
    )


def _sizes(
    name: str, numbers: dict[str, Any], key: str, title: str, x_title: str, colour: str = "c0"
) -> Figure | None:
    spread = numbers.get(key, {})
    if not spread.get("histogram"):
        return None
    body = chart.histogram(
        spread["histogram"],
        spread["edges"],
        f"{title} of {name} objects",
        x_title,
        "objects",
        colour=colour,
        marks=[(spread["p50"], f"median {spread['p50']:.1f}")],
    )
    what = {
        "equivalent_diameter_um": "Diameter of the sphere of the same volume, of objects that the "
        "volume's edge does not cut",
        "nearest_neighbour_um": "Distance from each centroid to the nearest other one",
    }[key]
    return Figure(body, f"{what} (n = {spread['n']}).", 2, title)


def _numbers(name: str, numbers: dict[str, Any]) -> Table:
    def middle(key: str, digits: int) -> str:
        spread = numbers.get(key, {})
        if not spread.get("n"):
            return "–"
        low, mid, high = (f"{spread[p]:.{digits}f}" for p in ("p05", "p50", "p95"))
        return f"{mid}  ({low} – {high})"

    return Table(
        [name.capitalize(), ""],
        [
            ["Count", str(numbers["count"])],
            ["… at the volume's edge", str(numbers["touching_edge"])],
            ["Density (per mm³)", f"{numbers['density_per_mm3']:,.0f}".replace(",", "\u202f")],
            ["Share of the volume", f"{100 * numbers['filled_fraction']:.2f} %"],
            ["Volume (µm³)", middle("volume_um3", 0)],
            ["Diameter (µm)", middle("equivalent_diameter_um", 1)],
            ["Nearest (µm)", middle("nearest_neighbour_um", 1)],
        ],
        "Median (5 – 95 %). The density counts objects that stay clear of three of the volume's "
        "six faces, so that neighbouring volumes would count each object once.",
        span=2,
    )
