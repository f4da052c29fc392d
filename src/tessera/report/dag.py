"""The graph of jobs: rules, how many jobs each had, what each waits for."""

from __future__ import annotations

import json
import math
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tessera.errors import TesseraError
from tessera.report.results import Results

# rule -> (what one job of it leaves, rules that it waits for)
_KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    "simulate_truth": ("simulate/truth.json", ()),
    "simulate_scan": ("simulate/*.h5", ()),
    "recon": ("recon/*/records/0000.json", ("simulate_scan",)),
    "mosaic_register": ("mosaic/positions.json", ("recon",)),
    "mosaic_store": ("mosaic/store.json", ("mosaic_register",)),
    "mosaic_fuse": ("mosaic/records/*.json", ("mosaic_store",)),
    "mosaic_finish": ("mosaic/volume.json", ("mosaic_fuse",)),
    "train": ("train/*/model.json", ("mosaic_finish", "simulate_truth")),
    "predict_store": ("predict/*/store.json", ("train", "mosaic_finish")),
    "predict": ("predict/*/records/*.json", ("predict_store",)),
    "predict_finish": ("predict/*/seams.json", ("predict",)),
    "assemble_match": ("label/*/*/**/match/records/*.json", ("predict",)),
    "contacts": ("label/*/*/fragments/contacts/records/*.json", ("assemble_match",)),
    "refill": ("predict/*/refill/records/*.json", ("contacts",)),
    "label_store": ("label/*/*/store.json", ("predict_finish", "predict", "refill")),
    "label_local": ("label/*/*/local/records/*.json", ("label_store",)),
    "label_merge": ("label/*/*/merge.npz", ("label_local", "assemble_match")),
    "label_relabel": ("label/*/*/records/*.json", ("label_merge",)),
    "label_finish": ("label/*/*/labels.json", ("label_relabel",)),
    "analyse": ("analyse/*/*.json", ("label_finish",)),
    "evaluate": ("evaluate/metrics.json", ("label_finish", "simulate_truth", "mosaic_register")),
    "report": ("", ("analyse", "evaluate", "mosaic_finish")),
}

_WIDTH, _NODE, _TALL, _STEP = 420.0, 168.0, 28.0, 45.0


@dataclass(frozen=True)
class Graph:
    """Rules with their numbers of jobs, and (before, after) edges."""

    jobs: dict[str, int]
    edges: list[tuple[str, str]]


