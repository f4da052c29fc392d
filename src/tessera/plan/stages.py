"""The work of each rule of the workflow, in the order in which they run.

Sizes follow from the config and the headers of the raw data; what a job holds in memory follows
from how the stage is written, and stands beside it here. Bytes are those on disk: floats of a
tomogram hardly compress (as :mod:`tessera.check` takes them), probabilities to a half and labels to
a twentieth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera import layout
from tessera.config import Config, Model
from tessera.plan import work
from tessera.plan.filling import assemble, fill, refill
from tessera.plan.network import Network, compute_block, memory, network, together
from tessera.plan.work import MIB, Work

Shape = tuple[int, int, int]

_PROBABILITY, _LABEL = 0.5, 0.05  # of their bytes are left by zstd
_JOB_FILES = 3  # a record, a log and Snakemake's benchmark
_PIECE = 1 << 24  # voxels that statistics hold at a time in each thread
_HOROVOD = 128.0 * MIB  # its buffer for gradients on their way
_LIBRARIES = 130.0 * MIB  # of tomography, which no other stage loads
_TRAIN_PASSES = 3  # forward, and twice as much backward
_ITEM = {"float32": 4, "uint16": 2, "uint8": 1}


@dataclass(frozen=True)
class Data:
    """What the run starts from.

    Attributes:
        shape: of the volume (z, y, x).
        item: bytes of a voxel of the volume.
        tiles: (angles, rows, columns, bytes of a pixel) of each scan; empty for a volume.
        pairs: of tiles whose nominal boxes overlap.
    """

    shape: Shape
    item: int
    tiles: tuple[tuple[int, int, int, int], ...] = ()
    pairs: int = 0

    @property
    def voxels(self) -> int:
        """Voxels of the volume."""
        return math.prod(self.shape)


def data_of(config: Config) -> Data:
    """Read headers and say what the run starts from.

    Raises:
        TesseraError: the data cannot be read, as ``tessera check`` would say.
    """
    if config.volume is not None:
        from tessera.formats import open_source

        with open_source(config.volume) as source:
            item = _ITEM.get(str(np.dtype(source.dtype)), 4)
            return Data((*source.shape,), item)
    item = _ITEM[config.mosaic.dtype]
    if config.simulate is not None:
        from tessera.simulate.tiles import frame, tile_grid

        plans = list(tile_grid(config.simulate).values())
        tiles = tuple((config.simulate.angles, p.rows, p.columns, 2) for p in plans)
        pairs = _pairs([p.nominal_um for p in plans], tiles, config.simulate.voxel_um)
        return Data(frame(config.simulate)[0], item, tiles, pairs)
    from tessera.formats import nominal_frame, scan_header

    scans = layout.scans(config)
    frame_of_all = nominal_frame(scans, config.recon.pixel_um, config.recon.axis.half_acquisition)
    headers = [scan_header(path) for path in scans.values()]
    tiles = tuple((h.angles, h.rows, h.columns, np.dtype(h.dtype).itemsize) for h in headers)
    places = [h.position_um or (0.0, 0.0, 0.0) for h in headers]
    return Data(frame_of_all.shape, item, tiles, _pairs(places, tiles, frame_of_all.voxel_um))


def _pairs(
    places: Sequence[Sequence[float]],
    tiles: Sequence[tuple[int, int, int, int]],
    voxel_um: float,
) -> int:
    """How many pairs of tiles (of one shape) overlap at their nominal places (um)."""
    _, rows, columns, _ = tiles[0]
    away = np.abs(np.array(places)[:, None] - np.array(places)[None]) / voxel_um
    near = (away < np.array([rows, columns, columns])).all(axis=2)
    return int(near.sum() - len(tiles)) // 2


def works(config: Config, data: Data | None = None) -> list[Work]:
    """Return the work of all rules.

    Args:
        config: the settings.
        data: what :func:`data_of` found; None looks.
    """
    data = data or data_of(config)
    found: list[Work] = []
    if config.simulate is not None:
        found += _simulate(data)
    if data.tiles:
        found += [_recon(config, data), *_mosaic(config, data)]
    else:
        found.append(_import(config, data))
    nets = {name: network(model) for name, model in config.models.items()}
    for name, model in config.models.items():
        if model.ensemble:  # all members over the same blocks, one after the other
            nets[name] = together([nets[member] for member in model.ensemble])
    for name, model in config.models.items():
        if model.volumes:
            found.append(_volumes(name, model, config))
        found.append(_train(name, model, nets[name], data))
    filling = {name for name, model in config.models.items() if model.net == "ffn"}
    for name in nets:
        if name in filling:
            found += fill(name, nets[name], config, data.shape, data.item)
        else:
            found += _predict(name, nets[name], config, data)
    pairs = [
        (name, kind)
        for name, model in config.models.items()
        for kind in config.label.classes
        if kind in model.classes
    ]
    for name, kind in pairs:
        labelled = list(_label(f"{name}/{kind}", len(config.models[name].classes), config, data))
        if name in filling:
            found += assemble(name, kind, nets[name], config, data.shape, data.item)
            labelled = labelled[-1:]  # label_finish
        found += labelled
    if config.label.assembly.agglomerate:
        filled = {w.of: w for w in found if w.rule == "predict"}
        found += [refill(n, filled[n]) for n in sorted(filling & {n for n, _ in pairs})]
    for name, kind in pairs:
        found.append(_analyse(f"{name}/{kind}", data))
    return [*found, *_last(config, data)]


def _simulate(data: Data) -> Iterator[Work]:
    voxels, shard = data.voxels, 64
    blocks = work.blocks(data.shape, (shard,) * 3)
    yield Work(
        "simulate_truth",
        1,
        blocks,
        voxels / 1e6,
        "Mvoxel",
        written=voxels * (4 + 1 * _LABEL + 4 * _LABEL),
        files=3 * work.volume_files(data.shape, (shard,) * 3) + _JOB_FILES,
        held=3.0 * shard**3 * 9,
    )
    pixels = sum(a * r * c for a, r, c, _ in data.tiles)
    yield Work(
        "simulate_scan",
        len(data.tiles),
        len(data.tiles),
        pixels / 1e6,
        "Mpixel",
        written=2.0 * pixels,
        files=_JOB_FILES * len(data.tiles),
        held=max(a * r * c for a, r, c, _ in data.tiles) * 10.0,
    )


def _recon(config: Config, data: Data) -> Work:
    from tessera.recon.tile import slab_rows

    pixels = raw = stored = held = 0.0
    blocks = files = 0
    for angles, rows, columns, item in data.tiles:
        slab = slab_rows(config.recon.rows, angles, columns)
        pixels += angles * rows * columns  # the axis is found first, on a few frames
        raw += angles * rows * columns * item
        stored += 4.0 * rows * columns**2
        blocks += -(-rows // slab)
        files += work.volume_files((rows, columns, columns), (slab, columns, columns))
        files += 6 + _JOB_FILES  # axis.json, qc.npz, the folders of the tile and its records
        at_once, lanes = min(slab, rows), min(8, rows)
        # Counts of two slabs, slices of two on their way to the disk; of eight rows transmission,
        # integrals, and these without stripes; their spokes; the grid and its columns.
        counts = 2 * item * angles * at_once * columns
        slices = 2 * 4.0 * at_once * columns**2
        spokes = 1.5 * columns * angles * 8 * 8
        arrays = counts + slices + 16 * angles * lanes * columns + spokes + 120 * columns**2
        held = max(held, arrays + _LIBRARIES)
    jobs = len(data.tiles)
    return Work(
        "recon", jobs, blocks, pixels / 1e6, "Mpixel", "", -(-blocks // jobs),
        read=raw, written=stored, files=files, held=held, size="recon.rows",
    )  # fmt: skip


def _mosaic(config: Config, data: Data) -> Iterator[Work]:
    settings, shape = config.mosaic, data.shape
    tile_voxels = sum(r * c * c for _, r, c, _ in data.tiles)
    yield Work(
        "mosaic_register", 1, max(1, data.pairs), float(data.pairs), "overlaps",
        read=4 * 64.0 * 64**3 * data.pairs, files=_JOB_FILES, held=96.0 * MIB,
    )  # fmt: skip
    looks = settings.dtype != "float32" and settings.window is None
    yield Work(
        "mosaic_store", 1, 1, tile_voxels / 1e6 if looks else 0.0, "Mvoxel",
        read=8.0 * tile_voxels if looks else 0.0, files=2,
        held=_statistics(max(r * c * c for _, r, c, _ in data.tiles), 4) if looks else 0.0,
    )  # fmt: skip
    batches = layout.batches(config, settings.batches, settings.shard)
    blocks = work.blocks(shape, settings.shard)
    shard = math.prod(settings.shard)
    yield Work(
        "mosaic_fuse", batches, blocks, data.voxels / 1e6, "Mvoxel",
        read=4.0 * work.read_voxels(shape, settings.shard, (8, 8, 8)),
        written=float(data.voxels * data.item),
        files=_JOB_FILES * batches + work.volume_files(shape, settings.shard),
        # Sum and weight in double, parts of tiles with their margins, two blocks on their way.
        held=shard * 8.0 * 8,
        batches="mosaic.batches", size="mosaic.shard",
    )  # fmt: skip
    yield _finish(config, data, "mosaic_finish")


def _finish(config: Config, data: Data, rule: str) -> Work:
    """Coarser levels and statistics: the volume is read three times."""
    levels, voxels = config.mosaic.levels, data.voxels
    shard = math.prod(config.mosaic.shard)
    coarse = [-(-n // 2) for n in data.shape]
    return Work(
        rule, 1, max(1, work.blocks(coarse, config.mosaic.shard)), voxels / 1e6, "Mvoxel",
        read=(3.0 + 0.15) * voxels * data.item,
        written=work.levels_bytes(voxels, data.item, levels) - voxels * data.item,
        files=sum(
            work.shard_files([-(-n // 2**level) for n in data.shape], config.mosaic.shard) + 1
            for level in range(1, levels)
        ) + _JOB_FILES,
        held=max(shard * 8.0 * (data.item + 17), _statistics(voxels, data.item)),
        size="mosaic.shard",
    )  # fmt: skip


def _statistics(voxels: int, item: int) -> float:
    """Bytes that statistics hold: a piece, and it as doubles, in each of two threads."""
    return 2.0 * min(_PIECE, voxels) * (item + 16)


def _import(config: Config, data: Data) -> Work:
    after = _finish(config, data, "mosaic_import")
    shard = config.mosaic.shard
    voxels = data.voxels
    return Work(
        "mosaic_import", 1, work.blocks(data.shape, shard), voxels / 1e6, "Mvoxel",
        read=after.read + voxels * data.item,
        written=work.levels_bytes(voxels, data.item, config.mosaic.levels),
        files=after.files + work.volume_files(data.shape, shard),
        held=max(after.held, 4.0 * (64 << 20)),
        size="mosaic.shard",
    )  # fmt: skip


def _volumes(name: str, model: Model, config: Config) -> Work:
    """More volumes to learn from, taken in as the specimen's own is."""
    from tessera.formats import open_source

    each = []
    for given in model.volumes:
        with open_source(given.volume) as source:
            data = Data((*source.shape,), _ITEM.get(str(np.dtype(source.dtype)), 4))
            each.append(_import(config, data))
    return Work(
        "train_import", len(each), len(each), sum(w.units for w in each), "Mvoxel", name,
        read=sum(w.read for w in each), written=sum(w.written for w in each),
        files=sum(w.files for w in each), held=max(w.held for w in each),
    )  # fmt: skip


