"""A batch of overlapping subvolumes, filled one after the other, through the block engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tessera.config import Fill, Predict
from tessera.errors import TesseraError
from tessera.predict.ffn import checkpoints
from tessera.predict.ffn.canvas import Canvas, logit
from tessera.predict.ffn.fill import Filler, Moves, State
from tessera.predict.ffn.moves import Mover, drive
from tessera.predict.ffn.seeds import find_seeds
from tessera.volume.box import Block, Box
from tessera.volume.engine import Task, run_batch
from tessera.volume.record import Record, make_key
from tessera.volume.store import open_volume
from tessera.volume.subvolume import (
    Store,
    extent,
    make_grid,
    read_store,
    save_arrays,
    subvolume_file,
)

_COMPILE_MOVES = 500  # fields of view in a subvolume above which compiling pays


def create(settings: Predict, volume: Path, model: Path, batches: int, folder: Path) -> Store:
    """Lay out the fill of a volume: ``store.json``.

    Args:
        settings: the section ``predict``.
        volume: ``mosaic/volume.json``.
        model: folder of the bundle of a flood-filling network.
        batches: number of batches of subvolumes.
        folder: ``predict/<model>``.

    Raises:
        TesseraError: if volume or bundle are missing, or the overlap does not fit the network.
    """
    from tessera.nets.bundle import read_facts

    try:
        about = json.loads(volume.read_text())
        digest, path = about["digest"], volume.parent / about["path"]
    except OSError as error:
        raise TesseraError(f"{volume}: cannot be read ({error.strerror}); run mosaic") from None
    except (ValueError, KeyError, TypeError):
        raise TesseraError(f"{volume}: is not mosaic's volume.json; run mosaic") from None
    facts, raw = read_facts(model)
    if facts.net["name"] != "ffn":
        raise TesseraError(
            f"{model}: is a bundle of '{facts.net['name']}', which predicts by blocks; only a "
            "flood-filling network fills"
        )
    image = open_volume(path)
    fill = settings.fill
    grid = make_grid(image.shape, fill.subvolume, fill.overlap_vox)
    for axis, count, reach in zip("zyx", grid.counts, facts.halo_vox, strict=True):
        if count > 1 and fill.overlap_vox // 2 < reach:
            raise TesseraError(
                f"predict.fill.overlap_vox is {fill.overlap_vox}, but the network's field of view "
                f"reaches {reach} voxels along {axis}, and its centre must reach the edge of what "
                f"a subvolume owns; make the overlap at least {2 * reach}"
            )
    batches = max(1, batches)
    named = settings.model_dump(mode="json", include={"precision", "mask", "fill"})
    for other in ("checkpoint_minutes", "window_vox"):  # change nothing of a subvolume
        named["fill"].pop(other)
    key = make_key(
        stage="fill",
        version=version("tessera"),
        settings=named,
        volume=digest,
        model=raw["digest"],
        block=grid.block,
    )
    store = Store(
        key=key,
        volume=str(path.resolve()),
        model=str(model.resolve()),
        shape=image.shape,
        voxel_um=image.voxel_um,
        origin_um=image.origin_um,
        block=grid.block,
        overlap_vox=fill.overlap_vox,
        batches=batches,
        classes=facts.classes,
        settings=settings.model_dump(mode="json"),
    )
    store.write(folder)
    return store


@dataclass(frozen=True)
class Filled:
    """One subvolume: labels of each order of seeds (order, z, y, x), and how they came about."""

    labels: np.ndarray
    states: list[State]


def fill_subvolume(
    image: np.ndarray,
    blocked: np.ndarray | None,
    mover: Mover,
    rules: Fill,
    checkpoint: Path | None = None,
    key: str = "",
) -> Filled:
    """Fill one subvolume in memory, in each order of seeds.

    Args:
        image: float32 (z, y, x), normalised.
        blocked: True where no move may go, or None.
        mover: the network.
        rules: thresholds, sizes, orders.
        checkpoint: file to go on from and to write now and then, or None.
        key: hash of all that the result depends on; a checkpoint of another is not believed.
    """
    seeds = find_seeds(image, blocked)
    found = checkpoints.load(checkpoint, key) if checkpoint is not None else None
    done: list[np.ndarray] = [] if found is None else found.done
    states: list[State] = [] if found is None else found.states
    clock = _Clock(rules.checkpoint_minutes * 60)
    for number, order in enumerate(rules.orders[len(done) :], len(done)):
        canvas = Canvas(image, mover.fov, blocked, logit(rules.pad))
        if number < len(states) and found is not None:
            found.restore(canvas)
        else:
            states.append(State())
        places = seeds if order == "forward" else seeds[::-1]

        def save(canvas: Canvas = canvas) -> None:
            if checkpoint is not None and clock.due():
                checkpoints.save(checkpoint, key, done, canvas, states)

        drive([_watched(Filler(canvas, mover.deltas, rules).run(places, states[-1]), save)], mover)
        done.append(canvas.labels)
    labels = np.maximum(np.stack(done), 0).astype(np.uint32)  # drops what is merely excluded
    return Filled(labels, states)


def _watched(moves: Moves, after: Callable[[], None]) -> Moves:
    """Pass moves on, and call ``after`` each once its answer has been taken in."""
    fields = next(moves, None)
    while fields is not None:
        logits = yield fields
        try:
            fields = moves.send(logits)
        except StopIteration:
            return
        after()


class _Clock:
    """Says when some seconds have gone by; what it says changes no result."""

    def __init__(self, every_s: float) -> None:
        self._every, self._last = every_s, time.monotonic()

    def due(self) -> bool:
        """True once each interval."""
        now = time.monotonic()
        if now - self._last < self._every:
            return False
        self._last = now
        return True


def run(folder: Path, batch: int, of: int, comm: Any | None = None) -> Record:
    """Fill the subvolumes of one batch.

    Raises:
        TesseraError: if nothing was laid out; as :func:`tessera.volume.engine.run_batch` does.
    """
    from tessera.compute import device as devices
    from tessera.compute.ranks import rank_of
    from tessera.nets import bundle

    store = read_store(folder)
    settings = Predict.model_validate(store.settings)
    blocks = store.blocks(batch, of)
    model = bundle.load(store.model)
    image = open_volume(store.volume)
    mask = None
    if settings.mask is not None:
        from tessera.formats import open_source

        mask = open_source(settings.mask)
    devices.set_threads(1 if comm is None else int(comm.Get_size()))
    device = devices.choose(settings.precision, rank_of(comm))
    many = sum(extent(b, store.shape).size for b in blocks) / 600 > _COMPILE_MOVES
    mover = Mover(model.net, device, compiled=many and device.precision != "fp32")  # type: ignore[arg-type]

    def read(block: Block) -> tuple[np.ndarray, np.ndarray | None]:
        box = extent(block, store.shape)
        mean, std = model.facts.normalisation["mean"], model.facts.normalisation["std"]
        voxels = (image.read(box).astype(np.float32) - np.float32(mean)) / np.float32(std)
        return voxels, None if mask is None else np.asarray(mask.read(box)) > 0

    def compute(block: Block, data: tuple[np.ndarray, np.ndarray | None]) -> Filled:
        return fill_subvolume(*data, mover, settings.fill, _checkpoint(folder, block), store.key)

    def write(block: Block, filled: Filled) -> dict[str, Any]:
        box = extent(block, store.shape)
        save_arrays(
            subvolume_file(folder, block.index),
            labels=filled.labels,
            objects=_table(filled.states, box),
        )
        _checkpoint(folder, block).unlink(missing_ok=True)
        return {
            name: state.statistics.as_json()
            for name, state in zip(settings.fill.orders, filled.states, strict=True)
        }

    def files(block: Block) -> list[Path]:
        return [subvolume_file(folder, block.index)]

    task = Task(read, compute, write, files, "fill, subvolumes")
    record = folder / "records" / f"{batch:04d}.json"
    return run_batch(task, blocks, record, store.key, comm)


def _checkpoint(folder: Path, block: Block) -> Path:
    return folder / "checkpoints" / f"{block.name}.npz"


def _table(states: list[State], box: Box) -> np.ndarray:
    """int64 (object, 6): order, seed z, y, x in the volume, moves, voxels."""
    rows = [
        (order, z + box.start.z, y + box.start.y, x + box.start.x, moves, voxels)
        for order, state in enumerate(states)
        for z, y, x, moves, voxels in state.objects
    ]
    return np.array(rows, np.int64).reshape(-1, 6)
