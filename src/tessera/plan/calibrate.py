"""A few seconds of each stage's own work, on this machine, where no run was measured before.

Each rule's own function is run on a piece of random voxels; what it took of a core is its rate.
Rules that are a small part of any run (tables, scores, the report) or whose work has no small piece
(the overlap of two tiles) are taken as so many readings of as many voxels.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tessera.compute.measure import peak_mib
from tessera.config import Config, Model
from tessera.plan.network import Network, network
from tessera.plan.rates import Rate
from tessera.plan.stages import Data
from tessera.plan.work import MIB, Work
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.record import file_hash
from tessera.volume.store import Layout, Volume, create_volume

_SIDE = 64  # of a piece, in voxels
_TORCH_S, _TORCH_MIB = 1.0, 170.0  # to load torch at the least
_LONG_S = 0.3  # what takes longer is measured once
# In readings of a Mvoxel, as the demo took them; an overlap has at most 64 regions of one size.
_GUESSED = {"Mvoxel": 0.3, "Mpixel": 0.5, "GFLOP": 0.03, "overlaps": 2.5}  # seconds of a core
_READINGS = {"analyse": 10.0, "evaluate": 15.0, "report": 4.0, "mosaic_register": 250.0}
_READINGS |= {"label_merge": 0.3, "label_finish": 0.1, "predict_finish": 4.0}
_READINGS |= {"assemble_match": 20.0, "contacts": 20.0, "join": 15.0}
_READINGS |= {"assemble_merge": 0.3, "contacts_merge": 0.3, "fragments_finish": 0.1}
_ARRAYS = (
    "import tessera.volume.engine, tessera.volume.store, scipy.ndimage\n"
    "from tessera.compute.measure import cpu_seconds, peak_mib; print(peak_mib(), cpu_seconds())"
)


def starts() -> dict[str, tuple[float, float]]:
    """Return kind of start -> (seconds, bytes) that a job takes before it works.

    A process with nothing but arrays is started; torch, which this process needs anyway, is
    measured as it is loaded here, where it was not before.
    """
    done = subprocess.run(
        [sys.executable, "-c", _ARRAYS], capture_output=True, text=True, check=True
    )
    # Processor time: what else runs on this machine now is not of the plan.
    peak, took = map(float, done.stdout.split())
    arrays = (took, MIB * peak)
    began, before = time.process_time(), peak_mib()
    import tessera.predict.run  # noqa: F401

    seconds, more = time.process_time() - began, peak_mib() - before
    return {
        "arrays": arrays,
        "torch": (arrays[0] + max(seconds, _TORCH_S), arrays[1] + MIB * max(more, _TORCH_MIB)),
    }


def calibrate(
    works: list[Work], config: Config, data: Data, begun: dict[str, tuple[float, float]]
) -> dict[str, Rate]:
    """Measure the rates of rules; returns them by the work's name.

    Args:
        works: the rules.
        config, data: what they will work on.
        begun: what :func:`starts` found.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="tessera-plan-") as folder:
            bench = _Bench(Path(folder), config, data)
            return {w.name: _rate(bench, w, begun[w.start]) for w in works}
    finally:
        torch.set_num_threads(threads)


def _rate(bench: _Bench, work: Work, begun: tuple[float, float]) -> Rate:
    try:
        return Rate(bench.seconds(work), *begun)
    except Exception as error:  # a plan stops no run: a backend may live in another environment
        print(
            f"tessera plan: {work.rule} could not be tried here ({type(error).__name__}: {error}); "
            "its time is a guess",
            file=sys.stderr,
        )
        return Rate(_GUESSED[work.unit], *begun, source="a guess")


