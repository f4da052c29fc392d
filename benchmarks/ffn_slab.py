"""The FIB-25 slab as `examples/fib25.yaml` left it, against its truth, beside the published result.

    python benchmarks/ffn_slab.py [--results results/fib25] [--margin 24]

Scores what is finished: each subvolume on the voxels that it owns, and, once they are there, the
assembled fragments and the agglomerated objects on the slab less a margin at each face. `reference`
is the published segmentation (filled in a larger cube) on the same voxels. Prints a table and
writes ``slab`` in ``benchmarks/results/ffn.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from ffn import keep  # noqa: E402

from tessera.evaluate.segmentation import scores
from tessera.volume.box import Box
from tessera.volume.store import open_volume
from tessera.volume.subvolume import extent, load_arrays, read_store, subvolume_file

SHOWN = ("voi_split_both", "voi_merge_both", "voi_sum_both", "voi_sum_whole", "rand_error_both",
         "coverage")  # fmt: skip


def beside(box: Box, labels: np.ndarray, slab: h5py.File) -> dict[str, Any]:
    """Score labels of a box, and the published ones there."""
    truth, reference = (slab[f"labels/{n}"][box.slices] for n in ("neuron_ids", "ffn_reference"))
    rows = {"tessera": scores(labels, truth), "reference": scores(reference, truth)}
    return {
        "box": [list(box.start), list(box.stop)],
        **{who: {k: round(found[k], 4) for k in SHOWN} for who, found in rows.items()},
    }


def subvolumes(root: Path, interior: Box, slab: h5py.File) -> dict[str, Any]:
    """Score each finished subvolume on what it owns of the interior."""
    store = read_store(root / "predict/neurons")
    entries: dict[str, Any] = {}
    for path in sorted((root / "predict/neurons/records").glob("*.json*")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "block" in entry:
                entries[entry["block"]] = entry
    out = {}
    for block in store.grid:
        if block.name not in entries:
            continue
        (labels,) = load_arrays(subvolume_file(root / "predict/neurons", block.index), "labels")
        own, read = block.write.intersect(interior), extent(block, store.shape)
        out[block.name] = beside(own, labels[0][own.inside(read)], slab)
        found = entries[block.name]
        out[block.name] |= {"moves": found["result"]["forward"]["moves"], "s": found["seconds"]}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results/fib25"))
    slab = Path("../shared/data/em/fib25_training2_z000-110.h5")
    parser.add_argument("--slab", type=Path, default=slab)
    parser.add_argument("--margin", type=int, default=24)
    parser.add_argument("--name", default="slab", help="where it goes in results/ffn.json")
    args = parser.parse_args()
    with h5py.File(args.slab) as file:
        whole = Box.whole(file["raw"].shape)
        interior = whole.grow((-args.margin,) * 3)
        found = subvolumes(args.results, interior, file)
        label = args.results / "label/neurons/neuron"
        for name, path in (("assembled", label / "fragments"), ("agglomerated", label)):
            if (path / "labels.json").exists():
                ids = open_volume(path / "labels.zarr").read(interior)
                found[name] = beside(interior, ids, file)
    print(f"{'':<14}{'':<11}" + "".join(f"{k:>16}" for k in SHOWN))
    for name, one in found.items():
        for who in ("tessera", "reference"):
            print(f"{name:<14}{who:<11}" + "".join(f"{one[who][k]:>16.3f}" for k in SHOWN))
    metrics = args.results / "evaluate/metrics.json"
    curve: dict[str, dict[str, float]] = {}
    if metrics.exists():
        for name, score in json.loads(metrics.read_text()).items():
            kind = name.rpartition(".")[2]
            if ".curve." in name and kind.startswith("voi_sum"):
                at = name.split(".curve.")[1].rpartition(".")[0]
                curve.setdefault(kind, {})[at] = score["value"]
    keep(**{args.name: {"margin_vox": args.margin, **found, "over_thresholds": curve}})


if __name__ == "__main__":
    main()