def _train(name: str, model: Model, net: Network, data: Data) -> Work:
    ranks, patch = 2, model.patch
    if model.net == "ffn":
        # A step is one move of the field of view for each example.
        forward = net.gflop(tuple(2 * h + 1 for h in net.halo))
    else:
        forward = net.gflop(patch)
    checks = sum(
        math.prod((data.shape[a] if b is None else b) - s for a, (s, b) in enumerate(
            zip(box.start, box.stop, strict=True)))
        for box in model.split.validation
    ) / math.prod(patch)  # fmt: skip
    steps = _TRAIN_PASSES * model.batch * model.accumulate * ranks * model.steps
    known = model.steps // model.validate_every * checks
    gflop = forward * (steps + known) if model.is_trained else 0.0
    voxels = model.batch * math.prod(patch)
    size = (4 + 4) * net.parameters * 4.0  # weights, average, two moments; in checkpoints, too
    return Work(
        "train", 1, model.steps, gflop, "GFLOP", name, model.steps,
        read=ranks * model.batch * model.steps * model.accumulate * math.prod(patch) * data.item,
        written=size / 2, files=8 + _JOB_FILES,
        # Backward keeps what forward made, and kept memory has gaps: six times inference.
        held=size + 6.0 * voxels * net.voxel_bytes + _HOROVOD,
        tasks=ranks, start="torch",
    )  # fmt: skip


