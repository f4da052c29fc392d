"""analyse against solids whose volume, axes and place are known in closed form."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.analyse.command import analyse
from tessera.analyse.moments import Objects, covariances_um2, semi_axes_um
from tessera.analyse.surface import surface_of, surfaces
from tessera.analyse.table import equivalent_diameters_um, summary
from tessera.cli import main
from tessera.config import Analyse
from tessera.errors import TesseraError
from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, Volume, create_volume

VOXEL = (2.0, 1.0, 0.5)
ORIGIN = (10.0, -20.0, 5.0)


def ellipsoid(shape: tuple[int, ...], centre_um: tuple, axes_um: tuple) -> np.ndarray:
    """Voxels whose centre lies in an axis-parallel ellipsoid; positions in um from voxel 0."""
    grid = np.meshgrid(
        *(np.arange(n) * v for n, v in zip(shape, VOXEL, strict=True)), indexing="ij"
    )
    return sum(((g - c) / a) ** 2 for g, c, a in zip(grid, centre_um, axes_um, strict=True)) <= 1


def stored(folder: Path, ids: np.ndarray, voxel_um: tuple = VOXEL) -> Volume:
    layout = Layout(Triple(*ids.shape), "uint32", voxel_um, origin_um=ORIGIN)
    volume = create_volume(folder / "labels.zarr", layout)
    volume.write(Box.whole(ids.shape), ids.astype(np.uint32))
    return volume


def listed(ids: np.ndarray) -> Objects:
    """The list of objects, made with plain numpy."""
    rows = []
    for identity in np.unique(ids[ids > 0]):
        where = np.argwhere(ids == identity)
        rows.append((identity, len(where), where.mean(0), where.min(0), where.max(0) + 1))
    columns = [np.array(c) for c in zip(*rows, strict=True)] if rows else [np.zeros((0, 3))] * 5
    return Objects(*columns)


def label_folder(folder: Path, ids: np.ndarray, voxel_um: tuple = VOXEL) -> Path:
    volume = stored(folder, ids, voxel_um)
    found = listed(ids)
    np.savez(
        folder / "objects.npz",
        id=found.id,
        voxels=found.voxels,
        centroid_zyx_vox=found.centroid_vox,
        box_start=found.start,
        box_stop=found.stop,
    )
    text = json.dumps({"path": str(volume.path), "digest": "d", "objects": len(found)})
    (folder / "labels.json").write_text(text)
    return folder / "labels.json"


@pytest.fixture
def two(tmp_path: Path) -> tuple[Volume, Objects]:
    """Two ellipsoids: semi-axes 24 x 12 x 10 um and 8 x 16 x 8 um."""
    shape = (40, 70, 120)
    ids = 7 * ellipsoid(shape, (30, 20, 15), (24, 12, 10)).astype(np.uint32)
    ids[ellipsoid(shape, (50, 45, 45), (8, 16, 8))] = 9
    return stored(tmp_path, ids), listed(ids)


def test_semi_axes_are_those_of_the_ellipsoids(two: tuple[Volume, Objects]) -> None:
    volume, objects = two
    axes = semi_axes_um(covariances_um2(volume, objects, block=(64, 64, 64)))
    assert axes == pytest.approx(np.array([[24, 12, 10], [16, 8, 8]]), rel=0.03)


@given(st.tuples(*[st.integers(9, 50)] * 3), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_covariance_does_not_depend_on_blocks(
    tmp_path_factory: pytest.TempPathFactory, block: tuple[int, int, int], seed: int
) -> None:
    ids = np.random.default_rng(seed).integers(0, 5, (20, 33, 41)).astype(np.uint32)
    volume = stored(tmp_path_factory.mktemp("blocks"), ids, (1.0, 1.0, 1.0))
    found = covariances_um2(volume, listed(ids), block)
    for row, identity in enumerate(range(1, 5)):
        expected = np.cov(np.argwhere(ids == identity).T, bias=True) + np.eye(3) / 12
        assert found[row] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("cells", [10, 40])
def test_surface_encloses_the_ellipsoid(two: tuple[Volume, Objects], cells: int) -> None:
    volume, objects = two
    found = surface_of(volume, objects, 0, cells)
    corners = found.vertices_um[found.faces] - found.vertices_um.mean(0)
    # The divergence theorem: signed tetrahedra from the middle add up to the volume enclosed.
    enclosed = abs(
        np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum()
    )
    assert enclosed / 6 == pytest.approx(4 / 3 * np.pi * 24 * 12 * 10, rel=0.12)
    centre = np.array(ORIGIN) + (30, 20, 15)
    assert found.vertices_um.mean(0) == pytest.approx(centre, abs=0.7)
    edges = np.sort(found.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all(), "closed"


def test_surfaces_are_sliced_by_their_starts(two: tuple[Volume, Objects]) -> None:
    volume, objects = two
    found = surfaces(volume, objects)
    assert found["id"].tolist() == [7, 9]
    for n in range(2):
        faces = found["faces"][slice(*found["face_start"][n : n + 2])]
        size = np.diff(found["vertex_start"])[n]
        assert faces.min() == 0
        assert faces.max() == size - 1


def test_numbers_of_a_hand_worked_example() -> None:
    # 10 x 10 x 10 voxels of 10 um: 0.001 mm3. One cube of 2 inside, one at the near corner, one
    # at the far corner: three objects, two at the edge, two clear of the far faces.
    objects = Objects(
        np.array([1, 2, 3]),
        np.array([8, 8, 8]),
        np.array([[4.5, 4.5, 4.5], [0.5, 0.5, 0.5], [8.5, 8.5, 8.5]]),
        np.array([[4] * 3, [0] * 3, [8] * 3]),
        np.array([[6] * 3, [2] * 3, [10] * 3]),
    )
    found = summary(objects, np.ones((3, 3)), (10, 10, 10), (10.0, 10.0, 10.0))
    assert (found["count"], found["touching_edge"]) == (3, 2)
    assert found["density_per_mm3"] == pytest.approx(2 / 0.001)
    assert found["filled_fraction"] == pytest.approx(24 / 1000)
    assert found["volume_um3"]["n"] == 1
    assert found["volume_um3"]["p50"] == 8000
    assert found["nearest_neighbour_um"]["p50"] == pytest.approx(40 * 3**0.5)


def test_equivalent_diameter_of_a_sphere() -> None:
    assert equivalent_diameters_um(np.array([4 / 3 * np.pi * 5**3])) == pytest.approx([10])


def test_command_writes_table_numbers_and_surfaces(tmp_path: Path) -> None:
    ids = 4 * ellipsoid((40, 70, 120), (30, 20, 15), (24, 12, 10)).astype(np.uint32)
    ids[0, 0, :3] = 5
    path = label_folder(tmp_path / "soma", ids)
    out = tmp_path / "out"
    assert main(["analyse", "--labels", str(path), "--out", str(out)]) == 0
    with open(out / "soma.csv") as file:
        rows = list(csv.DictReader(file))
    assert [r["id"] for r in rows] == ["4", "5"]
    assert [float(rows[0][k]) for k in ("z_um", "y_um", "x_um")] == pytest.approx([40, 0, 20])
    assert float(rows[0]["volume_um3"]) == pytest.approx(4 / 3 * np.pi * 24 * 12 * 10, rel=0.01)
    assert [r["touches_edge"] for r in rows] == ["0", "1"]
    numbers = json.loads((out / "soma.json").read_text())
    assert (numbers["class"], numbers["count"]) == ("soma", 2)
    assert np.load(out / "soma_meshes.npz")["id"][0] == 4


def test_small_objects_are_left_out_and_an_empty_list_is_no_error(
    tmp_path: Path,
) -> None:
    ids = np.zeros((8, 8, 8), np.uint32)
    ids[2:4, 2:4, 2:4] = 1
    path = label_folder(tmp_path / "soma", ids, (1.0, 1.0, 1.0))
    found = analyse(Analyse(min_volume_um3=9), path, tmp_path, "soma")
    assert found["count"] == 0
    assert (tmp_path / "soma.csv").read_text().count("\n") == 1


def test_a_list_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    ids = np.zeros((8, 8, 8), np.uint32)
    ids[2:4, 2:4, 2:4] = 1
    path = label_folder(tmp_path / "soma", ids)
    stored(tmp_path / "soma", np.zeros_like(ids))
    with pytest.raises(TesseraError, match="object 1 has 0 voxels but the list beside it says 8"):
        analyse(Analyse(), path, tmp_path, "soma")


def test_missing_labels_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = str(tmp_path / "labels.json")
    assert main(["analyse", "--labels", path, "--out", str(tmp_path)]) == 2
    assert "run the label stage" in capsys.readouterr().err
