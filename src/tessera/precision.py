"""``tessera precision``: what a reduced precision gains, and what it costs in every score.

The blocks of a model's prediction are computed once in each precision and stored, labelled and
scored as the workflow does; what is left of it is one small file::

    results/<specimen>/precision/<model>.json
        fp32: {seconds, mvoxel_per_s, scores {name: value}}
        bf16: {..., speed_up, same_classes, largest_change, score_changes {name: change}}
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera import layout
from tessera.compute.heap import keep_freed
from tessera.config import Config, read_config
from tessera.errors import TesseraError

if TYPE_CHECKING:
    from tessera.volume.store import Volume

_KINDS = ("fp32", "bf16", "fp16")


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="the model's name under models")
    parser.add_argument("--config", required=True, metavar="FILE", help="config.yaml")
    parser.add_argument(
        "--precision",
        action="append",
        choices=_KINDS[1:],
        help="to compare with fp32; may be repeated (default: bf16, and fp16 on a GPU)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads")


def main(args: argparse.Namespace) -> int:
    """Measure, write the file, and print it as a table."""
    keep_freed()  # as the jobs whose speed is asked for do
    found = compare(read_config(args.config), args.model, args.precision, args.threads)
    print(table(found))
    return 0


def compare(
    config: Config, model: str, kinds: list[str] | None = None, threads: int = 1
) -> dict[str, dict[str, Any]]:
    """Return for each precision its speed, its scores, and their change from fp32's.

    Args:
        config: of a specimen whose volume and model are there.
        model: its name.
        kinds: to compare with fp32; None takes what the device can do.
        threads: of the process.

    Raises:
        TesseraError: there is no such model, or it is not trained yet.
    """
    from tessera.volume.record import atomic_write
    from tessera.volume.store import write_errors

    if model not in config.models:
        known = ", ".join(config.models) or "none"
        raise TesseraError(f"no model '{model}' under models (there: {known}); name one of these")
    if config.models[model].net == "ffn":
        raise TesseraError(
            f"model {model} is a flood-filling network, which has no blocks to compare; see "
            "benchmarks/ffn.py for its precisions"
        )
    root = Path(layout.specimen_root(config))
    out = root / "precision"
    found: dict[str, dict[str, Any]] = {}
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=f".{model}.") as name:
            first: Volume | None = None
            for kind in ("fp32", *(kinds or _able())):
                folder = Path(name) / kind
                made, found[kind] = _measure(config, model, kind, root, folder, threads)
                if first is None:
                    first = made
                else:
                    found[kind] |= _changes(found["fp32"], found[kind])
                    found[kind] |= _voxel_changes(first, made)
        atomic_write(out / f"{model}.json", json.dumps(found, indent=1) + "\n")
    return found


def _able() -> list[str]:
    import torch

    return ["bf16", "fp16"] if torch.cuda.is_available() else ["bf16"]


def _measure(
    config: Config, model: str, kind: str, root: Path, folder: Path, threads: int
) -> tuple[Volume, dict[str, Any]]:
    """Predict, label and score in one precision."""
    import math

    from tessera.predict import plan as plans
    from tessera.predict.run import run
    from tessera.volume.store import open_volume

    settings = config.predict.model_copy(update={"precision": kind})
    volume = root / "mosaic" / "volume.json"
    plan = plans.create(settings, volume, root / "train" / model, 1, folder / "predict")
    began = time.perf_counter()
    run(plan, 0, 1, threads=threads)
    seconds = time.perf_counter() - began
    made = open_volume(plan.folder / plan.path)
    speed = math.prod(made.shape) / seconds / 1e6
    scores = _scores(config, model, volume, folder, root)
    return made, {
        "seconds": round(seconds, 3),
        "mvoxel_per_s": round(speed, 4),
        "scores": scores,
    }


def _scores(config: Config, model: str, volume: Path, folder: Path, root: Path) -> dict[str, float]:
    """Label what was predicted, and return every score of the evaluation by name."""
    from tessera.evaluate.command import evaluate
    from tessera.evaluate.model import ModelFiles
    from tessera.label import plan as plans
    from tessera.label.finish import finish
    from tessera.label.merge import merge
    from tessera.label.passes import run_local, run_relabel

    settings = config.models[model]
    files = ModelFiles(model, settings, folder / "predict" / "store.json")
    for name in config.label.classes:
        if name not in settings.classes:
            continue
        out = folder / "label" / name
        plan = plans.create(config.label, name, files.prediction, 1, out)  # type: ignore[arg-type]
        plans.lay_out(plan)
        run_local(plan, 0, 1)
        merge(plan)
        run_relabel(plan, 0, 1)
        finish(plan)
        files.labels[name] = out / "labels.json"
    simulated = root / "simulate"
    known = config.simulate is not None
    given = argparse.Namespace(
        out=folder / "evaluate",
        volume=volume,
        truth=None,
        positions=None,
        axis=[],
        density=None,
        truth_classes=simulated / "truth.zarr" if known else None,
        truth_ids=simulated / "soma_ids.zarr" if known else None,
    )
    return {name: one.value for name, one in evaluate(config.evaluate, given, [files]).items()}


def _changes(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Speed and scores of one precision against another's."""
    changes = {
        name: round(other["scores"][name] - value, 6)
        for name, value in base["scores"].items()
        if name in other["scores"]
    }
    return {
        "speed_up": round(base["seconds"] / other["seconds"], 3),
        "score_changes": changes,
    }


def _voxel_changes(base: Volume, other: Volume) -> dict[str, float]:
    """Share of voxels with the same likeliest class; largest change of a probability."""
    import numpy as np

    from tessera.volume.box import Box, Grid

    same, largest = 0, 0
    for block in Grid.of(base.shape, (64, 64, 64)):
        a, b = (v.read(Box.of(block.write.start, block.write.stop)) for v in (base, other))
        if base.has_channels:
            largest = max(largest, int(np.abs(a.astype(np.int16) - b).max()))
            several = a.shape[0] > 1
            a, b = (v.argmax(0) if several else v[0] >= 128 for v in (a, b))
        same += int((a == b).sum())
    out = {"same_classes": round(same / base.shape.z / base.shape.y / base.shape.x, 6)}
    return {**out, "largest_change": round(largest / 255, 4)} if base.has_channels else out


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return what :func:`compare` found as lines: a column for each precision."""
    rows = [["", *found]]
    for name in ("seconds", "mvoxel_per_s", "speed_up", "same_classes", "largest_change"):
        rows.append([name, *(_number(one.get(name)) for one in found.values())])
    for name, value in found["fp32"]["scores"].items():
        rest = [one for kind, one in found.items() if kind != "fp32"]
        cells = [_number(value)]
        for one in rest:
            change = one["score_changes"].get(name)
            cells.append("-" if change is None else f"{change:+.4g}")
        rows.append([name, *cells])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
