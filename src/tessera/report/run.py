"""The run itself: the graph, what it cost, what made it, how to look further."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tessera import __version__
from tessera.report import planned
from tessera.report.cost import Cost, costs
from tessera.report.dag import draw, graph
from tessera.report.page import Figure, Section, Table
from tessera.report.results import Results
from tessera.report.viewers import hints

_PACKAGES = ("numpy", "scipy", "zarr", "zarrs", "finufft", "torch", "horovod", "snakemake")


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def memory(mib: float) -> str:
    """Return a memory size as people say it."""
    return f"{mib / 1024:.2f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


def section(results: Results, dag: Path | None) -> Section:
    """Return the section on rules, time and memory."""
    out = Section("run", "The run")
    found = graph(results, dag)
    spent = costs(results)
    out.add(
        Figure(
            draw(found),
            "Each box is a rule; the number is how many jobs it had. Work on volumes is cut into "
            "batches of blocks, so the graph stays this small for volumes of any size.",
            3,
            "What waits for what",
        )
    )
    if spent:
        out.add(Figure(_bars(spent), "Seconds of all jobs of a rule together, and the largest "
                       "memory of any one job.", 3, "Time and memory"))  # fmt: skip
        out.add(planned.table(results, spent))
        total = sum(c.seconds for c in spent)
        worst = max(spent, key=lambda c: c.peak_mib)
        out.lead = (
            f"{sum(found.jobs.values())} jobs of {len(found.jobs)} rules; {duration(total)} of job "
            f"time in all; the largest job ({worst.rule.replace('_', ' ')}) held "
            f"{memory(worst.peak_mib)}."
        )
    return out


def _bars(spent: list[Cost]) -> Markup:
    most = max(c.seconds for c in spent) or 1.0
    rows = Markup("").join(
        Markup(
            '<tr><th scope="row">{rule}</th><td class="bar"><i style="width:{w:.1f}%"></i></td>'
            "<td>{s}</td><td>{m}</td></tr>"
        ).format(
            rule=c.rule.replace("_", " "),
            w=100 * c.seconds / most,
            s=duration(c.seconds),
            m=memory(c.peak_mib),
        )  # fmt: skip
        for c in spent
    )
    return Markup(
        '<div class="scroll"><table class="costs"><thead><tr><th>rule</th><td></td>'
        "<td>time</td><td>memory</td></tr></thead><tbody>{}</tbody></table></div>"
    ).format(rows)


def provenance(results: Results) -> Section:
    """Return the section on what made the results, and how to open them elsewhere."""
    out = Section("provenance", "Provenance and viewers")
    out.lead = (
        "What made these results, so that they can be made again, and how to look at the volumes "
        "in a viewer of your own."
    )
    rows: list[list[Any]] = [["tessera", __version__], ["Python", platform.python_version()]]
    rows.append(["Packages", ", ".join(_installed())])
    rows.append(
        ["System", f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"]
    )
    for what, digest in _digests(results):
        rows.append([what, Markup("<code>{}</code>").format(digest)])
    out.add(Table(["Environment of this report, and content", ""], rows, numeric=9))
    for name, settings in _settings(results).items():
        text = json.dumps(settings, indent=1, sort_keys=True)
        out.add(
            Markup("<details><summary>Settings: {}</summary><pre>{}</pre></details>").format(
                name, text
            )
        )
    out.add(hints(results))
    return out


def _installed() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _digests(results: Results) -> list[tuple[str, str]]:
    found = []
    if results.fused and results.fused.get("digest"):
        found.append(("Fused volume", str(results.fused["digest"])))
    for model in results.models:
        facts = results.json("train", model, "model.json") or {}
        if facts.get("digest"):
            found.append((f"Model {model}", str(facts["digest"])))
    for model, name in results.classes:
        labels = results.json("label", model, name, "labels.json") or {}
        if labels.get("digest"):
            found.append((f"Labels {name} of {model}", str(labels["digest"])))
    return found


def _settings(results: Results) -> dict[str, Any]:
    """Settings as each stage kept them, by stage."""
    found: dict[str, Any] = {}
    for name, parts in (
        ("simulate", ("simulate", "truth.zarr")),
        ("mosaic", ("mosaic", "volume.zarr")),
        *((f"recon, {tile}", ("recon", tile, "tile.zarr")) for tile in results.tiles[:1]),
    ):
        volume = results.volume(*parts)
        if volume is not None and volume.provenance:
            found[name] = volume.provenance
    for model in results.models:
        facts = results.json("train", model, "model.json") or {}
        if facts.get("training"):
            found[f"train, {model}"] = facts["training"]
    known = results.json("evaluate", "provenance.json")
    if known:
        found["evaluate"] = known
    return found
