"""A model trained elsewhere, made a specimen's own: train once, apply to many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tessera.errors import TesseraError
from tessera.nets import bundle

_NEAR = 0.1  # voxel sizes may differ by this share: so much do scaling augmentations cover


def fitting(folder: str | Path, classes: Sequence[str], voxel_um: Sequence[float]) -> bundle.Bundle:
    """Read a bundle that is to be applied to a specimen.

    Args:
        folder: of the bundle; every hash in it is checked.
        classes: what the config says that the network's outputs are.
        voxel_um: (z, y, x) of the specimen.

    Raises:
        TesseraError: if it cannot be read or was changed, speaks of other classes, or was trained
            on voxels of another size.
    """
    model = bundle.load(folder)
    fills = model.facts.net["name"] == "ffn"  # its one output is the class that is filled
    if model.classes != tuple(c for c in classes if not (fills and c == "background")):
        raise TesseraError(
            f"{folder}: the bundle's classes are {', '.join(model.classes)} but the config names "
            f"{', '.join(classes)}; name the bundle's, in its order"
        )
    trained = model.facts.voxel_um
    if any(abs(a / b - 1) > _NEAR for a, b in zip(voxel_um, trained, strict=True)):
        sizes = (" x ".join(f"{v:g}" for v in size) for size in (trained, voxel_um))
        raise TesseraError(
            "{}: the bundle was trained on voxels of {} um but those here are of {} um; resample "
            "the volume, or train a model for it".format(folder, *sizes)
        )
    return model


def adopt(
    folder: str | Path, out: str | Path, classes: Sequence[str], voxel_um: Sequence[float]
) -> str:
    """Copy a bundle that fits to ``out``; return its digest, which stays the same.

    Raises:
        TesseraError: as :func:`fitting` does, or if ``out`` cannot be written.
    """
    fitting(folder, classes, voxel_um)
    weights = bundle.load_tensors((Path(folder) / bundle.WEIGHTS).read_bytes())
    return bundle.save(out, weights, bundle.read_facts(folder)[0])
