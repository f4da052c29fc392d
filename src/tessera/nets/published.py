"""A bundle of weights that somebody else has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tessera.errors import TesseraError
from tessera.nets import bundle
from tessera.nets.ffn import import_weights
from tessera.nets.registry import build


def import_ffn(
    weights: Path,
    out: Path,
    name: str,
    options: dict[str, Any],
    mean_std: tuple[float, float],
    voxel_um: tuple[float, float, float],
) -> str:
    """Make a bundle of a published flood-filling network; return its digest.

    Args:
        weights: ``.npz`` of its variables, or the prefix of a TensorFlow checkpoint.
        out: folder of the bundle.
        name: the class that its objects are of.
        options: its geometry (``fov``, ``deltas``); depth and features follow from the weights.
        mean_std: grey values that it sees as 0, and as 1 more.
        voxel_um: voxel size (z, y, x) of what it is used on.

    Raises:
        TesseraError: if the weights cannot be read, or do not fit the options.
    """
    from tessera.volume.record import file_hash

    state, found = import_weights(weights)
    for key, value in found.items():
        if options.get(key, value) != value:
            raise TesseraError(
                f"{weights}: is a network of {key} {value}, but net_options says {options[key]}; "
                "take that out"
            )
    options = {**options, **found}
    net = build("ffn", 1, (), options)
    bundle.fit(net, state, str(weights))
    facts = bundle.Facts(
        net={"name": "ffn", "channels": [], "options": options},
        classes=(name,),
        activation="sigmoid",
        normalisation={"mean": mean_std[0], "std": mean_std[1]},
        voxel_um=voxel_um,
        halo_vox=net.halo,  # type: ignore[arg-type]
        align_vox=net.align,  # type: ignore[arg-type]
        training={"imported": weights.name},
        data={"weights": file_hash(weights)},
    )
    return bundle.save(out, state, facts)
