"""``tessera check``: what is wrong with a config or its data, found before the first job.

It reads headers and a few frames, so it takes seconds however large the data are. The Snakefile
calls :func:`check_config` too. The rules, in this order:

1. The results folder can be written.
2. The start is sound: scans (headers, angles, tiles that overlap, sampled frames), or a volume.
3. Boxes lie in the volume, and labels have the volume's shape and classes that have a name.
4. The disk has room for what will be written.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tessera import layout
from tessera.config import Config, LabelSource, Model, TrainSplit, VolumeSource, read_config
from tessera.errors import TesseraError

if TYPE_CHECKING:
    from tessera.formats import Source

Shape = tuple[int, int, int]
_GIB = 1024.0**3
_LOOK_BYTES = 1 << 30  # of all scans' frames together: seconds
_LEAST_LOOK = 4 << 20


@dataclass
class Summary:
    """What the check learned.

    Attributes:
        lines: what a person wants to read.
        shape: the volume's size (z, y, x) in voxels.
        voxel_um: size of a voxel (z, y, x) in um.
        need_bytes: what the results will take on disk, about.
    """

    lines: list[str] = field(default_factory=list)
    shape: Shape = (0, 0, 0)
    voxel_um: tuple[float, float, float] = (1.0, 1.0, 1.0)
    need_bytes: int = 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("config", type=Path, help="config.yaml")


def main(args: argparse.Namespace) -> int:
    """Check, and say what will be done."""
    print("\n".join(check_config(read_config(args.config)).lines))
    return 0


def check_config(config: Config) -> Summary:
    """Check all that can be known before the first job; return what was learned.

    Raises:
        TesseraError: one sentence for the first thing that is wrong.
    """
    root = Path(layout.specimen_root(config))
    _check_writable(root)
    summary = Summary([f"specimen {config.specimen}: results go to {root}"])
    if config.volume is not None:
        _check_volume(config.volume, config, summary)
    elif config.simulate is not None:
        _check_simulate(config, summary)
    else:
        _check_scans(config, summary)
    _check_classes(config)
    for name, model in config.models.items():
        where = f"models.{name}"
        if model.is_trained and not (model.labels or model.volumes or config.simulate):
            raise TesseraError(f"{where}: has no labels to learn from; give some under 'labels'")
        _check_boxes(where, model.split, summary.shape)
        _check_labels(name, model, model.labels, summary.shape)
        for number, one in enumerate(model.volumes):
            shape = _check_other(f"{where}.volumes.{number}", one.volume, summary)
            _check_boxes(f"{where}.volumes.{number}", one.split, shape)
            _check_labels(name, model, one.labels, shape)
        if model.net == "ffn":
            _check_fill(name, model, config, summary.shape)
        summary.lines.append(_model_line(name, model, summary))
    _check_companions(config, summary.shape)
    _check_room(root, config, summary)
    return summary


# --- where results go -------------------------------------------------------------------------


def _existing(path: Path) -> Path:
    """The nearest folder above that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _check_writable(root: Path) -> None:
    there = _existing(root)
    if not there.is_dir():
        raise TesseraError(f"{root}: {there} is a file, not a folder; give another results folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise TesseraError(
            f"{root}: cannot be written ({there} is not yours to write); give a results folder "
            "that you own"
        )


def _check_room(root: Path, config: Config, summary: Summary) -> None:
    """Tiles and volume, which hardly compress; what exists already needs no room."""
    free = shutil.disk_usage(_existing(root)).free
    need = 0 if (root / "mosaic" / "volume.json").exists() else summary.need_bytes
    if need > free:
        raise TesseraError(
            f"{root}: the results need about {need / _GIB:.1f} GiB but the disk has "
            f"{free / _GIB:.1f} GiB free; free some, or give another results folder"
        )
    summary.lines.append(
        f"disk: about {summary.need_bytes / _GIB:.2f} GiB needed, {free / _GIB:.0f} GiB free"
    )


# --- the start --------------------------------------------------------------------------------


