"""A volume that exists: HDF5 dataset, TIFF stack or folder, Zarr; read by boxes (z, y, x)."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from tessera.config import VolumeSource
from tessera.errors import TesseraError
from tessera.formats.hdf5 import open_hdf5, read_part, require_filters, text, um_per
from tessera.volume.box import Box

Vector = tuple[float, float, float]
_HDF5 = (".h5", ".hdf5", ".hdf", ".he5", ".nx", ".nxs")
_TIFF = (".tif", ".tiff")
_ZARR = ("zarr.json", ".zgroup", ".zarray")
# Attributes that hold (z, y, x), of the dataset or of the file, and what they are in micrometres.
_SPACING = {"voxel_um": 1.0, "voxel_size_um": 1.0, "element_size_um": 1.0, "spacing_um": 1.0}
_SPACING |= {"voxel_size_nm": 1e-3, "resolution_nm": 1e-3, "resolution": 1e-3}


class Source:
    """A volume, open for reading. Use it as a context manager.

    Leading axes of length one (a channel, a time) are passed over.

    Attributes:
        path: where it is.
        shape: size (z, y, x) in voxels.
        dtype: type of a voxel.
        voxel_um: voxel size (z, y, x); None if nobody says.
    """

    def __init__(
        self, given: VolumeSource, shape: tuple[int, ...], dtype: Any, voxel_um: Vector | None
    ) -> None:
        lead = len(shape) - 3
        if lead < 0 or any(n != 1 for n in shape[:lead]) or 0 in shape:
            raise TesseraError(
                f"{given.path}: has the shape {tuple(shape)}; a volume has three axes (z, y, x)"
            )
        if np.dtype(dtype).kind not in "buif":
            raise TesseraError(f"{given.path}: holds {dtype}, not one number a voxel; convert it")
        self.path = given.path
        z, y, x = (int(n) for n in shape[lead:])
        self.shape = (z, y, x)
        self.dtype = np.dtype(dtype)
        self.voxel_um: Vector | None = given.voxel_um or voxel_um
        self._lead: tuple[int, ...] = (0,) * lead

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of a box, which lies within the volume."""
        raise TypeError("a Source is made by open_source")

    def probe(self) -> None:
        """Read one voxel in the middle: what is torn or not to be decompressed shows here.

        Raises:
            TesseraError: it cannot be read.
        """
        middle = tuple(n // 2 for n in self.shape)
        self.read(Box.of(middle, tuple(m + 1 for m in middle)))

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
    if path.is_dir() and any((path / name).exists() for name in _ZARR):
        return _Zarr(given)
    from tessera.formats.tiff import by_number, tiffs_in

    files = tiffs_in(path) or sorted(map(Path, glob.glob(given.path)), key=by_number)
    if not files or files == [path] and path.is_dir():
        raise TesseraError(f"{given.path}: no such volume; give an HDF5 file, TIFFs or a Zarr")
    if any(f.suffix.lower() not in _TIFF for f in files):
        raise TesseraError(f"{given.path}: is no HDF5, TIFF or Zarr; convert it to one of them")
    return _TiffStack(given, files)


def datasets(file: h5py.File) -> list[str]:
    """Return the names of all arrays of three axes and more in an HDF5 file."""
    names: list[str] = []
    file.visititems(
        lambda name, item: (
            names.append(name) if isinstance(item, h5py.Dataset) and item.ndim >= 3 else None
        )
    )
    return names


class _Hdf5(Source):
    def __init__(self, given: VolumeSource) -> None:
        self._file = open_hdf5(given.path)
        try:
            self._data = self._choose(given)
            require_filters(self._data, given.path)
            spacing = _spacing(self._data.attrs, given) or _spacing(self._file.attrs, given)
            super().__init__(given, self._data.shape, self._data.dtype, spacing)
        except BaseException:
            self._file.close()
            raise

    def _choose(self, given: VolumeSource) -> h5py.Dataset:
        names = datasets(self._file)
        name = given.dataset or (names[0] if len(names) == 1 else None)
        known = ", ".join(names) or "none"
        if name is None:
            raise TesseraError(f"{given.path}: say which dataset it is (there: {known})")
        if not isinstance(self._file.get(name), h5py.Dataset):
            raise TesseraError(f"{given.path}: no dataset '{name}' (there: {known}); name one")
        return self._file[name]

    def read(self, box: Box) -> np.ndarray:
        return read_part(self._data, (*self._lead, *box.slices), self.path)

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _spacing(attributes: Any, given: VolumeSource) -> Vector | None:
    for name, scale in _SPACING.items():
        if name in attributes:
            values = np.asarray(attributes[name]).reshape(-1)
            if len(values) == 3 and values.dtype.kind in "uif" and np.all(values > 0):
                z, y, x = (float(v) * scale for v in values)
                return z, y, x
            raise TesseraError(
                f"{given.path}: its attribute '{name}' is {values.tolist()}, not three positive "
                "sizes (z, y, x); repair it"
            )
    return None


class _Zarr(Source):
    def __init__(self, given: VolumeSource) -> None:
        import zarr

        spacing: Vector | None = None
        try:
            item: Any = zarr.open(given.path, mode="r")
            if isinstance(item, zarr.Group):
                attributes: dict[str, Any] = dict(item.attrs)
                scales: Any = attributes.get("ome", attributes).get("multiscales")
                name = given.dataset or (scales[0]["datasets"][0]["path"] if scales else None)
                if name is None:
                    known = ", ".join(sorted(item.array_keys())) or "none"
                    raise TesseraError(
                        f"{given.path}: say which dataset it is (there: {known})"
                    ) from None
                spacing = _ome_spacing(scales, name) if scales else None
                item = item[name]
        except (KeyError, ValueError, OSError, IndexError, TypeError) as error:
            raise TesseraError(
                f"{given.path}: cannot be read as Zarr ({error}); name the array as 'dataset'"
            ) from None
        if not isinstance(item, zarr.Array):
            raise TesseraError(f"{given.path}: '{given.dataset}' is no array; name one")
        self._data: Any = item
        super().__init__(given, item.shape, item.dtype, spacing)

    def read(self, box: Box) -> np.ndarray:
        try:
            return np.asarray(self._data[(*self._lead, *box.slices)])
        except (OSError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split())
            raise TesseraError(
                f"{self.path}: cannot be read at {box} ({why}); it is torn, copy it again"
            ) from None


def _ome_spacing(scales: Any, name: str) -> Vector | None:
    """Voxel size of one level of an OME-Zarr, by its axes' units."""
    axes = scales[0].get("axes", [])
    units = [a.get("unit", "micrometer") if isinstance(a, dict) else "micrometer" for a in axes]
    for level in scales[0]["datasets"]:
        if level["path"] == name:
            scale = level["coordinateTransformations"][0]["scale"]
            per = [um_per(u) for u in units[-3:]] or [1.0, 1.0, 1.0]
            if len(scale) < 3 or None in per or len(per) != 3:
                return None
            z, y, x = (float(s) * float(p or 1.0) for s, p in zip(scale[-3:], per, strict=True))
            return z, y, x
    return None


class _TiffStack(Source):
    """One file a plane, or one file of many planes."""

    def __init__(self, given: VolumeSource, files: list[Path]) -> None:
        import tifffile

        with _tiff_errors(files[0]), tifffile.TiffFile(files[0]) as first:
            series = first.series[0]
            self._single = len(files) == 1 and len(series.shape) >= 3
            self._paged = self._single and len(series.pages) == series.shape[-3]
            shape, dtype = series.shape, series.dtype
            spacing = _tiff_spacing(first)
        self._files = files
        shape = shape if self._single else (len(files), *shape)
        super().__init__(given, shape, dtype, spacing)

    def read(self, box: Box) -> np.ndarray:
        import tifffile

        part = box.slices[1:]
        planes = range(box.start.z, box.stop.z)
        if not self._single:
            return np.stack([self._plane(self._files[z])[part] for z in planes])
        with _tiff_errors(self._files[0]), tifffile.TiffFile(self._files[0]) as file:
            series: Any = file.series[0]
            if self._paged:
                return np.stack([series.pages[z].asarray()[part] for z in planes])
            whole: Any = tifffile.memmap(self._files[0], mode="r")
            return np.array(whole[(*self._lead, *box.slices)])

    def _plane(self, path: Path) -> np.ndarray:
        import tifffile

        with _tiff_errors(path):
            plane = tifffile.imread(path)
        if plane.shape != self.shape[1:]:
            raise TesseraError(
                f"{path}: is {plane.shape} pixels but the first plane is {self.shape[1:]}; give "
                "planes of one size"
            )
        return np.asarray(plane)


def _tiff_spacing(file: Any) -> Vector | None:
    """Voxel size as ImageJ writes it: planes' distance, pixels per unit."""
    said = file.imagej_metadata or {}
    scale = um_per(text(said.get("unit", "")).replace("\\u00B5", "u"))
    tags = file.pages[0].tags
    if scale is None or "spacing" not in said or "XResolution" not in tags:
        return None
    y, x = (
        tags[n].value[1] / tags[n].value[0] if tags[n].value[0] else 0.0
        for n in ("YResolution", "XResolution")
    )
    found = (float(said["spacing"]) * scale, y * scale, x * scale)
    return found if min(found) > 0 else None


@contextlib.contextmanager
def _tiff_errors(path: Path) -> Iterator[None]:
    import tifffile

    try:
        yield
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise TesseraError(f"{path}: cannot be read as TIFF ({error}); copy it again") from None
