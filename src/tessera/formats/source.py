"""A volume that exists: HDF5 dataset, TIFF stack or folder, Zarr; read by boxes (z, y, x)."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import tifffile

from tessera.config import VolumeSource
from tessera.errors import TesseraError
from tessera.formats.hdf5 import open_hdf5, read_frames
from tessera.volume.box import Box

_HDF5 = (".h5", ".hdf5", ".hdf", ".nx", ".nxs")
_TIFF = (".tif", ".tiff")
Vector = tuple[float, float, float]


class Source:
    """A volume, open for reading. Use it as a context manager.

    Attributes:
        shape: size (z, y, x) in voxels.
        dtype: type of a voxel.
        voxel_um: voxel size (z, y, x); None if nobody says.
    """

    def __init__(self, given: VolumeSource, shape: tuple[int, ...], dtype: Any) -> None:
        if len(shape) != 3:
            raise TesseraError(
                f"{given.path}: has {len(shape)} axes {tuple(shape)}; a volume has three (z, y, x)"
            )
        self.path = given.path
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.dtype = np.dtype(dtype)
        self.voxel_um: Vector | None = given.voxel_um

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box, which lies within the volume."""
        raise TypeError("read is a format's own")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def open_source(given: VolumeSource) -> Source:
    """Open a volume of any known format.

    Raises:
        TesseraError: it does not exist, is of no known format, or has not three axes.
    """
    path = Path(given.path)
    if path.suffix.lower() in _HDF5:
        return _Hdf5(given)
    if path.is_dir() and ((path / "zarr.json").exists() or (path / ".zgroup").exists()):
        return _Zarr(given)
    if path.is_dir() and (path / ".zarray").exists():
        return _Zarr(given)
    files = (
        sorted(p for p in path.iterdir() if p.suffix.lower() in _TIFF)
        if path.is_dir()
        else [Path(p) for p in sorted(glob.glob(given.path))]
    )
    if not files:
        raise TesseraError(f"{given.path}: no such volume; give an HDF5 file, TIFFs or a Zarr")
    if files[0].suffix.lower() not in _TIFF:
        raise TesseraError(f"{given.path}: is no HDF5, TIFF or Zarr; convert it to one of them")
    return _TiffStack(given, files)


class _Hdf5(Source):
    def __init__(self, given: VolumeSource) -> None:
        self._file = open_hdf5(given.path)
        name = given.dataset or self._only(given.path)
        if name not in self._file or not isinstance(self._file[name], h5py.Dataset):
            known = ", ".join(self._datasets()) or "none"
            self._file.close()
            raise TesseraError(f"{given.path}: no dataset '{name}' (there: {known})")
        self._data = self._file[name]
        super().__init__(given, self._data.shape, self._data.dtype)

    def _datasets(self) -> list[str]:
        names: list[str] = []
        self._file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        return names

    def _only(self, path: str) -> str:
        names = self._datasets()
        if len(names) == 1:
            return names[0]
        raise TesseraError(f"{path}: say which dataset ({', '.join(names) or 'there is none'})")

    def read(self, box: Box) -> np.ndarray:
        return read_frames(self._data, box.slices, self.path)

    def __exit__(self, *error: object) -> None:
        self._file.close()


class _Zarr(Source):
    def __init__(self, given: VolumeSource) -> None:
        import zarr

        try:
            item: Any = zarr.open(given.path, mode="r")
            self._scale: Vector | None = None
            if isinstance(item, zarr.Group):
                scales = dict(item.attrs).get("ome", dict(item.attrs)).get("multiscales")
                name = given.dataset or (scales[0]["datasets"][0]["path"] if scales else "")
                if scales and not given.dataset:
                    found = scales[0]["datasets"][0]["coordinateTransformations"][0]["scale"]
                    self._scale = (found[-3], found[-2], found[-1])
                item = item[name]
        except (KeyError, ValueError, OSError) as error:
            raise TesseraError(
                f"{given.path}: cannot be read as Zarr ({error}); name the array as 'dataset'"
            ) from None
        self._data = item
        super().__init__(given, item.shape, item.dtype)
        self.voxel_um = self.voxel_um or self._scale

    def read(self, box: Box) -> np.ndarray:
        return np.asarray(self._data[box.slices])


class _TiffStack(Source):
    def __init__(self, given: VolumeSource, files: list[Path]) -> None:
        try:
            with tifffile.TiffFile(files[0]) as first:
                shape, dtype = first.series[0].shape, first.series[0].dtype
        except (OSError, tifffile.TiffFileError) as error:
            raise TesseraError(f"{files[0]}: cannot be read ({error}); copy it again") from None
        self._files = files
        self._single = len(files) == 1 and len(shape) == 3
        super().__init__(given, shape if self._single else (len(files), *shape), dtype)

    def read(self, box: Box) -> np.ndarray:
        planes = range(box.start.z, box.stop.z)
        part = box.slices[1:]
        try:
            if self._single:
                with tifffile.TiffFile(self._files[0]) as file:
                    pages = file.series[0].pages
                    if len(pages) == self.shape[0]:
                        return np.stack([pages[z].asarray()[part] for z in planes])
                    return np.asarray(file.series[0].asarray()[box.slices])
            return np.stack([tifffile.imread(self._files[z])[part] for z in planes])
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise TesseraError(f"{self.path}: cannot be read ({error}); copy it again") from None
