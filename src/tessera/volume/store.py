"""A volume on disk: OME-Zarr 0.5 (Zarr 3), sharded, zstd, each chunk with its crc32c.

A *shard* is one file that holds many *chunks*; it is the smallest thing that is written and a
chunk is the smallest thing that is read. A write covers whole shards (or ends at the volume's
edge), so that no two processes ever write one file and no lock is needed. Anything else is
refused: it would lose data without an error.

Zarr takes a file that is not there for zeros, so that a shard that was lost (or is not seen yet
from another node) would be computed with as if it were background. In a volume that tessera lays
out every shard is a file, those of nothing but zeros too; one that is missing is refused.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera.compute.threads import share
from tessera.errors import TesseraError
from tessera.volume import metadata
from tessera.volume.box import Box, Triple
from tessera.volume.metadata import ArrayInfo
from tessera.volume.mirror import fill_edges, mirror, mirrors_itself
from tessera.volume.shard import (
    ZSTD_LEVEL,
    DamagedShard,
    Slices,
    decode_shard,
    encode_shard,
    write_shard,
)

_FOREIGN_PIPELINE = "zarrs.ZarrsCodecPipeline"  # twice as fast as zarr-python's on reads
_NO_SHARD_IS_MISSING = "every_shard_is_a_file"
_REMEDY = (
    "run 'tessera verify' on the results, which finds all such shards, then the workflow again"
)


@dataclass(frozen=True)
class Layout:
    """What a volume is before it holds anything.

    Args:
        shape: size (z, y, x) in voxels.
        dtype: numpy name of the voxel type.
        voxel_um: voxel size (z, y, x) in micrometres.
        chunk: smallest unit of reading (z, y, x); a divisor of ``shard``.
        shard: smallest unit of writing (z, y, x).
        channels: names of channels, which come first; empty for none.
        origin_um: position of the centre of voxel (0, 0, 0).
        levels: number of resolution levels; each halves the one before.
    """

    shape: Triple
    dtype: str
    voxel_um: tuple[float, float, float]
    chunk: Triple = Triple(32, 32, 32)
    shard: Triple = Triple(64, 64, 64)
    channels: tuple[str, ...] = ()
    origin_um: tuple[float, float, float] = (0.0, 0.0, 0.0)
    levels: int = 1

    def __post_init__(self) -> None:
        if any(s % c for s, c in zip(self.shard, self.chunk, strict=True)):
            raise TesseraError(
                f"shards of {tuple(self.shard)} are not made of whole chunks of "
                f"{tuple(self.chunk)} voxels; make each a multiple of the chunk"
            )

    def level_shape(self, level: int) -> Triple:
        """Size (z, y, x) of a resolution level: each axis is halved, rounded up."""
        return Triple(*(-(-n // 2**level) for n in self.shape))


class Volume:
    """A volume on disk, read and written by boxes. Axes are (channel,) z, y, x."""

    def __init__(self, path: Path, level: int = 0) -> None:
        self.path = Path(path)
        self.level = level
        self._foreign: Any = None  # zarr's array, of a volume that tessera did not lay out
        try:
            self.attributes: dict[str, Any] = dict(metadata.read(self.path)["attributes"])
            info = metadata.recognise(metadata.read(self.path / str(level)))
            if info is None:
                self._foreign, info = _open_foreign(self.path / str(level))
        except (OSError, ValueError, KeyError) as error:
            raise TesseraError(
                f"{path}: cannot be read as an OME-Zarr volume ({error}); give the folder that "
                "holds zarr.json"
            ) from None
        axes = self.attributes["ome"]["multiscales"][0]
        scale = axes["datasets"][level]["coordinateTransformations"]
        self.voxel_um: tuple[float, float, float] = tuple(scale[0]["scale"][-3:])
        self.origin_um: tuple[float, float, float] = tuple(scale[1]["translation"][-3:])
        self._info = info
        self.has_channels = len(info.shape) == 4
        self.shape = Triple(*info.shape[-3:])
        self.dtype = info.dtype
        self.chunk = Triple(*info.chunk[-3:])
        self.shard = Triple(*info.shard[-3:])
        self.levels = len(axes["datasets"])

    @property
    def _told(self) -> dict[str, Any]:
        return dict(self.attributes.get("tessera", {}))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels; empty for a volume without."""
        return tuple(self._told.get("channels", ()))

    @property
    def provenance(self) -> dict[str, Any]:
        """What made this volume: version, settings, inputs."""
        return dict(self._told.get("provenance", {}))

    @property
    def zero_is_empty(self) -> bool:
        """Whether a voxel of exactly 0 is one that nothing saw: in floats, and where it is said.

        In integers that came from elsewhere 0 is a value like any other.
        """
        return self.dtype.kind == "f" or self.provenance.get("empty") == 0

    def read(self, box: Box, channel: int | None = None, threads: int = 1) -> np.ndarray:
        """Return the voxels of ``box``; beyond the volume's edge it mirrors.

        The mirror is that of the volume, without repeating the edge voxel, so what a block sees
        beyond the edge does not depend on the block.

        Args:
            box: what to read.
            channel: read this channel alone (each has its own chunks); None reads all.
            threads: that read and unpack shards.

        Returns:
            array of ``box.shape`` (z, y, x), channels first where there are any and all are read.
        """
        lead: Slices = ()
        if self.has_channels:
            every = slice(0, self._info.shape[0])
            lead = (every if channel is None else slice(channel, channel + 1),)

        def load(part: Box, room: Box) -> np.ndarray:
            """Voxels of a part inside the volume, where it lies in a larger box."""
            out = np.empty((*(s.stop - s.start for s in lead), *room.shape), self.dtype)
            self._load(part, lead, out[(..., *part.inside(room))], threads)
            return out

        inside = box.intersect(Box.whole(self.shape))
        if Box.whole(self.shape).contains(box):
            data = load(box, box)
        elif mirrors_itself(box, inside):
            data = load(inside, box)
            fill_edges(data, inside.inside(box))
        else:
            wanted = [
                mirror(np.arange(a, b), n)
                for a, b, n in zip(box.start, box.stop, self.shape, strict=True)
            ]
            inner = Box.of(
                tuple(int(i.min()) for i in wanted), tuple(int(i.max()) + 1 for i in wanted)
            )
            data = load(inner, inner)
            for axis in (-1, -2, -3):  # x first, while it is small: voxels are moved one by one
                data = np.take(data, wanted[axis] - inner.start[axis], axis=axis)
        return data if channel is None else data[0]

    def _load(self, box: Box, lead: Slices, out: np.ndarray, threads: int) -> None:
        """Put the voxels of a box inside the volume, and channels ``lead``, into ``out``."""
        if box.empty:
            return
        if self._foreign is not None:
            out[...] = self._foreign[(*lead, *box.slices)]
            return

        def read_one(shard: tuple[Path, Box]) -> None:
            file, part = shard
            start = tuple(a // s * s for a, s in zip(part.start, self.shard, strict=True))
            within = (*lead, *part.shift(tuple(-a for a in start)).slices)
            target = out[(..., *part.inside(box))]
            try:
                decode_shard(file, within, target, self._info.chunk, self._info.shard)
            except FileNotFoundError:
                if self._told.get(_NO_SHARD_IS_MISSING):
                    raise TesseraError(f"{file}: this shard is missing; {_REMEDY}") from None
                target[...] = 0
            except DamagedShard as error:
                raise TesseraError(f"{file}: is damaged, {error}; {_REMEDY}") from None

        share(read_one, list(zip(self.shard_files(box), self._shards(box), strict=True)), threads)

    def write(self, box: Box, data: np.ndarray, threads: int = 1) -> None:
        """Write the voxels of ``box``, which must be whole shards.

        Args:
            box: where.
            data: of the box's shape, channels first where there are any.
            threads: that pack and write the shards.

        Raises:
            ValueError: if the box cuts a shard, leaves the volume, or ``data`` does not fit.
        """
        for a, b, n, s in zip(box.start, box.stop, self.shape, self.shard, strict=True):
            if a % s or (b % s and b != n) or a < 0 or b > n:
                raise ValueError(f"{self.path}: box {box} is not made of whole shards {self.shard}")
        if tuple(data.shape[-3:]) != tuple(box.shape):
            raise ValueError(f"{self.path}: {data.shape} voxels do not fill {box}")
        if self._foreign is not None:
            raise ValueError(f"{self.path}: was not laid out by tessera, so it is only read")
        values = np.asarray(data, dtype=self.dtype)

        def write_one(shard: tuple[Path, Box]) -> None:
            file, part = shard
            inside = values[(..., *part.inside(box))]
            write_shard(file, encode_shard(inside, self._info.chunk, self._info.shard))

        share(write_one, list(zip(self.shard_files(box), self._shards(box), strict=True)), threads)

    def _shards(self, box: Box) -> list[Box]:
        """The parts of ``box`` that lie in each of :meth:`shard_files`, in the same order."""
        ranges = [
            range(a // s * s, b, s) for a, b, s in zip(box.start, box.stop, self.shard, strict=True)
        ]
        return [
            Box.of(start, tuple(a + s for a, s in zip(start, self.shard, strict=True))).intersect(
                box
            )
            for start in itertools.product(*ranges)
        ]

    def shard_files(self, box: Box) -> list[Path]:
        """Return the files of the shards that touch ``box``, in z, y, x order."""
        ranges = [
            range(a // s, -(-b // s))
            for a, b, s in zip(box.start, box.stop, self.shard, strict=True)
        ]
        head = self.path / str(self.level) / "c"
        if self.has_channels:
            head = head / "0"
        z_range, y_range, x_range = ranges
        return [head / str(z) / str(y) / str(x) for z in z_range for y in y_range for x in x_range]


def create_volume(
    path: str | Path, layout: Layout, provenance: dict[str, Any] | None = None
) -> Volume:
    """Make an empty volume in place of whatever is at ``path``.

    One process does this, before any block is worked on. A volume with the very same layout and
    provenance is left as it is: its shards stand in records, which are checked before they are
    believed, so a rerun finds what is done.

    Args:
        path: folder of the OME-Zarr group.
        layout: shape, type, spacing, shards.
        provenance: what made it (version, settings, key of the inputs); kept in the metadata.
    """
    path = Path(path)
    attributes = _metadata(layout, provenance)
    with write_errors(path):
        if _same(path, layout, attributes):
            return Volume(path)
        if path.exists():
            shutil.rmtree(path)
        _lay_out(path, layout, attributes)
    return Volume(path)


def _lay_out(path: Path, layout: Layout, attributes: dict[str, Any]) -> None:
    """Make the group and its empty arrays.

    Raises:
        TesseraError: if this zarr writes metadata that :mod:`.metadata` does not know again.
    """
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    channels = (len(layout.channels),) if layout.channels else ()
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    for level in range(layout.levels):
        group.create_array(
            str(level),
            shape=(*channels, *layout.level_shape(level)),
            dtype=layout.dtype,
            chunks=((1,) if channels else ()) + tuple(layout.chunk),
            shards=channels + tuple(layout.shard),
            compressors=(ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()),
            fill_value=0,
            dimension_names=(("c",) if channels else ()) + ("z", "y", "x"),
        )
        if metadata.recognise(metadata.read(path / str(level))) is None:
            raise TesseraError(
                f"{path}: zarr {zarr.__version__} does not lay arrays of {layout.dtype} out as "
                "tessera writes them; install the zarr that pyproject.toml names"
            )


def _same(path: Path, layout: Layout, attributes: dict[str, Any]) -> bool:
    """True if the volume at ``path`` would be made just like this."""
    try:
        found = Volume(path)
    except TesseraError:
        return False
    return (
        json.loads(json.dumps(attributes)) == found.attributes
        and all((path / str(n) / "zarr.json").is_file() for n in range(layout.levels))
        and (found.shape, found.chunk, found.shard) == (layout.shape, layout.chunk, layout.shard)
        and found.dtype == layout.dtype
    )


def _open_foreign(folder: Path) -> tuple[Any, ArrayInfo]:
    """Open an array of another layout with zarr-python, which takes a while to import."""
    import zarr

    with zarr.config.set({"codec_pipeline.path": _FOREIGN_PIPELINE}):
        found = zarr.open_array(folder, mode="r")
    shard = found.shards or found.chunks
    return found, ArrayInfo(found.shape, np.dtype(found.dtype), found.chunks, shard)


def open_volume(path: str | Path, level: int = 0) -> Volume:
    """Open a volume that exists.

    Raises:
        TesseraError: if there is none.
    """
    if not (Path(path) / "zarr.json").is_file():
        raise TesseraError(f"{path}: no OME-Zarr volume here; run the stage that makes it")
    return Volume(Path(path), level)


def _metadata(layout: Layout, provenance: dict[str, Any] | None) -> dict[str, Any]:
    """OME-Zarr 0.5 metadata (https://ngff.openmicroscopy.org/0.5), with our own beside it."""
    lead = bool(layout.channels)
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] if lead else []
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    datasets = []
    for level in range(layout.levels):
        scale = [v * 2**level for v in layout.voxel_um]
        # A coarse voxel's centre lies between those of the voxels that it averages.
        shift = [
            o + v * (2**level - 1) / 2
            for o, v in zip(layout.origin_um, layout.voxel_um, strict=True)
        ]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0] * lead + scale},
                    {"type": "translation", "translation": [0.0] * lead + shift},
                ],
            }
        )
    multiscale = {"name": "volume", "axes": axes, "datasets": datasets, "type": "mean"}
    return {
        "ome": {"version": "0.5", "multiscales": [multiscale]},
        "tessera": {
            "channels": list(layout.channels),
            "provenance": provenance or {},
            _NO_SHARD_IS_MISSING: True,
        },
    }


@contextlib.contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turn the errors of a disk that cannot be written into one sentence.

    Raises:
        TesseraError: if the disk is full, over quota, or not writable.
    """
    import errno

    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TesseraError(
                f"{path}: the disk is full or over quota; free space and run again, what is done "
                "is kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise TesseraError(
                f"{path}: cannot be written ({error.strerror}); give a results folder that you own"
            ) from error
        raise
