"""``tessera plan``: what a run will cost, before the first job.

1. The config and the headers of the data say how much each rule has to do.
2. What a unit of that takes is measured: by earlier runs whose results are given (and by this
   one's, if it ran before), else in a few seconds on this machine.
3. Both together are seconds, memory, bytes and files of each rule; a profile says how jobs are
   placed, and limits are held against it.

It walks over no blocks, so a volume of 10^6 of them takes as long as one of ten.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tessera.config import Config, parse_config, read_config
from tessera.errors import TesseraError
from tessera.plan.estimate import Estimate, elapsed, estimate
from tessera.plan.limits import Limits, findings, size, span, with_disk
from tessera.plan.profile import Profile, read_profile
from tessera.plan.rates import PLAN, measured, read_works

_HEAD = ("rule", "jobs", "blocks", "a job", "cores", "core h", "GPU h", "memory", "reads",
         "writes", "files")  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("config", type=Path, nargs="?", help="config.yaml")
    parser.add_argument("--settings", metavar="JSON", help="the whole config itself")
    parser.add_argument(
        "--profile", type=Path, metavar="DIR", help="how jobs are placed, e.g. profiles/slurm"
    )
    parser.add_argument(
        "--measured", type=Path, action="append", default=[], metavar="RESULTS",
        help="results/<specimen> of an earlier run, whose rates count; may be repeated",
    )  # fmt: skip
    parser.add_argument("--cores", type=int, metavar="N", help="cores at once; else this machine's")
    parser.add_argument(
        "--gpu-speed", type=float, metavar="X", help="cores that a GPU is worth for networks"
    )
    parser.add_argument("--walltime", type=float, metavar="MIN", help="most minutes of a job")
    parser.add_argument("--memory", type=float, metavar="GIB", help="most memory of a job")
    parser.add_argument("--quota", type=float, metavar="GIB", help="room left; else what is free")
    parser.add_argument("--inodes", type=float, metavar="N", help="files left; else what is free")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the plan there, too")


def main(args: argparse.Namespace) -> int:
    """Print the table, and what limits would make of it."""
    if "torch" not in sys.modules:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # rates are of a core; see --gpu-speed
    if (args.config is None) == (args.settings is None):
        raise TesseraError("give a config, or the settings themselves with --settings JSON")
    config = _parsed(args.settings) if args.config is None else read_config(args.config)
    profile = Profile() if args.profile is None else read_profile(args.profile)
    found = plan(config, profile, args.measured, args.gpu_speed)
    cores = args.cores or len(os.sched_getaffinity(0))
    from tessera.layout import specimen_root

    limits = with_disk(
        Limits(
            None if args.walltime is None else args.walltime * 60,
            None if args.memory is None else args.memory * 1024**3,
            None if args.quota is None else args.quota * 1024**3,
            args.inodes,
        ),
        Path(specimen_root(config)),
    )
    broken = findings(found, limits)
    if args.json is not None:
        write_plan(args.json, config, found, cores, broken)
    print("\n".join([*table(found), "", *_summary(found, cores), *broken]))
    return 0


def _parsed(text: str) -> Config:
    try:
        return parse_config(json.loads(text), "--settings")
    except json.JSONDecodeError as error:
        raise TesseraError(f"--settings: is not JSON ({error}); give a config") from None


def plan(
    config: Config,
    profile: Profile | None = None,
    earlier: Sequence[Path] = (),
    gpu_speed: float | None = None,
) -> list[Estimate]:
    """Return the cost of each rule, in the order in which they run.

    Args:
        config: the settings.
        profile: how jobs are placed; None leaves it to the rules.
        earlier: ``results/<specimen>`` of runs whose rates count, beside this one's own.
        gpu_speed: cores that a GPU is worth for networks; None does not count on GPUs.

    Raises:
        TesseraError: the data cannot be read, or an earlier run has no plan.
    """
    from tessera.layout import specimen_root
    from tessera.plan.calibrate import calibrate, starts
    from tessera.plan.stages import data_of, works

    profile = profile or Profile()
    data = data_of(config)
    begun = starts()
    todo = works(config, data)
    runs = [(root, read_works(root)) for root in earlier]
    own = Path(specimen_root(config))
    if (own / PLAN).exists() and own not in earlier:
        runs.append((own, read_works(own)))
    rates = measured(runs, begun)
    new = [w for w in todo if w.name not in rates and w.rule not in rates]
    rates |= calibrate(new, config, data, begun)
    return [
        estimate(w, rates.get(w.name) or rates[w.rule], profile.of(w.rule), gpu_speed) for w in todo
    ]


def write_plan(
    path: Path, config: Config, found: Sequence[Estimate], cores: int, broken: Sequence[str]
) -> None:
    """Write ``plan.json``: what the report and later plans read."""
    from tessera import __version__
    from tessera.volume.record import atomic_write

    content: dict[str, Any] = {
        "version": __version__,
        "specimen": config.specimen,
        "cores": cores,
        "elapsed_seconds": round(elapsed(found, cores), 1),
        "findings": list(broken),
        "rules": [e.as_json() for e in found],
    }
    atomic_write(path, json.dumps(content, indent=1) + "\n")


def table(found: Sequence[Estimate]) -> list[str]:
    """Return the lines of a table, one a rule, and a sum."""
    rows = [_HEAD] + [
        (
            e.work.name,
            str(e.work.jobs),
            str(e.work.blocks),
            span(e.job_seconds),
            str(e.cores),
            f"{e.core_hours:.2f}",
            f"{e.gpu_hours:.2f}" if e.gpus else "",
            size(e.memory),
            size(e.work.read),
            size(e.work.written),
            str(e.work.files),
        )
        for e in found
    ]
    rows.append((
        "in all", str(sum(e.work.jobs for e in found)), "", "", "",
        f"{sum(e.core_hours for e in found):.2f}",
        f"{sum(e.gpu_hours for e in found):.2f}" if any(e.gpus for e in found) else "",
        size(max(e.memory for e in found)),
        size(sum(e.work.read for e in found)),
        size(sum(e.work.written for e in found)),
        str(sum(e.work.files for e in found)),
    ))  # fmt: skip
    keep = [n for n, name in enumerate(_HEAD) if name != "GPU h" or rows[-1][n]]
    width = [max(len(row[n]) for row in rows) for n in range(len(_HEAD))]
    return [
        "  ".join(f"{row[n]:<{width[n]}}" if n == 0 else f"{row[n]:>{width[n]}}" for n in keep)
        for row in rows
    ]


def _summary(found: Sequence[Estimate], cores: int) -> list[str]:
    sources = sorted({e.source for e in found})
    return [
        f"about {span(elapsed(found, cores))} on {cores} cores, queues not counted; rates from "
        f"{' and '.join(sources)}"
    ]
