"""The head of the page: the specimen, a picture of it, and the numbers that matter most."""

from __future__ import annotations

import math

from tessera.report import picture, scores
from tessera.report.cost import costs
from tessera.report.mosaic import display_range, fused_volume
from tessera.report.objects import plural
from tessera.report.page import Fact, Hero
from tessera.report.results import Results
from tessera.report.run import duration, memory
from tessera.volume.box import Box

_SIDE = 900


def hero(results: Results, title: str | None) -> Hero:
    """Return the head: title, one line, a slice as backdrop, the strip of numbers."""
    return Hero(title or results.specimen, _line(results), _backdrop(results), _facts(results))


def _line(results: Results) -> str:
    parts = []
    if results.tiles:
        parts.append(f"{len(results.tiles)} {plural('tile', len(results.tiles))}")
    if results.fused:
        parts.append(f"{' × '.join(map(str, results.fused['shape']))} voxels")
    for model, name in results.classes:
        labels = results.json("label", model, name, "labels.json") or {}
        count = int(labels.get("objects", 0))
        parts.append(f"{count} {plural(name, count)}")
    return " → ".join(parts)


def _backdrop(results: Results) -> str | None:
    volume = fused_volume(results)
    if volume is None:
        return None
    z = volume.shape.z // 2
    box = Box.of((z, 0, 0), (z + 1, volume.shape.y, volume.shape.x))
    pixels = picture.grey(
        picture.shrink(volume.read(box)[0], _SIDE), display_range(results, volume)
    )
    return picture.webp(pixels, 70)


def _facts(results: Results) -> list[Fact]:
    out = []
    if results.fused:
        sizes = results.fused["voxel_um"]
        same = math.isclose(min(sizes), max(sizes), rel_tol=1e-6)
        text = f"{sizes[0]:g}" if same else " × ".join(f"{v:g}" for v in sizes)
        out.append(Fact("Voxel", text, "µm"))
    several = len(results.classes) > 1
    for model, name in results.classes:
        numbers = results.json("analyse", model, f"{name}.json")
        if numbers:
            density = f"{numbers['density_per_mm3']:,.0f}".replace(",", "\u202f")
            out.append(
                Fact(
                    f"{plural(name, 2).capitalize()} counted",
                    str(numbers["count"]),
                    "",
                    f"{density} per mm³",
                )
            )
    for name, score in results.metrics.items():
        kind = name.rsplit(".", 1)[-1]
        if (
            kind in ("f1", "dice")
            and score["value"] is not None
            and _of_object(results, name, several)
        ):
            label = name.rpartition(".")[0].replace(".", " ").capitalize()
            word = "F1" if kind == "f1" else "Dice"
            out.append(
                Fact(f"{label} {word}", f"{score['value']:.3f}", "", scores.span_text(score))
            )
    placed = results.metrics.get("tiles.position_rms")
    if placed and placed["value"] is not None:
        out.append(Fact("Tile positions", f"{placed['value']:.3f}", "voxel", "RMS error"))
    spent = costs(results)
    if spent:
        total = duration(sum(c.seconds for c in spent))
        peak = memory(max(c.peak_mib for c in spent))
        out.append(Fact("Job time", total, "", f"at most {peak} a job"))
    return out


def _of_object(results: Results, name: str, several: bool) -> bool:
    """Scores of classes that are counted; all of them would make the strip too long."""
    known = {c for _, c in results.classes}
    return not known or name.split(".")[-2] in known
