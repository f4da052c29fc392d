"""The FIB-25 slab filled by the published network, against its truth, beside the published result.

    python benchmarks/ffn_slab.py [--slab FILE] [--one DIR] [--pieces DIR] [--consensus DIR]
                                  [--pieces-at Z Y X] [--consensus-at Z Y X] [--picture PNG]

Each DIR is a specimen's results of `examples/fib25.yaml`: with `subvolume: [128, 256, 256]`, so
that the slab is filled in one piece; as it stands; and with `orders: [forward, reverse]`. The
second and the third may be of a part of the slab, which then begins at voxel Z Y X, or be missing.
`reference` is the published segmentation (filled in a larger cube) of the same voxels. All is
scored on the slab, or part, less a margin at each face:

- ``one_piece``: the objects as they were filled;
- ``agglomeration``: with the default threshold, and with one that is chosen on the planes below
  the middle, scored on both halves;
- ``pieces``: assembled objects, beside those of the one piece in the same voxels; ``faces`` counts
  the objects whose two sides at a face hold more than 80 % of each other, and those left apart.

Prints them and writes ``benchmarks/results/ffn_slab.json``. ``--picture`` draws the middle plane:
image, truth, filled, agglomerated, published. An object has the colour of the true one that most of
it lies in, and a white edge: a split is an edge within one colour, a merge one colour over two.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from common import keep
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.segmentation import find_boundaries

from tessera.config import Assembly
from tessera.evaluate.segmentation import count_overlaps, scores, threshold_curve
from tessera.label.assembly.join import evidence, read_recovered
from tessera.label.assembly.matching import match, shared_slab
from tessera.volume.box import Box
from tessera.volume.store import open_volume
from tessera.volume.subvolume import extent, load_arrays, read_store, subvolume_file

SHOWN = ("voi_split_both", "voi_merge_both", "voi_sum_both", "voi_sum_whole", "rand_error_both",
         "coverage")  # fmt: skip
THRESHOLDS = [2.0, *(n / 20 for n in range(20, 0, -1))]  # above 1 nothing is joined
DEFAULT = THRESHOLDS.index(Assembly().recovered)
FILL, LABEL = Path("predict/neurons"), Path("label/neurons/neuron")


class Part:
    """A specimen's results, and where in the slab it lies.

    Args:
        root: ``results/<specimen>``.
        at: its first voxel (z, y, x) in the slab.
        margin: voxels at each face that are not scored.
    """

    def __init__(self, root: Path, at: tuple[int, int, int], margin: int) -> None:
        self.root, self.margin = root, margin
        volume = open_volume(root / LABEL / "fragments/labels.zarr")
        self.whole = Box.whole(volume.shape)
        self.labels = volume.read(self.whole)
        self.inner = self.whole.grow((-margin,) * 3)
        self.place = self.inner.shift(at)  # of the interior in the slab

    @property
    def scored(self) -> np.ndarray:
        """Labels of the interior, before agglomeration."""
        return self.labels[self.inner.slices]

    def contacts(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of fragments (pair, 2), and how sure it is that they are one (pair,)."""
        (rows,) = load_arrays(self.root / LABEL / "fragments/contacts.npz", "contacts")
        recovered = read_recovered(self.root / FILL / "refill", rows)
        voxels = np.bincount(self.labels.ravel())[1:]
        return rows[:, :2], evidence(rows[:, :2], recovered, voxels, Assembly().max_voxels)


def shown(found: dict[str, float]) -> dict[str, float]:
    return {name: round(found[name], 4) for name in SHOWN}