def graph(results: Results, given: Path | None = None) -> Graph:
    """Return the graph: from ``dag.json`` if given, else from what each rule has left.

    ``dag.json`` is ``{"rules": {name: jobs}, "edges": [[before, after], ...]}``.

    Raises:
        TesseraError: ``dag.json`` cannot be read.
    """
    if given is not None:
        try:
            data = json.loads(given.read_text())
            jobs = {str(k): int(v) for k, v in data["rules"].items()}
            edges = [(str(a), str(b)) for a, b in data["edges"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TesseraError(
                f"{given}: is not a graph ({error}); write rules with jobs, and edges"
            ) from None
        return Graph(jobs, [(a, b) for a, b in edges if a in jobs and b in jobs])
    left = {rule: len(list(results.root.glob(what))) for rule, (what, _) in _KNOWN.items() if what}
    jobs = {rule: count for rule, count in left.items() if count} | {"report": 1}
    edges = [(b, a) for a in jobs for b in sorted(before(a, jobs))]
    return Graph(jobs, _reduced(edges))


def before(rule: str, present: Container[str]) -> set[str]:
    """Return the nearest rules before this one that are present (have run, say)."""
    out: set[str] = set()
    for one in _KNOWN[rule][1] if rule in _KNOWN else ():
        out |= {one} if one in present else before(one, present)
    return out


def _reduced(edges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out edges that a longer way says already."""
    after: dict[str, set[str]] = {}
    for a, b in edges:
        after.setdefault(a, set()).add(b)

    def reaches(a: str, b: str) -> bool:
        return any(n == b or reaches(n, b) for n in after.get(a, ()))

    return [(a, b) for a, b in edges if not any(reaches(n, b) for n in after.get(a, ()) if n != b)]


def draw(found: Graph) -> Markup:
    """Draw the graph from top to bottom, a layer for each step of the longest way."""
    layer = _layers(found)
    rows: list[list[str]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for rule in found.jobs:
        rows[layer[rule]].append(rule)
    place = {}
    for level, row in enumerate(rows):
        gap = _WIDTH / (len(row) + 1) if len(row) > 1 else _WIDTH / 2
        for n, rule in enumerate(row):
            across = gap if len(row) == 1 else _WIDTH / len(row) * (n + 0.5)
            place[rule] = (across, 20 + level * _STEP)
    body = Markup("").join(_edge(place[a], place[b], layer[b] - layer[a]) for a, b in found.edges)
    wide = min(_NODE, _WIDTH / max(map(len, rows)) - 14)
    for rule, (u, v) in place.items():
        body += _node(rule, found.jobs[rule], u, v, wide)
    height = 20 + len(rows) * _STEP
    total = sum(found.jobs.values())
    return Markup(
        '<svg class="chart dag" viewBox="0 0 {w:g} {h:g}" role="img" '
        'aria-label="Graph of {n} rules and {t} jobs">{body}</svg>'
    ).format(w=_WIDTH, h=height, n=len(found.jobs), t=total, body=body)


def _layers(found: Graph) -> dict[str, int]:
    layer = dict.fromkeys(found.jobs, 0)
    for _ in found.jobs:
        for a, b in found.edges:
            layer[b] = max(layer[b], layer[a] + 1)
        if max(layer.values()) > len(layer):
            raise TesseraError("dag.json: the rules wait for each other in a circle; correct it")
    return layer


def _edge(a: tuple[float, float], b: tuple[float, float], span: int) -> Markup:
    top, foot = a[1] + _TALL / 2, b[1] - _TALL / 2
    side = math.copysign(1, a[0] - b[0])
    if span == 1:
        middle = (top + foot) / 2
        path = f"M{a[0]:.1f} {top:.1f}C{a[0]:.1f} {middle:.1f} {b[0]:.1f} {middle:.1f} "
        path += f"{b[0]:.1f} {foot:.1f}"
    elif abs(a[0] - b[0]) > _NODE / 2:  # beside the rules between, then in from the side
        path = f"M{a[0]:.1f} {top:.1f}V{b[1] - 10:.1f}Q{a[0]:.1f} {b[1]:.1f} "
        path += f"{a[0] - 10 * side:.1f} {b[1]:.1f}H{b[0] + side * _NODE / 2:.1f}"
    else:  # past the rules between, on the right
        right, bulge = a[0] + _NODE / 2, a[0] + _NODE / 2 + 18 + 9 * span
        path = f"M{right:.1f} {a[1]:.1f}C{bulge:.1f} {a[1]:.1f} {bulge:.1f} {b[1]:.1f} "
        path += f"{b[0] + _NODE / 2:.1f} {b[1]:.1f}"
    return Markup('<path class="edge" d="{}"/>').format(path)


def _node(rule: str, jobs: int, u: float, v: float, wide: float) -> Markup:
    left, right, base = u - wide / 2, u + wide / 2, v + 4.5
    return Markup(
        '<g class="node"><rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h}" rx="7"/>'
        '<text x="{tx:.1f}" y="{ty:.1f}">{rule}</text>'
        '<text class="jobs" x="{jx:.1f}" y="{ty:.1f}" text-anchor="end">{jobs}</text></g>'
    ).format(
        x=left,
        y=v - _TALL / 2,
        w=wide,
        h=_TALL,
        tx=left + 12,
        ty=base,
        rule=rule.replace("_", " "),
        jx=right - 12,
        jobs=f"{jobs} jobs" if jobs > 1 else "",
    )
