"""Training of each model, and what it finds on the part of the volume that it never saw."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from tessera.report import chart, picture
from tessera.report.page import Figure, Section, Table
from tessera.report.results import Results


def training(results: Results) -> Section:
    """Return the section on training; without models it has no parts."""
    out = Section("training", "Training")
    for name in results.models:
        facts = results.json("train", name, "model.json") or {}
        rows = results.lines("train", name, "curves.jsonl")
        out.add(_loss(name, rows))
        out.add(_validation(name, rows, facts))
        out.add(_filled(name, rows))
        out.add(_facts(name, facts, rows))
    if out.parts:
        seconds = sum(
            _last(results.lines("train", n, "curves.jsonl"), "seconds") for n in results.models
        )
        names = ", ".join(results.models)
        out.lead = f"Model {names}" + (f", trained in {_clock(seconds)}." if seconds else ".")
    return out


def _last(rows: list[dict[str, Any]], key: str) -> float:
    found = [float(r[key]) for r in rows if isinstance(r.get(key), int | float)]
    return found[-1] if found else 0.0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _loss(name: str, rows: list[dict[str, Any]]) -> Figure | None:
    points = [(r["step"], r["loss"]) for r in rows if "loss" in r and "step" in r]
    if len(points) < 2:
        return None
    steps, losses = zip(*points, strict=True)
    curves = [chart.Line("loss", steps, losses, "c0")]
    body = chart.lines(curves, f"Training loss of {name}", "step", "loss", from_zero=True)
    return Figure(body, f"{name}: loss on the training patches.", 2, "Loss")


def _validation(name: str, rows: list[dict[str, Any]], facts: dict[str, Any]) -> Figure | None:
    """Scores while training: one curve a class but the background."""
    classes = list(facts.get("classes", []))
    keys = sorted({k for r in rows for k in r if k.startswith("dice_")})
    named = [f"dice_{c}" for c in classes[1:] if f"dice_{c}" in keys] or keys
    curves = []
    for n, key in enumerate(named):
        points = [(r["step"], r[key]) for r in rows if key in r]
        if points:
            steps, values = zip(*points, strict=True)
            colour = f"c{n % 4}"
            curves.append(chart.Line(key.removeprefix("dice_"), steps, values, colour, True))
    if not curves:
        return None
    body = chart.lines(
        curves, f"Validation Dice of {name}", "step", "Dice", from_zero=True, top=1.0
    )
    only = f" ({curves[0].name})" if len(curves) == 1 else ""
    return Figure(
        body, f"{name}: Dice{only} on the validation boxes, averaged weights.", 2, "Validation"
    )


def _filled(name: str, rows: list[dict[str, Any]]) -> Figure | None:
    """While a flood-filling network is trained: how much of its objects it fills, and rightly."""
    words = {"precision": "precision", "recall": "recall", "validation_f1": "F1, validation"}
    curves = []
    for n, (key, text) in enumerate(words.items()):
        points = [(r["step"], r[key]) for r in rows if key in r]
        if len(points) > 1:
            steps, values = zip(*points, strict=True)
            curves.append(chart.Line(text, steps, values, f"c{n}"))
    if not curves:
        return None
    body = chart.lines(
        curves, f"Filled objects of {name}", "step", "share of voxels", from_zero=True, top=1.0
    )
    return Figure(body, f"{name}: filled objects of the training examples.", 2, "Filling")


def _facts(name: str, facts: dict[str, Any], rows: list[dict[str, Any]]) -> Table | None:
    if not facts:
        return None
    net, training_record = facts.get("net", {}), facts.get("training", {})
    cells = [
        ("Network", net.get("name")),
        ("Channels", ", ".join(map(str, net.get("channels", [])))),
        ("Classes", ", ".join(facts.get("classes", []))),
        ("Halo (voxels)", ", ".join(map(str, facts.get("halo_vox", [])))),
        ("Steps", rows[-1]["step"] if rows and "step" in rows[-1] else None),
        ("Ranks", training_record.get("ranks")),
        ("Samples a second", f"{_last(rows, 'samples_per_s'):.2f}" if rows else None),
    ]
    kept = [(k, v) for k, v in cells if v not in (None, "", [])]
    return Table([name, ""], [[k, v] for k, v in kept], span=2)


def unseen(results: Results) -> Section:
    """Return the section that lays truth and prediction over slices of the test box."""
    out = Section("unseen", "On the unseen region")
    for path in sorted(results.root.glob("evaluate/*_slices.npz")):
        model = path.name.removesuffix("_slices.npz")
        data = results.arrays("evaluate", path.name)
        if "image" not in data:
            continue
        if not out.parts:
            out.add(_legend(data))
        for n in range(len(data["image"])):
            out.add(_overlay(model, data, n, 2 if data["image"].shape[2] < 400 else 3))
    if out.parts:
        out.lead = (
            "Slices of the part of the volume that training never saw, with what is true and what "
            "was found drawn over them."
        )
    return out


def _layers(data: dict[str, np.ndarray], n: int) -> list[tuple[str, str, np.ndarray]]:
    """(CSS class, label, mask) of each outline on slice ``n``: objects first, then classes."""
    out = []
    marked = sorted({k.split(".")[0] for k in data if k.endswith(".found")})
    for name in marked:
        if f"{name}.true" in data:
            out.append(("true", f"true {name}", data[f"{name}.true"][n] == 1))
            out.append(("missed", f"missed {name}", data[f"{name}.true"][n] == 2))
        out.append(("found", f"found {name}", data[f"{name}.found"][n] == 1))
        out.append(("false", f"false {name}", data[f"{name}.found"][n] == 2))
    for index, name in enumerate(str(c) for c in data.get("classes", [])):
        if index and name not in marked:
            out.append(("true", f"true {name}", data["truth"][n] == index))
            if "predicted" in data:
                out.append(("found other", f"found {name}", data["predicted"][n] == index))
        elif index and f"{name}.true" not in data:
            out.append(("true", f"true {name}", data["truth"][n] == index))
    return out


def _overlay(model: str, data: dict[str, np.ndarray], n: int, span: int) -> Figure:
    drawn = Markup("")
    for kind, label, mask in _layers(data, n):
        if mask.any():
            drawn += Markup("<g><title>{}</title>{}</g>").format(
                label, picture.outlines(mask, kind)
            )
    z = int(data["start"][n][0])
    pixels, pixel_um = data["image"][n], float(data["voxel_um"][2])
    body = picture.image(
        pixels,
        f"Slice z = {z} with outlines of truth and prediction",
        pixel_um,
        drawn,
    )
    return Figure(body, f"{model}, z = {z}.", span)


def _legend(data: dict[str, np.ndarray]) -> Markup:
    marked = sorted({k.split(".")[0] for k in data if k.endswith(".found")})
    others = [str(c) for c in data.get("classes", [])[1:] if str(c) not in marked]
    names = " and ".join(marked) or "objects"
    keys = [("true", "truth"), ("found", f"{names} found")]
    keys += [("other", f"{', '.join(others)} found")] if others and "predicted" in data else []
    keys += [("missed", "missed"), ("false", "false alarm")] if marked else []
    return Markup('<div class="legend toggles">{}</div>').format(
        Markup("").join(
            Markup(
                '<label class="key {k}"><input type="checkbox" checked data-layer="{k}">{t}</label>'
            ).format(k=k, t=text)
            for k, text in keys
        )
    )
