"""``tessera analyse``: measure the objects of one class."""

from __future__ import annotations

import argparse
import io
import json
import os
from pathlib import Path
from typing import Any

from tessera import __version__
from tessera.arguments import add_settings, section
from tessera.config import Analyse
from tessera.errors import TesseraError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_settings(parser)
    parser.add_argument(
        "--labels",
        required=True,
        metavar="FILE",
        help="label/<model>/<class>/labels.json",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the tables")
    parser.add_argument(
        "--class",
        dest="name",
        metavar="NAME",
        help="what the files are called; the default is the name of the labels' folder",
    )


def main(args: argparse.Namespace) -> int:
    """Write ``<class>.csv``, ``<class>_meshes.npz`` and, last, ``<class>.json``."""
    labels = Path(args.labels)
    analyse(
        section(args, Analyse),
        labels,
        Path(args.out),
        args.name or labels.resolve().parent.name,
    )
    return 0


def analyse(settings: Analyse, labels_json: Path, out: Path, name: str) -> dict[str, Any]:
    """Measure the objects of one label volume.

    Args:
        settings: the stage's section.
        labels_json: what the label stage wrote last.
        out: folder for the results.
        name: the class, and the stem of the files.

    Returns:
        the numbers that stand in ``<name>.json``.

    Raises:
        TesseraError: the labels are missing, or the list beside them does not fit them.
    """
    import numpy as np

    from tessera.analyse import moments, surface, table
    from tessera.volume.record import atomic_write
    from tessera.volume.store import open_volume, write_errors

    known = _read(labels_json)
    labels = open_volume(labels_json.parent / Path(known["path"]).name)
    objects = read_objects(labels_json.parent / "objects.npz")
    voxel_um3 = float(np.prod(labels.voxel_um))
    objects = objects.select(objects.voxels * voxel_um3 >= settings.min_volume_um3)

    axes = moments.semi_axes_um(moments.covariances_um2(labels, objects))
    result = {"class": name} | table.summary(objects, axes, labels.shape, labels.voxel_um)
    result["provenance"] = {
        "version": __version__,
        "settings": settings.model_dump(mode="json"),
        "labels": known.get("digest"),
    }
    meshes = io.BytesIO()
    np.savez_compressed(meshes, **surface.surfaces(labels, objects))  # type: ignore[arg-type]
    text = table.table_csv(objects, axes, labels.shape, labels.voxel_um, labels.origin_um)
    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        atomic_write(out / f"{name}.csv", text)
        _write_bytes(out / f"{name}_meshes.npz", meshes.getvalue())
        atomic_write(out / f"{name}.json", json.dumps(result, indent=1) + "\n")
    return result


def read_objects(path: Path) -> Any:
    """Read the label stage's list of objects, sorted by id."""
    import numpy as np

    from tessera.analyse.moments import Objects

    try:
        with np.load(path) as data:
            order = np.argsort(data["id"], kind="stable")
            return Objects(
                data["id"][order],
                data["voxels"][order].astype(np.int64),
                data["centroid_zyx_vox"][order].reshape(-1, 3),
                data["box_start"][order].reshape(-1, 3),
                data["box_stop"][order].reshape(-1, 3),
            )
    except (OSError, KeyError, ValueError) as error:
        raise TesseraError(
            f"{path}: is not a list of objects ({error}); run the label stage again"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TesseraError(f"{path}: cannot be read ({error}); run the label stage") from None
    if not isinstance(found, dict) or "path" not in found:
        raise TesseraError(f"{path}: does not name a label volume; run the label stage again")
    return found


def _write_bytes(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
