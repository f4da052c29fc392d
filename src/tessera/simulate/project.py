"""Line integrals of the specimen in closed form: parallel beam, one tile, all angles.

A point (y, x) relative to the rotation axis falls on column ``axis + x cos + y sin``. Each shape is
convex, so a ray meets it in one interval; the capsules of a chain are joined as intervals, so that
where they overlap counts once. Sharp shapes are averaged over sub-rays within the pixel.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from tessera.simulate.specimen import BODY_PER_CM as BODY
from tessera.simulate.specimen import FIBRE_PER_CM, SOMA_PER_CM, VESSEL_PER_CM, Specimen

SUB = 2  # sub-rays along each side of a pixel


def line_integrals(
    specimen: Specimen,
    angles_deg: np.ndarray,
    rows: int,
    columns: int,
    axis: float,
    centre_vox: tuple[float, float, float],
    voxel_um: float,
) -> np.ndarray:
    """Return the integrals of attenuation, without unit, as float32 (angles, rows, columns).

    Args:
        specimen: the shapes, in voxels and 1/cm.
        angles_deg: angles of the projections in degrees.
        rows, columns: detector pixels.
        axis: column of the rotation axis.
        centre_vox: place (z, y, x) of the rotation axis and the middle row in the specimen.
        voxel_um: pixel of the detector.
    """
    out = np.zeros((len(angles_deg), rows, columns), np.float32)
    chain_value = np.where(specimen.vessel, VESSEL_PER_CM, FIBRE_PER_CM)
    centre = np.array(centre_vox, float)
    for number, angle in enumerate(np.deg2rad(angles_deg)):
        cos, sin = math.cos(angle), math.sin(angle)
        _smooth(out[number], cos, sin, axis, centre, specimen.body, specimen.blobs, BODY)
        _somas(
            out[number], cos, sin, axis, centre, specimen.somas, specimen.soma_inverse,
            specimen.soma_radius, SOMA_PER_CM,
        )  # fmt: skip
        _chains(
            out[number], cos, sin, axis, centre, specimen.chains, specimen.chain_of, chain_value
        )
    out *= voxel_um * 1e-4
    return out


@numba.njit(cache=True, fastmath=False)
def _smooth(out, cos, sin, axis, centre, body, blobs, body_value):  # type: ignore[no-untyped-def]
    """The body (an ellipsoid along the axes) and the Gaussians, one ray a pixel."""
    rows, columns = out.shape
    for row in range(rows):
        z = centre[0] + row - (rows - 1) / 2
        for column in range(columns):
            s = column - axis
            y0, x0 = centre[1] + s * sin, centre[2] + s * cos
            # Direction of the ray: (y, x) = (cos, -sin).
            qz = (z - body[0, 0]) / body[1, 0]
            qy, qx = (y0 - body[0, 1]) / body[1, 1], (x0 - body[0, 2]) / body[1, 2]
            wy, wx = cos / body[1, 1], -sin / body[1, 2]
            a = wy * wy + wx * wx
            b = qy * wy + qx * wx
            d = b * b - a * (qz * qz + qy * qy + qx * qx - 1.0)
            value = 0.0
            if d > 0.0:
                value = body_value * 2.0 * math.sqrt(d) / a
            for k in range(blobs.shape[0]):
                dz, dy, dx = z - blobs[k, 0], y0 - blobs[k, 1], x0 - blobs[k, 2]
                along = dy * cos - dx * sin
                away = dz * dz + dy * dy + dx * dx - along * along
                sigma = blobs[k, 3]
                value += (
                    blobs[k, 4] * sigma * math.sqrt(2 * math.pi)
                    * math.exp(-away / (2 * sigma * sigma))
                )  # fmt: skip
            out[row, column] += value


@numba.njit(cache=True)
def _somas(out, cos, sin, axis, centre, somas, inverse, radius, value):  # type: ignore[no-untyped-def]
    """Ellipsoids: solve |M (p0 + t u - c)| = 1 for t on each sub-ray of the footprint."""
    rows, columns = out.shape
    for k in range(somas.shape[0]):
        cz = somas[k, 0] - centre[0] + (rows - 1) / 2
        dy, dx = somas[k, 1] - centre[1], somas[k, 2] - centre[2]
        cs = axis + dx * cos + dy * sin
        r = radius[k] + 1.0
        for row in range(max(0, int(cz - r)), min(rows, int(cz + r) + 2)):
            for column in range(max(0, int(cs - r)), min(columns, int(cs + r) + 2)):
                total = 0.0
                for i in range(SUB):
                    pz = row - cz + (i + 0.5) / SUB - 0.5
                    for j in range(SUB):
                        s = column + (j + 0.5) / SUB - 0.5 - axis
                        py, px = s * sin - dy, s * cos - dx
                        a, b, c = 0.0, 0.0, -1.0
                        for n in range(3):
                            q = (
                                inverse[k, n, 0] * pz
                                + inverse[k, n, 1] * py
                                + inverse[k, n, 2] * px
                            )
                            w = inverse[k, n, 1] * cos - inverse[k, n, 2] * sin
                            a += w * w
                            b += q * w
                            c += q * q
                        d = b * b - a * c
                        if d > 0.0:
                            total += 2.0 * math.sqrt(d) / a
                out[row, column] += value * total / (SUB * SUB)


@numba.njit(cache=True)
def _capsule(pz, py, px, uy, ux, capsule):  # type: ignore[no-untyped-def]
    """Interval (t0, t1) in which the ray p + t u is inside a capsule; t0 > t1 if it misses."""
    r = capsule[6]
    lz, ly, lx = capsule[3] - capsule[0], capsule[4] - capsule[1], capsule[5] - capsule[2]
    length = math.sqrt(lz * lz + ly * ly + lx * lx)
    lz, ly, lx = lz / length, ly / length, lx / length
    low, high = 1e30, -1e30
    for end in range(2):  # the round ends
        qz, qy, qx = pz - capsule[3 * end], py - capsule[3 * end + 1], px - capsule[3 * end + 2]
        b = qy * uy + qx * ux
        d = b * b - (qz * qz + qy * qy + qx * qx - r * r)
        if d > 0.0:
            root = math.sqrt(d)
            low, high = min(low, -b - root), max(high, -b + root)
    qz, qy, qx = pz - capsule[0], py - capsule[1], px - capsule[2]
    along_q = qz * lz + qy * ly + qx * lx
    along_u = uy * ly + ux * lx
    a = 1.0 - along_u * along_u
    b = qy * uy + qx * ux - along_q * along_u
    c = qz * qz + qy * qy + qx * qx - along_q * along_q - r * r
    t0, t1 = -1e30, 1e30  # within the endless cylinder
    if a > 1e-12:
        d = b * b - a * c
        if d <= 0.0:
            return low, high
        root = math.sqrt(d)
        t0, t1 = (-b - root) / a, (-b + root) / a
    elif c > 0.0:
        return low, high
    if abs(along_u) > 1e-12:  # and between the end planes
        e0, e1 = -along_q / along_u, (length - along_q) / along_u
        t0, t1 = max(t0, min(e0, e1)), min(t1, max(e0, e1))
    elif along_q < 0.0 or along_q > length:
        return low, high
    if t0 < t1:
        low, high = min(low, t0), max(high, t1)
    return low, high


@numba.njit(cache=True)
def _chains(out, cos, sin, axis, centre, capsules, chain_of, value):  # type: ignore[no-untyped-def]
    """Chains of capsules: each sub-ray's intervals are joined before their length counts."""
    rows, columns = out.shape
    total = capsules.shape[0]
    low, high = np.empty(64), np.empty(64)
    shade = np.empty((64, 4))  # where each capsule of the chain can fall on the detector
    near = np.empty(64, np.int64)
    first = 0
    while first < total:
        last = first
        while last < total and chain_of[last] == chain_of[first]:
            last += 1
        r = capsules[first, 6] + 1.0
        z0, z1, s0, s1 = 1e30, -1e30, 1e30, -1e30
        for k in range(first, last):
            n = k - first
            shade[n] = (1e30, -1e30, 1e30, -1e30)
            for end in range(2):
                z = capsules[k, 3 * end] - centre[0] + (rows - 1) / 2
                dy, dx = capsules[k, 3 * end + 1] - centre[1], capsules[k, 3 * end + 2] - centre[2]
                s = axis + dx * cos + dy * sin
                shade[n, 0], shade[n, 1] = min(shade[n, 0], z - r), max(shade[n, 1], z + r)
                shade[n, 2], shade[n, 3] = min(shade[n, 2], s - r), max(shade[n, 3], s + r)
                z0, z1, s0, s1 = min(z0, z), max(z1, z), min(s0, s), max(s1, s)
        for row in range(max(0, int(z0 - r)), min(rows, int(z1 + r) + 2)):
            for column in range(max(0, int(s0 - r)), min(columns, int(s1 + r) + 2)):
                touched = 0
                for n in range(last - first):
                    if shade[n, 0] <= row <= shade[n, 1] and shade[n, 2] <= column <= shade[n, 3]:
                        near[touched] = first + n
                        touched += 1
                if touched == 0:
                    continue
                inside = 0.0
                for i in range(SUB):
                    pz = centre[0] + row - (rows - 1) / 2 + (i + 0.5) / SUB - 0.5
                    for j in range(SUB):
                        s = column + (j + 0.5) / SUB - 0.5 - axis
                        py, px = centre[1] + s * sin, centre[2] + s * cos
                        count = 0
                        for n in range(touched):
                            k = near[n]
                            t0, t1 = _capsule(pz, py, px, cos, -sin, capsules[k])
                            if t0 < t1:  # insert, sorted by the start
                                at = count
                                while at > 0 and low[at - 1] > t0:
                                    low[at], high[at] = low[at - 1], high[at - 1]
                                    at -= 1
                                low[at], high[at] = t0, t1
                                count += 1
                        reach = -1e30
                        for n in range(count):
                            if high[n] > reach:
                                inside += high[n] - max(low[n], reach)
                                reach = high[n]
                out[row, column] += value[first] * inside / (SUB * SUB)
        first = last
