"""Objects in three dimensions: packed for the page's own viewer, and drawn once as a picture.

The packed form is one base64 text: for each vertex four uint16 (x, y, z within the box of the
scene, number of the object), then for each corner of a face a uint16 counted within its object.
"""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from tessera.report import picture
from tessera.report.results import Results

# Dark to light: a single hue ramp that stays apart in grey, for volumes from small to large.
RAMP = np.array(
    [[68, 74, 158], [52, 118, 178], [44, 158, 166], [96, 192, 132], [190, 214, 96], [250, 226, 110]]
)
_CAMERA = (0.5, -0.42)  # turn about the vertical and tilt, in radians
_POSTER = 900


@dataclass(frozen=True)
class Scene:
    """Surfaces of one class.

    Attributes:
        name: of the class.
        xyz: vertices in um, (v, 3), x y z.
        faces: corners counted within their object, (f, 3).
        vertex_start, face_start: where each object begins, (n + 1,).
        facts: per object its id, centroid (x, y, z um), volume (um^3) and diameter (um).
        total: number of objects there are, drawn or not.
    """

    name: str
    xyz: np.ndarray
    faces: np.ndarray
    vertex_start: np.ndarray
    face_start: np.ndarray
    facts: list[dict[str, Any]]
    total: int

    @property
    def colours(self) -> np.ndarray:
        """Colour of each object by the rank of its volume, (n, 3) uint8."""
        volumes = np.array([f["volume"] for f in self.facts])
        rank = np.argsort(np.argsort(volumes, kind="stable"), kind="stable")
        where = rank / max(len(volumes) - 1, 1) * (len(RAMP) - 1)
        return np.stack(
            [np.interp(where, range(len(RAMP)), RAMP[:, c]) for c in range(3)], 1
        ).astype(np.uint8)


def read_scene(results: Results, model: str, name: str) -> Scene | None:
    """Read the surfaces and the table of one class; None if there are no objects."""
    meshes = results.arrays("analyse", model, f"{name}_meshes.npz")
    table = results.root / "analyse" / model / f"{name}.csv"
    if not meshes or not table.is_file() or not len(meshes["id"]):
        return None
    with open(table, newline="") as file:
        rows = {int(r["id"]): r for r in csv.DictReader(file)}
    facts = [
        {
            "id": int(i),
            "at": [round(float(rows[int(i)][k]), 1) for k in ("x_um", "y_um", "z_um")],
            "volume": float(rows[int(i)]["volume_um3"]),
            "diameter": float(rows[int(i)]["equivalent_diameter_um"]),
        }
        for i in meshes["id"]
    ]
    return Scene(
        name,
        meshes["vertices_um"][:, ::-1].astype(np.float32),
        meshes["faces"].astype(np.int32),
        meshes["vertex_start"],
        meshes["face_start"],
        facts,
        len(rows),
    )


def embed(scene: Scene, box_um: np.ndarray, number: int) -> Markup:
    """Return the viewer: its data, a canvas, and a picture for where there is no WebGL.

    Args:
        scene: what to show.
        box_um: the volume's box as (start, stop) x (x, y, z), drawn as a wire frame.
        number: of the viewer on the page.
    """
    low, high = scene.xyz.min(0), scene.xyz.max(0)
    size = np.maximum(high - low, 1e-6)
    owner = np.repeat(np.arange(len(scene.facts)), np.diff(scene.vertex_start))
    packed = np.empty((len(scene.xyz), 4), "<u2")
    packed[:, :3] = np.rint((scene.xyz - low) / size * 65535)
    packed[:, 3] = owner
    head = {
        "name": scene.name,
        "low": low.tolist(),
        "size": size.tolist(),
        "box": box_um.tolist(),
        "vertexStart": scene.vertex_start.tolist(),
        "faceStart": scene.face_start.tolist(),
        "colours": scene.colours.tolist(),
        "objects": scene.facts,
        "camera": list(_CAMERA),
        "vertices": base64.b64encode(packed.tobytes()).decode(),
        "faces": base64.b64encode(scene.faces.astype("<u2").tobytes()).decode(),
    }
    drawn = picture.webp(poster(scene, box_um))
    return Markup(
        '<div class="scene" data-source="scene{n}"><img alt="{alt}" src="{drawn}">'
        '<canvas tabindex="0" aria-label="{alt}; drag to turn, scroll to come nearer"></canvas>'
        '<div class="tip" hidden></div></div>'
        '<script type="application/json" id="scene{n}">{data}</script>'
    ).format(
        n=number,
        drawn=drawn,
        alt=f"{len(scene.facts)} objects of class {scene.name} in three dimensions",
        data=Markup(json.dumps(head, separators=(",", ":")).replace("<", "\\u003c")),
    )


def poster(scene: Scene, box_um: np.ndarray) -> np.ndarray:
    """Draw the scene once, farthest triangle first, (y, x, 3) uint8."""
    from PIL import Image, ImageDraw

    middle, radius = box_um.mean(0), float(np.linalg.norm(box_um[1] - box_um[0])) / 2
    turned = _turn(scene.xyz - middle)
    corner = scene.faces + np.repeat(scene.vertex_start[:-1], np.diff(scene.face_start))[:, None]
    triangles = turned[corner]
    across = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    facing = across[:, 2] / np.maximum(np.linalg.norm(across, axis=1), 1e-9)
    owner = np.repeat(np.arange(len(scene.facts)), np.diff(scene.face_start))
    depth = triangles[:, :, 2].mean(1)
    fade = np.interp(depth, [-radius, radius], [0.55, 1.0])
    shade = (0.35 + 0.65 * np.abs(facing)) * fade
    colours = (scene.colours[owner] * shade[:, None]).astype(np.uint8)
    height = _POSTER * 10 // 16
    scale = 0.56 * _POSTER / (2 * radius) * 1.35
    flat = triangles[:, :, :2] * [scale, scale] + [_POSTER / 2, height / 2]
    image = Image.new("RGB", (_POSTER, height), (16, 21, 26))
    draw = ImageDraw.Draw(image)
    for n in np.argsort(depth, kind="stable"):
        draw.polygon([tuple(p) for p in flat[n]], fill=tuple(colours[n]))
    return np.asarray(image)


def _turn(xyz: np.ndarray) -> np.ndarray:
    """Into the camera's frame: x right, y down, z towards the viewer."""
    a, b = _CAMERA
    x = xyz[:, 0] * np.cos(a) + xyz[:, 2] * np.sin(a)
    z = -xyz[:, 0] * np.sin(a) + xyz[:, 2] * np.cos(a)
    y = xyz[:, 1] * np.cos(b) - z * np.sin(b)
    return np.stack([x, y, xyz[:, 1] * np.sin(b) + z * np.cos(b)], 1)
