"""Real texture as 2 x 2 tiles: projected by another library, reconstructed, stitched, compared.

The tiles' circles lie inside the cube (a region of interest each), at true places that are no
whole voxels apart in y and x. The projector is astra's, through the whole cube.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tessera.cli import main
from tessera.config import Mosaic, Recon, section_json
from tessera.volume.box import Box
from tessera.volume.store import open_volume

CUBE = Path(__file__).resolve().parents[3] / "shared/data/xray/thalamocortical_cube1.h5"
PIXEL_UM = 1.17
ROWS, COLUMNS, ANGLES = 36, 132, 361
FIRST_ROW = 80  # of the cube, in tiles whose z is not off
MIDDLE_ROW = FIRST_ROW + (ROWS - 1) / 2
THETA_DEG = np.linspace(0, 180, ANGLES)  # both ends, as beamlines do
PER_VOXEL = 4e-5  # attenuation of one grey value in one voxel

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not CUBE.is_file(), reason=f"no {CUBE.name} beside the repository"),
]


def project(cube: np.ndarray, centre: tuple[float, float], axis: float) -> np.ndarray:
    """Line integrals (angles, rows, columns) about an axis at ``centre`` (y, x) of each slice.

    A point (y, x) relative to the axis falls on column ``axis + x cos(theta) + y sin(theta)``;
    astra's own y points up.
    """
    astra = pytest.importorskip("astra")
    theta = np.radians(THETA_DEG)
    along = np.stack([np.cos(theta), -np.sin(theta)], axis=1)
    ray = np.stack([np.sin(theta), np.cos(theta)], axis=1)
    half = (np.array(cube.shape[1:]) - 1) / 2
    middle = np.array([centre[1] - half[1], -(centre[0] - half[0])])
    middle = middle + ((COLUMNS - 1) / 2 - axis) * along
    vectors = np.hstack([ray, middle, along])
    volume = astra.create_vol_geom(*cube.shape[1:])
    geometry = astra.create_proj_geom("parallel_vec", COLUMNS, vectors)
    projector = astra.create_projector("linear", geometry, volume)
    out = np.empty((ANGLES, len(cube), COLUMNS), np.float32)
    for row, picture in enumerate(cube):
        number, out[:, row] = astra.create_sino(picture.astype(np.float32), projector)
        astra.data2d.delete(number)
    astra.projector.delete(projector)
    return out


def write_scan(path: Path, integrals: np.ndarray, nominal_um: np.ndarray, seed: int) -> None:
    """Write an APS Data Exchange file with Poisson noise."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(4e4 * np.exp(-integrals))
    flats = rng.poisson(4e4, (10, *integrals.shape[1:]))
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["exchange/data"] = counts.clip(0, 65535).astype(np.uint16)
        file["exchange/data_white"] = flats.astype(np.uint16)
        file["exchange/data_dark"] = np.zeros((4, *integrals.shape[1:]), np.uint16)
        file["exchange/theta"] = THETA_DEG
        file["exchange/theta"].attrs["units"] = "degrees"
        pixel = "measurement/instrument/detector/pixel_size"
        file[pixel] = PIXEL_UM
        file[pixel].attrs["units"] = "um"
        # As at the beamline: x across the beam, y up, z along it.
        for name, value in zip("yzx", nominal_um, strict=True):
            place = f"measurement/instrument/sample_motor_stack/setup/{name}"
            file[place] = float(value)
            file[place].attrs["units"] = "um"


# What registration can do shows where the axis is known. An axis that is wrong by d columns moves a
# tile by 4/pi d along y, and where it is found, that is nearly all of the error.
@pytest.mark.parametrize(("axis_given", "most_vox"), [(True, 0.1), (False, 0.1)])
def test_the_cube_comes_back(
    tmp_path: Path,
    axis_given: bool,
    most_vox: float,
    record_property: Callable[[str, object], None],
) -> None:
    with h5py.File(CUBE) as file:
        cube = file["raw"][:]
    rng = np.random.default_rng(7)
    true, nominal = {}, {}
    for index in np.ndindex(2, 2):
        name = "tile_z0_y{}_x{}".format(*index)
        place = np.array([MIDDLE_ROW, 64 + 74 * index[0], 64 + 74 * index[1]])
        off = rng.uniform(-3, 3, 3) if any(index) else np.zeros(3)
        off[0] = round(off[0])  # rows of the cube are rows of the detector
        true[name] = place + off
        nominal[name] = place + (rng.uniform(-0.4, 0.4, 3) if any(index) else 0)
        first = FIRST_ROW + int(off[0])
        axis = (COLUMNS - 1) / 2 + rng.uniform(-3, 3)
        integrals = PER_VOXEL * project(cube[first : first + ROWS], tuple(true[name][1:]), axis)
        scan = tmp_path / "scans" / f"{name}.h5"
        write_scan(scan, integrals, nominal[name] * PIXEL_UM, sum(index))
        # No detector faults were put in, so none are taken out.
        settings = Recon(
            rings={"method": "none"},
            zingers=False,
            dead_pixels=False,
            axis={"column": axis if axis_given else None},
        )
        out = tmp_path / "recon" / name
        assert main(["recon", "--settings", section_json(settings), str(scan), str(out)]) == 0

    folder = tmp_path / "mosaic"
    given = ["--settings", section_json(Mosaic())]
    tiles = [str(tmp_path / "recon" / name) for name in sorted(true)]
    positions = str(folder / "positions.json")
    assert main(["mosaic", "register", *given, "--out", positions, *tiles]) == 0
    assert main(["mosaic", "store", *given, "--out", str(folder), positions]) == 0
    assert main(["mosaic", "fuse", str(folder)]) == 0
    assert main(["mosaic", "finish", str(folder)]) == 0

    content = json.loads((folder / "positions.json").read_text())
    error = [np.array(t["solved_um"]) / PIXEL_UM - true[t["name"]] for t in content["tiles"]]
    rms = float(np.sqrt((np.array(error) ** 2).sum(axis=1).mean()))
    correlation = compare(folder, cube)
    how = "axis_given" if axis_given else "axis_found"
    record_property(f"thalamocortical.{how}.position_rms_vox", rms)
    record_property(f"thalamocortical.{how}.correlation", correlation)
    assert rms <= most_vox
    assert correlation >= 0.95


def compare(folder: Path, cube: np.ndarray) -> float:
    """Correlation of the fused volume with the cube, away from the border."""
    volume = open_volume(folder / "volume.zarr")
    fused = volume.read(Box.whole(volume.shape))
    origin = np.array(volume.origin_um) / PIXEL_UM  # half voxels: an even detector about a whole
    margin = 12
    axes = []
    for start, shape, n in zip(origin, fused.shape, cube.shape, strict=True):
        low = int(np.ceil(max(margin, start + margin)))
        high = int(np.floor(min(n - margin, start + shape - margin)))
        axes.append(np.arange(low, high))
    points = np.meshgrid(*(a - o for a, o in zip(axes, origin, strict=True)), indexing="ij")
    shown = map_coordinates(fused.astype(float), points, order=3)
    truth = cube[np.ix_(*axes)].astype(float)
    return float(np.corrcoef(shown.ravel(), truth.ravel())[0, 1])
