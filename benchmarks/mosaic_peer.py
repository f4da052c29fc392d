"""multiview-stitcher on the tiles of ``benchmarks/mosaic.py``, in an environment of its own.

    python benchmarks/mosaic_peer.py TILES.npz OUT.json

TILES.npz holds ``tiles`` (n, z, y, x) and ``nominal`` (n, 3) in voxels. OUT.json gets, for each way
of calling it, the solved places relative to the first tile and the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
from multiview_stitcher import msi_utils, param_utils, registration
from multiview_stitcher import spatial_image_utils as si

FULL = {"registration_binning": {"z": 1, "y": 1, "x": 1}}
WAYS: dict[str, dict[str, Any]] = {
    "full resolution": FULL,
    "all pairs, quality filter": FULL
    | {
        "pre_registration_pruning_method": None,
        "post_registration_do_quality_filter": True,
        "post_registration_quality_threshold": 0.3,
        "overlap_tolerance": 20.0,
    },
}


def solve(tiles: np.ndarray, nominal: np.ndarray, **options: Any) -> np.ndarray:
    """Return solved places (n, 3) in voxels, relative to the first tile."""
    images = []
    for data, place in zip(tiles, nominal, strict=True):
        image = si.get_sim_from_array(
            data[None, None],
            dims=["t", "c", "z", "y", "x"],
            scale=dict.fromkeys("zyx", 1.0),
            translation=dict(zip("zyx", map(float, place), strict=True)),
            transform_key="stage",
        )
        images.append(msi_utils.get_msim_from_sim(image, scale_factors=[]))
    registration.register(
        images, transform_key="stage", new_transform_key="solved", reg_channel_index=0, **options
    )
    moves = []
    for image in images:
        matrix = msi_utils.get_transform_from_msim(image, transform_key="solved")
        moves.append(
            np.asarray(
                param_utils.get_data_from_xparams(matrix)
                if hasattr(param_utils, "get_data_from_xparams")
                else matrix
            ).reshape(-1, 4, 4)[0][:3, 3]
        )
    places = nominal + np.array(moves)
    return places - places[0]


def main() -> None:
    given = np.load(sys.argv[1])
    out: dict[str, Any] = {}
    for name, options in WAYS.items():
        start = time.perf_counter()
        try:
            places = solve(given["tiles"], given["nominal"], **options)
        except Exception as error:  # noqa: BLE001 - the peer's failure is a result
            out[name] = {"error": f"{type(error).__name__}: {error}"}
            continue
        out[name] = {"places": places.tolist(), "seconds": time.perf_counter() - start}
    with open(sys.argv[2], "w") as file:
        json.dump(out, file)


if __name__ == "__main__":
    main()