class _Bench:
    """Measures one rule after the other; what they share is measured once."""

    def __init__(self, folder: Path, config: Config, data: Data) -> None:
        self.folder, self.config, self.data = folder, config, data
        random = np.random.default_rng(0)
        self.noise = random.normal(100, 10, (_SIDE,) * 3).astype(np.float32)
        self.grid = Grid.of((_SIDE,) * 3, (_SIDE,) * 3)
        self.block = self.grid[0]
        self._reading: float | None = None
        self._known: dict[str, float] = {}

    def seconds(self, work: Work) -> float:
        """Seconds of a core for one unit of a rule."""
        if not work.units:
            return 0.0
        if work.rule in _READINGS:
            return _READINGS[work.rule] * self.reading()
        name = work.name if work.unit == "GFLOP" else work.rule  # else the same for all classes
        if name not in self._known:
            rule: Callable[[Work], float] = getattr(self, f"_{work.rule}")
            self._known[name] = rule(work)
        return self._known[name]

    def volume(self, name: str, data: np.ndarray, channels: tuple[str, ...] = ()) -> Volume:
        """Return an empty volume of one shard for ``data``."""
        shape = Triple(*data.shape[-3:])
        layout = Layout(shape, str(data.dtype), (1.0,) * 3, shard=shape, channels=channels)
        return create_volume(self.folder / name, layout)

    def writing(self, data: np.ndarray, channels: tuple[str, ...] = ()) -> float:
        """Seconds to write and hash a volume."""
        volume = self.volume(f"w{data.dtype}{len(channels)}.zarr", data, channels)
        box = Box.whole(volume.shape)

        def write() -> None:
            volume.write(box, data)
            for path in volume.shard_files(box):
                file_hash(path)

        return _time(write)

    def reading(self) -> float:
        """Seconds to read a Mvoxel."""
        if self._reading is None:
            volume = self.volume("r.zarr", self.noise)
            volume.write(Box.whole(volume.shape), self.noise)
            took = _time(lambda: volume.read(Box.whole(volume.shape)))
            self._reading = took / (_SIDE**3 / 1e6)
        return self._reading

    def _a_mvoxel(self, took: float) -> float:
        return took / (_SIDE**3 / 1e6)

    def _simulate_truth(self, work: Work) -> float:
        from tessera.simulate.command import write_truth

        small, shape = self._small()
        took = _time(lambda: write_truth(small, self.folder / "truth"))
        return took / (np.prod(shape) / 1e6)

    def _simulate_scan(self, work: Work) -> float:
        from tessera.simulate.scan import write_scan
        from tessera.simulate.specimen import make_specimen
        from tessera.simulate.tiles import tile_grid

        small, _ = self._small()
        tile = next(iter(tile_grid(small).values()))
        specimen = make_specimen(small)
        took = _time(lambda: write_scan(self.folder / "s.h5", specimen, tile, small))
        return took / (small.angles * tile.rows * tile.columns / 1e6)

    def _small(self) -> tuple[Any, tuple[int, ...]]:
        from tessera.simulate.tiles import frame

        assert self.config.simulate is not None
        given = self.config.simulate
        part = _SIDE**3 / 4 / np.prod(given.shape)
        changes: dict[str, Any] = {
            name: max(1, round(getattr(given, name) * part))
            for name in ("somas", "vessels", "fibres")
        }
        changes |= {"shape": (_SIDE // 4, _SIDE, _SIDE), "tiles": (1, 1, 1), "angles": 46}
        small = given.model_copy(update=changes)
        return small, frame(small)[0]

    def _recon(self, work: Work) -> float:
        from tessera.recon.backends import make_backend
        from tessera.recon.correct import to_integrals, transmission
        from tessera.recon.stripes import remove_stripes

        angles, rows, columns, _ = max(self.data.tiles)
        angles, rows, columns = min(angles, 180), 8, min(columns, 1024)
        random = np.random.default_rng(0)
        counts = random.integers(20000, 30000, (angles, rows, columns)).astype(np.uint16)
        flats, darks = np.full((2, rows, columns), 40000.0), np.full((2, rows, columns), 100.0)
        settings = self.config.recon
        made = make_backend(settings, np.linspace(0, 180, angles, False), columns, 1)

        def slab() -> None:
            seen = transmission(counts, flats, darks, np.zeros(2), settings, "calibration")
            clean = remove_stripes(to_integrals(seen), settings.rings)
            made(clean, np.full(rows, (columns - 1) / 2))

        took = _time(slab) + self.writing(self.noise) * rows * columns**2 / _SIDE**3
        return took / (angles * rows * columns / 1e6)

    def _mosaic_store(self, work: Work) -> float:
        return self._statistics(self.noise)

    def _statistics(self, data: np.ndarray) -> float:
        from tessera.volume.statistics import statistics

        volume = self.volume("s.zarr", data)
        volume.write(Box.whole(volume.shape), data)
        return self._a_mvoxel(_time(lambda: statistics(volume)))

    def _mosaic_fuse(self, work: Work) -> float:
        from tessera.mosaic.fuse import Part, blend_parts, to_dtype
        from tessera.mosaic.register import Place
        from tessera.mosaic.resample import TAPS
        from tessera.mosaic.tile import Tile

        pad = 2 * TAPS
        data = np.pad(self.noise, (0, pad - 1), mode="edge")
        place = Place("t", self.folder, (-0.5, -0.5, -0.5), 1.0, 0.0)
        tile: Any = Tile("t", self.folder, self.volume("f.zarr", self.noise), (0.0, 0.0, 0.0), None)
        part = Part(tile, place, self.block.write, data)
        kind = self.config.mosaic.dtype

        def fuse() -> None:
            to_dtype(blend_parts([part], self.block.write)[0], kind, _window(kind))

        stored = to_dtype(self.noise, kind, _window(kind))
        return self._a_mvoxel(_time(fuse) + self.writing(stored)) + self.reading()

    def _mosaic_finish(self, work: Work) -> float:
        from tessera.volume.pyramid import halve

        kind = self.config.mosaic.dtype
        data = to_integers(self.noise, kind)
        halved = self._a_mvoxel(_time(lambda: halve(data, "mean"))) * 8 / 7
        return halved + self._statistics(data) + self._a_mvoxel(self.writing(data)) / 7

    def _mosaic_import(self, work: Work) -> float:
        writing = self._a_mvoxel(self.writing(to_integers(self.noise, self.config.mosaic.dtype)))
        return writing + self._mosaic_finish(work) + self.reading()

    def _train(self, work: Work) -> float:
        import torch

        from tessera.config import Augment
        from tessera.nets.registry import build
        from tessera.train.augment import augment

        model = self.config.models[work.of]
        net = network(model)
        patch = _part(net, (min(p, 40) for p in model.patch))
        made: Any = build(model.net, net.outputs, model.channels, model.net_options)
        images = torch.zeros((1, 2 if model.net == "ffn" else 1, *patch))
        labels = torch.zeros(patch, dtype=torch.long)

        def step() -> None:
            if model.net != "ffn":
                augment(images[0, 0], labels, Augment(), (0, 1, 2), 1)
            made(images).float().square().mean().backward()

        return _time(step) / (3 * net.gflop(patch))

    def _predict(self, work: Work) -> float:
        from tessera.nets.bundle import Bundle, Facts
        from tessera.nets.registry import build
        from tessera.predict.run import Predictor

        model = self.config.models[work.of]
        net = network(model)
        if net.moves:
            return self._move(model, net)
        write = _part(net, (32, 32, 32))
        read = tuple(w + 2 * h for w, h in zip(write, net.halo, strict=True))
        made: Any = build(model.net, net.outputs, model.channels, model.net_options)
        made.eval().requires_grad_(False)
        facts = Facts({}, model.classes, "softmax", {"mean": 0.0, "std": 1.0}, (1.0,) * 3,
                      (0, 0, 0), (1, 1, 1))  # fmt: skip
        predictor = Predictor(Bundle(made, facts, ""), self.config.predict.precision)
        box: Any = tuple((h, h + w) for h, w in zip(net.halo, write, strict=True))
        noise = np.random.default_rng(0).normal(0, 1, read).astype(np.float32)
        stored = np.rint(predictor(noise, box) * 255).astype(np.uint8)
        took = _time(lambda: predictor(noise, box))
        names = tuple(map(str, range(net.outputs)))
        return (took + self.writing(stored, names)) / net.gflop(read, box)

    def _move(self, model: Model, net: Network) -> float:
        """Seconds for a GFLOP of a flood-filling network, one move after the other."""
        from tessera.compute import device
        from tessera.nets.registry import build
        from tessera.predict.ffn.moves import Mover

        made: Any = build(model.net, net.outputs, model.channels, model.net_options)
        mover = Mover(made, device.choose(self.config.predict.precision))
        field = np.random.default_rng(0).normal(0, 1, (2, *mover.fov)).astype(np.float32)
        return _time(lambda: mover([field])) / net.gflop(tuple(mover.fov))

    def _refill(self, work: Work) -> float:
        return self._predict(work)

    def _train_import(self, work: Work) -> float:
        return self._mosaic_import(work)

    def _assemble_relabel(self, work: Work) -> float:
        return self._label_relabel(work)

    def _label_local(self, work: Work) -> float:
        from tessera.label import fragments

        inside = _blobs(self.noise)

        def local() -> None:
            ids, count = fragments.label_box(inside, self.config.label.connectivity)
            fragments.describe(ids, count, self.block, self.grid.shape)

        return self._a_mvoxel(_time(local)) + self.reading() / 4

    def _label_relabel(self, work: Work) -> float:
        from tessera.label import fragments

        inside = _blobs(self.noise)
        ids, count = fragments.label_box(inside, self.config.label.connectivity)
        table = np.arange(count + 1, dtype=np.uint32)

        def relabel() -> None:
            fragments.label_box(inside, self.config.label.connectivity)
            np.take(table, ids)

        return self._a_mvoxel(_time(relabel) + self.writing(ids)) + self.reading() / 4


def to_integers(noise: np.ndarray, kind: str) -> np.ndarray:
    """Return noise as a volume of that type would hold it."""
    return noise if kind == "float32" else np.clip(noise, 0, 255).astype(kind)


def _window(kind: str) -> tuple[float, float] | None:
    return None if kind == "float32" else (0.0, 255.0)


def _blobs(noise: np.ndarray) -> np.ndarray:
    """A tenth of the voxels, in blobs."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(noise, 3)
    return np.asarray(smooth > np.quantile(smooth, 0.9))


def _part(net: Network, size: Any) -> tuple[int, int, int]:
    """Sizes rounded up to what the network's grids allow."""
    z, y, x = (-(-n // a) * a for n, a in zip(size, net.align, strict=True))
    return z, y, x


def _time(work: Callable[[], object]) -> float:
    """Seconds of a core that a call takes, once it is warm: the less of two."""
    work()
    best = float("inf")
    for _ in range(2):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
        if best > _LONG_S:
            break
    return best