def agglomeration(part: Part, truth: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Choose a threshold on the lower planes, score it on the upper ones."""
    pairs, found = part.contacts()
    middle = part.scored.shape[0] // 2
    halves = {"lower": np.s_[:middle], "upper": np.s_[middle:], "all": np.s_[:]}
    curves = {
        name: threshold_curve(
            count_overlaps(part.scored[planes], truth[planes]), pairs, found, THRESHOLDS
        )
        for name, planes in halves.items()
    }
    best = int(np.argmin([one["voi_sum_both"] for one in curves["lower"]]))
    return {
        "pairs": len(pairs),
        "chosen_on_lower_planes": THRESHOLDS[best],
        **{
            name: {
                "planes": [part.place.start.z + (planes.start or 0),
                           part.place.start.z + (planes.stop or len(truth))],
                "raw": shown(curves[name][0]),
                "agglomerated": shown(curves[name][best]),
                "agglomerated_default": shown(curves[name][DEFAULT]),
                "reference": shown(scores(reference[planes], truth[planes])),
                "voi_sum_both_over_thresholds": {
                    f"{one['threshold']:.2f}": round(one["voi_sum_both"], 4)
                    for one in curves[name]
                },
            }
            for name, planes in halves.items()
        },
    }  # fmt: skip


def faces(part: Part) -> dict[str, int]:
    """Count objects that hold 80 % of each other across a face, and those left apart.

    The objects are those of the subvolumes' own files; the assembly is only looked up.
    """
    store = read_store(part.root / FILL)
    labels = {
        block.index: load_arrays(subvolume_file(part.root / FILL, block.index), "labels")[0][0]
        for block in store.grid
    }
    found = {"agree_by_80_percent": 0, "left_apart": 0}
    for block in store.grid:
        for axis in range(3):
            step = tuple(int(axis == n) for n in range(3))
            other = next(
                (b for b in store.grid
                 if b.index == tuple(i + s for i, s in zip(block.index, step, strict=True))), None
            )  # fmt: skip
            if other is None:
                continue
            slab = shared_slab(block, axis, store.overlap_vox, store.shape)
            here, there = (
                labels[b.index][slab.inside(extent(b, store.shape))] for b in (block, other)
            )
            ids = part.labels[slab.slices]
            for a, b, _ in match(here, there, 0.8).tolist():
                both = ids[(here == a) & (there == b)]
                if both.any():  # else it is smaller than what is kept
                    found["agree_by_80_percent"] += 1
                    found["left_apart"] += int(len(np.unique(both[both > 0])) > 1)
    return found


def joined(part: Part) -> np.ndarray:
    """Labels of the interior, agglomerated at the default threshold."""
    pairs, found = part.contacts()
    a, b = pairs[found >= THRESHOLDS[DEFAULT]].T
    count = int(part.labels.max()) + 1
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(count, count))
    groups = connected_components(graph, directed=False)[1]
    return np.where(part.scored > 0, groups[part.scored] + 1, 0)


def coloured(labels: np.ndarray, truth: np.ndarray, plane: int) -> np.ndarray:
    """A plane (y, x, 3) of labels, in the colours of the true objects that they lie in."""
    shades = np.random.default_rng(3).integers(60, 236, (int(truth.max()) + 1, 3))
    shades[0] = 0
    overlaps = np.zeros((int(labels.max()) + 1, len(shades)), np.int64)
    np.add.at(overlaps, (labels.ravel(), truth.ravel()), 1)
    overlaps[:, 0] = 0  # what lies in no true object is black
    out = shades[overlaps.argmax(1)][labels[plane]]
    out[labels[plane] == 0] = 0
    out[find_boundaries(labels[plane], mode="inner")] = 255
    return out.astype(np.uint8)


def draw(path: Path, image: np.ndarray, truth: np.ndarray, segmentations: list[np.ndarray]) -> None:
    """Write the middle plane of an image, of the truth and of segmentations side by side."""
    plane = len(truth) // 2
    _, truth = np.unique(truth, return_inverse=True)  # small numbers; 0 stays first
    truth = truth.reshape(image.shape)
    parts = [np.repeat(image[plane, ..., None], 3, -1)]
    parts += [coloured(one, truth, plane) for one in [truth, *segmentations]]
    gap = np.full((image.shape[1], 4, 3), 255, np.uint8)
    row = [strip for part in parts for strip in (part, gap)][:-1]
    whole = Image.fromarray(np.concatenate(row, axis=1))
    whole.resize((2 * whole.width, 2 * whole.height), Image.Resampling.NEAREST).save(path)


def fill_cost(root: Path) -> dict[str, float]:
    """Sum moves and seconds over a fill's subvolumes."""
    entries = {}
    for path in sorted((root / FILL / "records").glob("*.json*")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "block" in entry:
                entries[path.stem, entry["block"]] = entry
    moves = sum(one["moves"] for e in entries.values() for one in e["result"].values())
    seconds = round(sum(e["seconds"] for e in entries.values()), 1)
    return {"subvolumes": len(entries), "moves": moves, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    slab = Path("../shared/data/em/fib25_training2_z000-110.h5")
    parser.add_argument("--slab", type=Path, default=slab)
    parser.add_argument("--one", type=Path, default=Path("results/fib25_one"))
    parser.add_argument("--pieces", type=Path, default=Path("results/fib25"))
    parser.add_argument("--consensus", type=Path, default=Path("results/fib25_both"))
    parser.add_argument("--pieces-at", type=int, nargs=3, default=(0, 0, 0), metavar="VOX")
    parser.add_argument("--consensus-at", type=int, nargs=3, default=(0, 0, 0), metavar="VOX")
    parser.add_argument("--margin", type=int, default=24, help="voxels at each face")
    parser.add_argument("--picture", type=Path, help="PNG of the middle plane")
    args = parser.parse_args()
    if not (args.one / LABEL / "fragments/labels.json").exists():
        sys.exit(f"{args.one}: holds no labels of the slab in one piece; run the workflow for it")
    one = Part(args.one, (0, 0, 0), args.margin)
    with h5py.File(args.slab) as file:
        truth, reference = (file[f"labels/{n}"][:] for n in ("neuron_ids", "ffn_reference"))
        image = file["raw"][one.place.slices]

    def rows(**labels: np.ndarray) -> dict[str, Any]:
        """Score several segmentations of the voxels that the last part takes."""
        return {name: shown(scores(ids, truth[box.slices])) for name, ids in labels.items()}

    box = one.place
    found: dict[str, Any] = {"margin_vox": args.margin}
    found["one_piece"] = {
        "box": [list(box.start), list(box.stop)],
        **rows(tessera=one.scored, reference=reference[box.slices]),
        **fill_cost(args.one),
    }
    if (args.one / FILL / "refill").exists():
        found["agglomeration"] = agglomeration(one, truth[box.slices], reference[box.slices])
        if args.picture:
            published = np.unique(reference[box.slices], return_inverse=True)[1]
            ours = [one.scored, joined(one), published.reshape(image.shape)]
            draw(args.picture, image, truth[box.slices], ours)
    for name in ("pieces", "consensus"):
        if not (getattr(args, name) / LABEL / "fragments/labels.json").exists():
            continue
        part = Part(getattr(args, name), getattr(args, f"{name}_at"), args.margin)
        box = part.place
        found[name] = {
            "box": [list(box.start), list(box.stop)],
            **rows(
                tessera=part.scored,
                one_piece=one.labels[box.slices],
                reference=reference[box.slices],
            ),
            **fill_cost(part.root),
        }
        if name == "pieces":
            found[name]["faces"] = faces(part)
        if (part.root / FILL / "refill").exists():
            found[name]["agglomeration"] = agglomeration(
                part, truth[box.slices], reference[box.slices]
            )
    keep("ffn_slab", found)


if __name__ == "__main__":
    main()
