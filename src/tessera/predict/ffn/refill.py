"""Resegmentation: do two fragments in contact fill each other?

In a window about the contact both are taken away, all others stay, and each is filled again from a
point deep inside it. If the two are one neurite, a fill recovers both; if not, each recovers itself
alone (Januszewski 2018, doi:10.1038/s41592-018-0049-4, "agglomeration").

1. Of each fragment only the connected piece at the contact counts: a neurite that comes by a second
   time, elsewhere in the window, is not reached from here by anybody.
2. The smaller piece is filled first. If that recovers next to nothing of the other, the pair has
   been found to be two, and the larger piece, whose fill costs the most moves, is not asked.
3. What was recovered of all pairs is kept; it is weighed, and a threshold chosen, later, by who
   joins them.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tessera.config import Predict
from tessera.predict.ffn.canvas import Canvas, Position, logit
from tessera.predict.ffn.fill import Filler
from tessera.predict.ffn.moves import Mover, drive
from tessera.volume.box import Block, Box, Grid
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record, file_hash, make_key
from tessera.volume.store import Volume, open_volume
from tessera.volume.subvolume import load_arrays, read_store, save_arrays

UNIT = 16  # pairs that are done and recorded together
_HOPELESS = 0.05  # of the other recovered by the first fill, below which there is no second


@dataclass
class Recovery:
    """What two fills recovered, as shares of a fragment's voxels in the window's interior.

    Attributes:
        a_from_a, b_from_a: by the fill that began in a.
        a_from_b, b_from_b: by the one that began in b.
        iou: intersection over union of the two fills.
    """

    a_from_a: float = 0.0
    b_from_a: float = 0.0
    a_from_b: float = 0.0
    b_from_b: float = 0.0
    iou: float = 0.0

    def row(self) -> list[float]:
        """Return the five numbers."""
        return [self.a_from_a, self.b_from_a, self.a_from_b, self.b_from_b, self.iou]


class Contact(NamedTuple):
    """What is around a contact.

    Attributes:
        image: normalised window (z, y, x).
        labels: fragments in it.
        pair: ids of a and b.
        point: where they meet, in the window.
    """

    image: np.ndarray
    labels: np.ndarray
    pair: tuple[int, int]
    point: Position


def window_about(point: Position, side: int, shape: tuple[int, int, int]) -> Box:
    """Return a box of ``side`` about a point, moved into the volume (cut where it is smaller)."""
    start = [max(0, min(p - side // 2, n - side)) for p, n in zip(point, shape, strict=True)]
    stop = [min(s + side, n) for s, n in zip(start, shape, strict=True)]
    return Box.of(tuple(start), tuple(stop))


def refill(
    contact: Contact,
    fov: tuple[int, int, int],
    deltas: tuple[int, int, int],
    rules: Any,
    found: Recovery,
) -> Generator[np.ndarray, np.ndarray, None]:
    """Fill each of a pair again, and note what that recovers.

    Args:
        contact: the pair, and what is around it.
        fov, deltas: the network's geometry.
        rules: thresholds, :class:`tessera.config.Fill`.
        found: filled in.
    """
    labels = contact.labels
    whole = [labels == one for one in contact.pair]
    others = (labels > 0) & ~whole[0] & ~whole[1]
    pieces = [_piece_at(mask, contact.point) for mask in whole]
    inner = tuple(slice(f // 4, n - f // 4) for f, n in zip(fov, labels.shape, strict=True))
    fills: list[np.ndarray] = []
    first = int(pieces[1].sum() < pieces[0].sum())
    for number in (first, 1 - first):
        start = _deepest(pieces[number], fov)
        if start is None:
            return
        canvas = Canvas(contact.image, fov, None, logit(rules.pad))
        canvas.labels[others] = 1
        filler = Filler(canvas, deltas, rules)
        yield from filler.grow(filler.begin(start))
        if canvas.seed[start] < filler.move_logit:
            return  # it does not even keep its own start
        fill = (canvas.seed >= filler.segment_logit) & ~others
        fills.append(fill)
        shares = [_share(fill[inner], piece[inner]) for piece in pieces]
        if number == 0:
            found.a_from_a, found.b_from_a = shares
        else:
            found.a_from_b, found.b_from_b = shares
        if number == first and shares[1 - number] < _HOPELESS:
            return
    both, either = (fills[0] & fills[1]).sum(), (fills[0] | fills[1]).sum()
    found.iou = float(both / either) if either else 0.0


def _piece_at(mask: np.ndarray, point: Position) -> np.ndarray:
    """Return the connected piece of a fragment that comes nearest to a point."""
    from scipy.ndimage import distance_transform_edt, label

    pieces, count = label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return mask
    away = np.ones(mask.shape, bool)
    away[point] = False
    far = np.where(mask, distance_transform_edt(away), np.inf)
    piece: np.ndarray = pieces == pieces[np.unravel_index(int(far.argmin()), mask.shape)]
    return piece


def _share(fill: np.ndarray, mask: np.ndarray) -> float:
    total = int(mask.sum())
    return float((fill & mask).sum() / total) if total else 0.0


def _deepest(mask: np.ndarray, fov: tuple[int, int, int]) -> Position | None:
    """Return the voxel deepest inside a fragment where a field of view fits; None if there is none.

    Of equally deep ones the nearest to the window's middle, where the contact is.
    """
    from scipy.ndimage import distance_transform_edt

    inner = tuple(slice(f // 2, n - f // 2) for f, n in zip(fov, mask.shape, strict=True))
    if not mask[inner].any():
        return None
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1][inner]
    at = np.argwhere(depth >= depth.max() - 1e-6) + [s.start for s in inner]
    far = ((at - np.array(mask.shape) / 2) ** 2).sum(1)
    z, y, x = at[int(far.argmin())].tolist()
    return z, y, x


def unit_file(folder: Path, number: int) -> Path:
    """Where lies what was recovered of a unit of pairs."""
    return folder / "units" / f"{number:06d}.npz"


def run(
    fill_folder: Path,
    labels_path: Path,
    contacts_path: Path,
    window: int,
    batch: int,
    of: int,
    folder: Path,
    comm: Any | None = None,
) -> Record:
    """Score the contacts of a batch.

    Args:
        fill_folder: ``predict/<model>``: network, image and rules.
        labels_path: ``labels.zarr`` of the fragments.
        contacts_path: ``contacts.npz`` of the assembly.
        window: side of the window in voxels, at least the field of view and its steps.
        batch, of: which batch of how many.
        folder: where to write: ``units/``, and the record.

    Raises:
        TesseraError: bad input; as :func:`tessera.volume.engine.run_batch` does.
    """
    from tessera.compute import device as devices
    from tessera.compute.ranks import rank_of
    from tessera.nets import bundle

    store = read_store(fill_folder)
    settings = Predict.model_validate(store.settings)
    model = bundle.load(store.model)
    (contacts,) = load_arrays(contacts_path, "contacts")
    image, labels = open_volume(store.volume), open_volume(labels_path)
    devices.set_threads(1 if comm is None else int(comm.Get_size()))
    device = devices.choose(settings.precision, rank_of(comm))
    at_once = UNIT if device.is_gpu else 1
    mover = Mover(model.net, device, at_once)  # type: ignore[arg-type]
    units = Grid.of((max(1, -(-len(contacts) // UNIT)), 1, 1), (1, 1, 1))

    def rows_of(block: Block) -> np.ndarray:
        first = block.index.z * UNIT
        return contacts[first : first + UNIT]

    def read(block: Block) -> list[Contact]:
        return [
            _around(image, labels, row, window, model.facts.normalisation) for row in rows_of(block)
        ]

    def compute(block: Block, data: list[Contact]) -> np.ndarray:
        found = [Recovery() for _ in data]
        fills = [
            refill(contact, mover.fov, mover.deltas, settings.fill, one)
            for contact, one in zip(data, found, strict=True)
        ]
        drive(fills, mover, at_once)
        return np.array([one.row() for one in found]).reshape(-1, 5)

    def write(block: Block, recovered: np.ndarray) -> dict[str, Any]:
        file = unit_file(folder, block.index.z)
        save_arrays(file, pairs=rows_of(block)[:, :3], recovered=recovered)
        return {"pairs": len(recovered)}

    def files(block: Block) -> list[Path]:
        return [unit_file(folder, block.index.z)]

    key = make_key(refill=2, fill=store.key, contacts=file_hash(contacts_path), window=window)
    task = Task(read, compute, write, files, "refill, units of pairs")
    record = folder / "records" / f"{batch:04d}.json"
    return run_batch(task, [units[n] for n in units.batch(batch, of)], record, key, comm)


def _around(
    image: Volume, labels: Volume, row: np.ndarray, window: int, norm: dict[str, float]
) -> Contact:
    """Read what is around a contact (a, b, faces, z, y, x)."""
    a, b, _, z, y, x = row.tolist()
    box = window_about((z, y, x), window, image.shape)
    voxels = (image.read(box).astype(np.float32) - np.float32(norm["mean"])) / np.float32(
        norm["std"]
    )
    start = box.start
    return Contact(voxels, labels.read(box), (a, b), (z - start.z, y - start.y, x - start.x))