def _check_simulate(config: Config, summary: Summary) -> None:
    from tessera.simulate.tiles import field, frame, tile_grid

    assert config.simulate is not None
    tiles = tile_grid(config.simulate)
    first = next(iter(tiles.values()))
    summary.shape, _ = frame(config.simulate)
    summary.voxel_um = (config.simulate.voxel_um,) * 3
    tile_voxels = first.rows * first.columns**2
    scan_bytes = 2 * config.simulate.angles * first.rows * first.columns
    summary.need_bytes = len(tiles) * scan_bytes + _result_bytes(
        config, len(tiles) * tile_voxels, summary.shape
    )
    summary.lines.append(
        f"simulated: {len(tiles)} tiles, {config.simulate.angles} angles of {first.rows} x "
        f"{first.columns} pixels; {_volume_line(summary.shape, config.simulate.voxel_um)}"
    )
    start, stop = field(config.simulate)
    inside = ", ".join(f"{a}:{b}" for a, b in zip(start, stop, strict=True))
    summary.lines.append(f"field: voxels {inside} (z, y, x) are seen from all sides")


def _check_scans(config: Config, summary: Summary) -> None:
    from tessera.formats import nominal_frame, open_scan
    from tessera.formats.sample import check_frames
    from tessera.formats.scan import angles_of

    scans = layout.scans(config)
    frame = nominal_frame(scans, config.recon.pixel_um, config.recon.axis.half_acquisition)
    kinds: dict[str, int] = {}
    angles = rows = columns = 0
    for path in scans.values():
        with open_scan(path) as scan:
            angles_of(scan, config.recon.angles_deg)
            check_frames(scan, max(_LEAST_LOOK, _LOOK_BYTES // len(scans)))
            kinds[scan.header.kind] = kinds.get(scan.header.kind, 0) + 1
            angles, rows, columns = (
                scan.header.angles,
                scan.header.rows,
                scan.header.columns,
            )
    column = config.recon.axis.column
    if column is not None and not 0 <= column <= columns - 1:
        raise TesseraError(
            f"recon.axis.column: {column:g} lies outside the picture of {columns} columns; give a "
            "column from 0 to the last, or leave it out to have it found"
        )
    summary.shape = frame.shape
    summary.voxel_um = (frame.voxel_um,) * 3
    summary.need_bytes = _result_bytes(config, len(scans) * rows * columns**2, frame.shape)
    formats = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    summary.lines.append(
        f"scans: {formats}; {angles} angles of {rows} x {columns} pixels; "
        f"{_volume_line(frame.shape, frame.voxel_um)}"
    )


def _check_volume(source: VolumeSource, config: Config, summary: Summary) -> None:
    from tessera.formats import open_source

    with open_source(source) as volume:
        if volume.voxel_um is None:
            raise TesseraError(
                f"{source.path}: does not say how large its voxels are; give volume.voxel_um"
            )
        volume.probe()
        summary.shape = volume.shape
        summary.voxel_um = volume.voxel_um
        summary.need_bytes = _result_bytes(config, 0, volume.shape, volume.dtype.itemsize)
        spacing = " x ".join(f"{v:g}" for v in volume.voxel_um)
        summary.lines.append(
            f"volume: {source.path}, {' x '.join(map(str, volume.shape))} voxels of {spacing} um, "
            f"{volume.dtype}"
        )


def _result_bytes(config: Config, tile_voxels: int, shape: Shape, item: int | None = None) -> int:
    """Bytes of tiles (compressed a little), the multiscale volume, probabilities."""
    sizes = {"float32": 4, "uint16": 2, "uint8": 1}
    voxels = math.prod(shape)
    total = 4 * tile_voxels + 1.15 * voxels * (item or sizes[config.mosaic.dtype])
    for model in config.models.values():
        total += 0.5 * voxels * len(model.classes)
    return int(total)


def _volume_line(shape: Shape, voxel_um: float) -> str:
    size = " x ".join(f"{n * voxel_um / 1000:.2g}" for n in shape)
    return f"volume {' x '.join(map(str, shape))} voxels of {voxel_um:g} um ({size} mm)"


# --- models and labels ------------------------------------------------------------------------


def _check_classes(config: Config) -> None:
    if not config.models:
        return
    known = {c for model in config.models.values() for c in model.classes}
    for name in config.label.classes:
        if name not in known:
            raise TesseraError(
                f"label.classes: no model has a class '{name}' (there: {', '.join(sorted(known))})"
                "; name one of these, or add it to a model"
            )


def _check_other(where: str, source: VolumeSource, summary: Summary) -> Shape:
    """A further labelled volume: it can be read, and its voxels are about as large."""
    from tessera.formats import open_source
    from tessera.train.source import check_scale

    with open_source(source) as volume:
        if volume.voxel_um is None:
            raise TesseraError(
                f"{where}: {source.path} does not say how large its voxels are; give "
                "volume.voxel_um"
            )
        volume.probe()
        check_scale(where, volume.voxel_um, summary.voxel_um)
        return volume.shape


def _check_boxes(where: str, split: TrainSplit, shape: Shape) -> None:
    for use in ("train", "validation", "test"):
        for box in getattr(split, use):
            for axis, low, high, size in zip("zyx", box.start, box.stop, shape, strict=True):
                stop = size if high is None else high
                if not 0 <= low < stop <= size:
                    raise TesseraError(
                        f"{where}.split.{use}: the box is {low} to {stop} along {axis} but "
                        f"the volume has {size} voxels there; keep boxes inside the volume"
                    )


def _check_labels(name: str, model: Model, labels: tuple[LabelSource, ...], shape: Shape) -> None:
    from tessera.formats.sample import highest_label

    for source in labels:
        with _of_shape(source, shape, "labels") as volume:
            highest = highest_label(volume) if source.instances_of is None else 0
        if highest >= len(model.classes):
            raise TesseraError(
                f"{_where(source)}: holds label {highest}, but models.{name}.classes names 0 to "
                f"{len(model.classes) - 1} ({', '.join(model.classes)}); name it there, or say "
                "instances_of if the labels are object ids"
            )


def _model_line(name: str, model: Model, summary: Summary) -> str:
    """What a model is and where it comes from; a bundle is opened, as it must fit."""
    kinds = ", ".join(model.classes)
    if model.bundle:
        from tessera.nets.adopt import fitting

        net = fitting(model.bundle, model.classes, summary.voxel_um).facts.net
        said = {k: getattr(model, k) for k in ("net", "channels") if k in model.model_fields_set}
        for key, value in said.items():
            has = net["name" if key == "net" else key]
            if (tuple(has) if key == "channels" else has) != value:
                raise TesseraError(
                    f"models.{name}.{key}: is {value} but the network in {model.bundle} has {has}; "
                    "leave it out, as the bundle brings its own"
                )
        return f"model {name}: {net['name']}, {kinds}; from {model.bundle}"
    if model.weights or model.ensemble:
        return f"model {name}: {kinds}; from {model.weights or ' + '.join(model.ensemble)}"
    return f"model {name}: {model.net}, {kinds}; {model.steps} steps"


def _check_fill(name: str, model: Model, config: Config, shape: Shape) -> None:
    """Of a flood-filling network: its weights, one class, and subvolumes that overlap enough."""
    from tessera.volume.subvolume import make_grid

    for path in layout.weights(model):
        if not os.path.exists(path):
            raise TesseraError(
                f"models.{name}.weights: {path} does not exist; correct the path, or take it out "
                "to train a network"
            )
    if len([c for c in model.classes if c != "background"]) != 1:
        raise TesseraError(
            f"models.{name}.classes: a flood-filling network fills the objects of one class, not "
            f"{list(model.classes)}; give [background, neuron], say"
        )
    given = model.net_options.get("fov", 33)
    fov = (given,) * 3 if isinstance(given, int) else tuple(given)
    fill = config.predict.fill
    if config.label.assembly.agglomerate and fill.window_vox < max(fov):
        raise TesseraError(
            f"predict.fill.window_vox: {fill.window_vox} voxels hold no field of view of "
            f"models.{name}; make it at least {max(fov)}, and some steps more"
        )
    counts = make_grid(shape, fill.subvolume, fill.overlap_vox).counts
    for axis, count, size in zip("zyx", counts, fov, strict=True):
        if count > 1 and fill.overlap_vox // 2 < size // 2:
            raise TesseraError(
                f"predict.fill.overlap_vox: {fill.overlap_vox} voxels are less than the field of "
                f"view of models.{name} along {axis}; make it at least {size // 2 * 2}"
            )


def _check_companions(config: Config, shape: Shape) -> None:
    """The mask of inference and the truth of evaluation."""
    if config.predict.mask is not None:
        with _of_shape(config.predict.mask, shape, "a mask"):
            pass
    for source in config.evaluate.truth:
        with _of_shape(source, shape, "truth"):
            pass


def _of_shape(given: VolumeSource | LabelSource, shape: Shape, what: str) -> Source:
    """Open a volume that must have the shape of the one it belongs to."""
    from tessera.formats import open_source

    volume = open_source(VolumeSource(path=given.path, dataset=given.dataset, voxel_um=None))
    if volume.shape != shape:
        volume.__exit__()
        raise TesseraError(
            f"{_where(given)}: {what} of {volume.shape} voxels do not fit the volume of {shape}; "
            "give those of the volume itself"
        )
    return volume


def _where(given: VolumeSource | LabelSource) -> str:
    return given.path + (f"::{given.dataset}" if given.dataset else "")