def _predict(name: str, net: Network, config: Config, data: Data) -> Iterator[Work]:
    settings, shape = config.predict, data.shape
    channels = net.outputs if settings.output == "probabilities" else 1
    block = compute_block(net, settings, shape)
    count = work.blocks(shape, block)
    gflop = 0.0
    for write, before, after, number in work.kinds(shape, block, net.halo):
        z, y, x = ((b, b + w) for b, w in zip(before, write, strict=True))
        read = tuple(
            -(-(b + w + c) // a) * a
            for b, w, c, a in zip(before, write, after, net.align, strict=True)
        )
        gflop += number * net.gflop(read, (z, y, x))
    read_box = math.prod(b + 2 * h for b, h in zip(block, net.halo, strict=True))
    takes = memory(net).of(read_box, math.prod(block))
    batches = layout.batches(config, settings.batches, settings.block)
    stored = channels * data.voxels * _PROBABILITY
    yield Work(
        "predict_store", 1, 1, 0.0, "GFLOP", name, files=2 + 1, start="torch",
    )  # fmt: skip
    yield Work(
        "predict", batches, count, gflop * (8 if settings.augment else 1), "GFLOP", name,
        read=float(work.read_voxels(shape, block, net.halo) * data.item), written=stored,
        files=_JOB_FILES * batches
        + work.volume_files(shape, settings.block, channels=channels > 1),
        held=min(takes, settings.memory_gib * 1024 * MIB)
        + math.prod(block) * (channels * 6.0),
        start="torch", batches="predict.batches", size="predict.block",
    )  # fmt: skip
    faces = sum(6.0 / b for b in block)
    yield Work(
        "predict_finish", 1, count, channels * faces * data.voxels / 1e6, "Mvoxel", name,
        read=stored * sum(2.0 * c / b for b, c in zip(block, settings.chunk, strict=True)),
        files=_JOB_FILES, held=6.0 * max(block) ** 2 * channels * 12, start="torch",
    )  # fmt: skip


def _label(of: str, channels: int, config: Config, data: Data) -> Iterator[Work]:
    settings, shape = config.label, data.shape
    batches = layout.batches(config, settings.batches, settings.block)
    count, block = work.blocks(shape, settings.block), math.prod(settings.block)
    seen = work.read_voxels(shape, settings.block, (0, 0, 0))
    fragments = data.voxels / 5000  # more are seldom seen; a row of sums each, and ids on faces
    common: dict[str, Any] = {"of": of, "batches": "label.batches", "size": "label.block"}
    yield Work("label_store", 1, 1, 0.0, "Mvoxel", of, files=4)
    yield Work(
        "label_local", batches, count, data.voxels / 1e6, "Mvoxel",
        read=seen * _PROBABILITY, written=200 * fragments,
        files=_JOB_FILES * batches + 2, held=block * (3.0 + 4 + 16), **common,
    )  # fmt: skip
    yield Work(
        "label_merge", 1, count, data.voxels / 1e6, "Mvoxel", of,
        read=200 * fragments, written=100 * fragments, files=2 + _JOB_FILES,
        held=400 * fragments, size="label.block",
    )  # fmt: skip
    yield Work(
        "label_relabel", batches, count, data.voxels / 1e6, "Mvoxel",
        read=seen * _PROBABILITY, written=4 * _LABEL * data.voxels,
        files=_JOB_FILES * batches + work.volume_files(shape, settings.block),
        held=block * (3.0 + 4 + 8 + 4), **common,
    )  # fmt: skip
    yield Work(
        "label_finish", 1, count, data.voxels / 1e6, "Mvoxel", of,
        written=20 * fragments, files=2 + _JOB_FILES, held=200 * fragments,
    )  # fmt: skip


def _analyse(of: str, data: Data) -> Work:
    return Work(
        "analyse", 1, 1, data.voxels / 1e6, "Mvoxel", of,
        read=4 * _LABEL * data.voxels, written=0.001 * data.voxels, files=3 + _JOB_FILES,
        held=64.0 * MIB,
    )  # fmt: skip


def _last(config: Config, data: Data) -> Iterator[Work]:
    classes = sum(len(m.classes) for m in config.models.values())
    yield Work(
        "evaluate", 1, 1, data.voxels / 1e6, "Mvoxel", files=6 + _JOB_FILES,
        read=data.voxels * (classes * _PROBABILITY + data.item), held=128.0 * MIB,
    )  # fmt: skip
    yield Work(
        "report", 1, 1, data.voxels / 1e6, "Mvoxel", written=4.0 * MIB, files=2 + _JOB_FILES,
        read=0.05 * data.voxels * data.item, held=128.0 * MIB,
    )  # fmt: skip
