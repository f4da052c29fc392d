"""Scenes for other viewers: a neuroglancer state, and how to open the volumes in napari or Fiji.

A browser reads the volumes over HTTP. ``serve.py``-like commands differ from site to site; what is
needed is any file server over the results folder that allows other origins (CORS).
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from tessera.report.results import Results

_SERVER = "http://127.0.0.1:9000"
_SHADER = "#uicontrol invlerp normalized\nvoid main() { emitGrayscale(normalized()); }\n"


def volumes(results: Results) -> list[tuple[str, str, str]]:
    """Return (name, kind, path below the results folder) of each volume that is there."""
    wanted = [("volume", "image", "mosaic/volume.zarr")]
    wanted += [
        (f"{name} ({model})", "segmentation", f"label/{model}/{name}/labels.zarr")
        for model, name in results.classes
    ]
    wanted += [
        ("true classes", "segmentation", "simulate/truth.zarr"),
        ("true somas", "segmentation", "simulate/soma_ids.zarr"),
    ]
    return [w for w in wanted if (results.root / w[2] / "zarr.json").is_file()]


def neuroglancer_state(results: Results) -> dict[str, Any] | None:
    """Return a neuroglancer state that shows every volume; None if there is none.

    Sources are below ``_SERVER``, where the results folder is to be served.
    """
    found = volumes(results)
    if not found:
        return None
    first = results.volume(*found[0][2].split("/"))
    assert first is not None
    middle = [n // 2 for n in first.shape]
    layers = []
    for name, kind, path in found:
        layer: dict[str, Any] = {
            "name": name,
            "type": kind,
            "source": f"{_SERVER}/{path}/|zarr3:",
            "visible": not name.startswith("true"),
        }
        if kind == "image":
            layer |= {"shader": _SHADER, "shaderControls": {"normalized": _range(results)}}
        layers.append(layer)
    return {
        "dimensions": {
            axis: [size * 1e-6, "m"] for axis, size in zip("zyx", first.voxel_um, strict=True)
        },
        "position": [
            n + o / v for n, o, v in zip(middle, first.origin_um, first.voxel_um, strict=True)
        ],
        "layers": layers,
        "layout": "4panel",
        "showSlices": True,
    }


def _range(results: Results) -> dict[str, Any]:
    known = (results.fused or {}).get("statistics", {})
    return {"range": [known["p01"], known["p99"]]} if "p01" in known else {}


def hints(results: Results) -> Markup:
    """Return how to open the volumes elsewhere, as HTML; empty without volumes."""
    found = volumes(results)
    if not found:
        return Markup("")
    paths = " ".join(path for _, _, path in found[:2])
    return Markup(
        '<div class="hints"><h3>Open the volumes elsewhere</h3><dl>'
        "<dt>napari</dt><dd>In the results folder: "
        "<code>napari --plugin napari-ome-zarr {paths}</code></dd>"
        "<dt>Fiji</dt><dd>Plugins › BigDataViewer › HDF5/N5/Zarr/OME-NGFF Viewer, then choose "
        "<code>{first}</code>. With <code>mosaic.tiff: true</code> in the config there is a plain "
        "TIFF stack as well.</dd>"
        "<dt>neuroglancer</dt><dd>Serve the results folder at {server} with any file server that "
        "allows other origins, for instance <code>npx http-server -p 9000 --cors</code>; open "
        "neuroglancer, press <kbd>{{}}</kbd> and paste <code>report/viewer.json</code>.</dd>"
        "</dl></div>"
    ).format(paths=paths, first=found[0][2], server=_SERVER)
