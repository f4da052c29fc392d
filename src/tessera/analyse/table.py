"""The table of objects and the numbers that sum it up."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from tessera.analyse.moments import Objects

_PERCENTILES = (5, 25, 50, 75, 95)

HEADER = (
    "id", "z_um", "y_um", "x_um", "voxels", "volume_um3", "equivalent_diameter_um",
    "semi_axis_a_um", "semi_axis_b_um", "semi_axis_c_um",
    "box_z0", "box_y0", "box_x0", "box_z1", "box_y1", "box_x1", "touches_edge",
)  # fmt: skip


def volumes_um3(objects: Objects, voxel_um: tuple[float, float, float]) -> np.ndarray:
    """Return each object's volume."""
    return objects.voxels * float(np.prod(voxel_um))


def equivalent_diameters_um(volumes: np.ndarray) -> np.ndarray:
    """Return the diameters of spheres of these volumes (um^3)."""
    return np.cbrt(6 * np.asarray(volumes) / np.pi)


def touches_edge(objects: Objects, shape: tuple[int, ...]) -> np.ndarray:
    """Which objects reach a face of the volume, so that part of them may lie outside, (n,)."""
    reaches = (objects.start <= 0) | (objects.stop >= np.array(shape))
    return np.asarray(reaches.any(1))


def table_csv(
    objects: Objects,
    semi_axes_um: np.ndarray,
    shape: tuple[int, ...],
    voxel_um: tuple[float, float, float],
    origin_um: tuple[float, float, float],
) -> str:
    """Return the table as CSV, one line an object, in the order of ids."""
    centroids = np.array(origin_um) + objects.centroid_vox * np.array(voxel_um)
    volumes = volumes_um3(objects, voxel_um)
    diameters = equivalent_diameters_um(volumes)
    edge = touches_edge(objects, shape)
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(HEADER)
    for n in range(len(objects)):
        um = (f"{v:.4f}" for v in (*centroids[n],))
        size = (f"{v:.4f}" for v in (volumes[n], diameters[n], *semi_axes_um[n]))
        box = (*objects.start[n], *objects.stop[n])
        write([objects.id[n], *um, objects.voxels[n], *size, *box, int(edge[n])])
    return out.getvalue()


def summary(
    objects: Objects,
    semi_axes_um: np.ndarray,
    shape: tuple[int, ...],
    voxel_um: tuple[float, float, float],
) -> dict[str, Any]:
    """Return counts, density and distributions.

    An object that reaches the volume's edge may be counted again by whoever measures the volume
    next door. So the density counts only objects that stay clear of the three far faces (the
    unbiased brick of Gundersen 1986, doi:10.1111/j.1365-2818.1986.tb02764.x).
    """
    volumes = volumes_um3(objects, voxel_um)
    diameters = equivalent_diameters_um(volumes)
    edge = touches_edge(objects, shape)
    clear = (objects.stop < np.array(shape)).all(1)
    mm3 = float(np.prod(shape) * np.prod(voxel_um)) * 1e-9
    whole = ~edge  # sizes of cut objects say nothing of sizes
    return {
        "count": len(objects),
        "touching_edge": int(edge.sum()),
        "volume_mm3": mm3,
        "counted_for_density": int(clear.sum()),
        "density_per_mm3": float(clear.sum()) / mm3,
        "filled_fraction": float(volumes.sum()) * 1e-9 / mm3,
        "volume_um3": _distribution(volumes[whole]),
        "equivalent_diameter_um": _distribution(diameters[whole]),
        "semi_axes_um": {
            name: _distribution(semi_axes_um[whole, n]) for n, name in enumerate("abc")
        },
        "nearest_neighbour_um": _distribution(_nearest(objects, voxel_um)),
    }


def _nearest(objects: Objects, voxel_um: tuple[float, float, float]) -> np.ndarray:
    """Distance from each centroid to the nearest other one, (n,); empty if there is but one."""
    if len(objects) < 2:
        return np.zeros(0)
    from scipy.spatial import cKDTree

    points = objects.centroid_vox * np.array(voxel_um)
    distance, _ = cKDTree(points).query(points, k=2)
    return np.asarray(distance)[:, 1]


def _distribution(values: np.ndarray) -> dict[str, Any]:
    """Mean, spread, percentiles and a histogram; only ``n`` if there are no values."""
    if not len(values):
        return {"n": 0}
    counts, edges = np.histogram(values, bins=min(30, max(5, int(np.sqrt(len(values)) * 1.5))))
    percentiles = np.percentile(values, _PERCENTILES)
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        **{f"p{q:02}": float(v) for q, v in zip(_PERCENTILES, percentiles, strict=True)},
        "histogram": counts.tolist(),
        "edges": edges.tolist(),
    }
