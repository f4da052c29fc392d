"""Planned against measured: time, memory, bytes, waiting and efficiency of each rule.

What was planned stands in ``plan/plan.json``; what was measured, in Snakemake's benchmarks. A job
waited from the end of the last job that it needs (as the times of these files tell) to its own
start: in a queue, for a free core, for the file system. Its efficiency is the processor time that
it used, of what its cores could have given while it held them.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tessera.report.cost import Cost
from tessera.report.dag import before
from tessera.report.page import Table
from tessera.report.results import Results

_MIB = 1 << 20


@dataclass
class Planned:
    """What ``tessera plan`` expected of a rule, of all models and classes together.

    Attributes:
        jobs: how many; ``cores`` of each.
        seconds: of all jobs, one after the other.
        peak_mib: of the largest job.
        read_mb, written_mb: of all jobs.
        source: where the rates were measured.
    """

    jobs: int = 0
    cores: int = 1
    seconds: float = 0.0
    peak_mib: float = 0.0
    read_mb: float = 0.0
    written_mb: float = 0.0
    source: str = ""


def planned(results: Results) -> dict[str, Planned]:
    """Return what was planned, by rule; empty where there is no plan."""
    found: dict[str, Planned] = {}
    for one in (results.json("plan", "plan.json") or {}).get("rules", ()):
        plan = found.setdefault(str(one["rule"]), Planned())
        plan.jobs += int(one["jobs"])
        plan.cores = int(one["cores"])
        plan.seconds += float(one["seconds"])
        plan.peak_mib = max(plan.peak_mib, float(one["memory_mib"]))
        plan.read_mb += float(one["read_bytes"]) / _MIB
        plan.written_mb += float(one["written_bytes"]) / _MIB
        plan.source = str(one["source"])
    return found


def waiting(spent: Sequence[Cost]) -> dict[str, float]:
    """Return the mean seconds that a job of each rule waited, where the times of files tell."""
    by_rule = {cost.rule: cost for cost in spent if cost.spans}
    found = {}
    for rule, cost in by_rule.items():
        needed = [by_rule[name].spans for name in before(rule, by_rule)]
        if needed:
            waits = [start - _ready(name, needed) for name, (start, _) in cost.spans.items()]
            # Of what was made anew alone, or copied, the times say nothing.
            found[rule] = max(0.0, statistics.fmean(waits))
    return found


def _ready(name: str, needed: Sequence[Mapping[str, tuple[float, float]]]) -> float:
    """When the last of the jobs had ended that a job needs: of a tile, that tile's own."""
    return max(
        spans[name][1] if name in spans else max(end for _, end in spans.values())
        for spans in needed
    )


def table(results: Results, spent: Sequence[Cost]) -> Table:
    """Return the table; without rows where nothing was planned."""
    plans, waits = planned(results), waiting(spent)
    rows = [_row(c, plans[c.rule], waits.get(c.rule)) for c in spent if c.rule in plans]
    sources = sorted({p.source for p in plans.values()})
    return Table(
        ("Rule", "jobs", "time", "memory of a job", "read", "written", "waited", "efficiency"),
        rows,
        f"Planned (rates from {' and '.join(sources)}) → measured, all jobs of a rule together. "
        "Read and written are what went to and from the disk: what the system held in its cache "
        "did not. Waited is the mean from the end of what a job needs to its start; efficiency, "
        "the processor time used of that held, as Snakemake sampled it.",
        span=6,
    )


def _row(cost: Cost, plan: Planned, wait: float | None) -> list[Any]:
    held = cost.seconds * plan.cores
    return [
        cost.rule.replace("_", " "),
        _both(str(plan.jobs), str(cost.jobs)) if plan.jobs != cost.jobs else str(cost.jobs),
        _both(_span(plan.seconds), _span(cost.seconds)),
        _both(_size(plan.peak_mib), _size(cost.peak_mib)),
        _both(_size(plan.read_mb), _size(cost.read_mb)),
        _both(_size(plan.written_mb), _size(cost.written_mb)),
        "" if wait is None else _span(wait),
        f"{min(1.0, cost.cpu_seconds / held):.0%}" if held and cost.cpu_seconds else "",
    ]


def _both(expected: str, measured: str) -> Markup:
    return Markup("{} → <b>{}</b>").format(expected, measured)


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
