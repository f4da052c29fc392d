"""Scores in words, with their intervals."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from tessera.report import chart
from tessera.report.page import Section, Table
from tessera.report.results import Results

_WORDS = {
    "dice": "Dice, voxel by voxel",
    "iou": "Intersection over union",
    "precision": "Detection precision",
    "recall": "Detection recall",
    "f1": "Detection F1",
    "count_error": "Error of the count",
    "count_true": "True objects",
    "count_found": "Objects found",
    "centroid_rms": "Distance of matched centroids (RMS)",
    "match_distance": "Match distance of centroids",
    "seam_score": "Seam score (1: no block shows)",
    "coverage": "Coverage of the true foreground",
    "voi_split_both": "Variation of information, split",
    "voi_merge_both": "Variation of information, merge",
    "voi_sum_both": "Variation of information, sum",
    "rand_error_both": "Adapted Rand error",
    "rand_precision_both": "… precision of pairs",
    "rand_recall_both": "… recall of pairs",
    "voi_split_whole": "Variation of information with background, split",
    "voi_merge_whole": "Variation of information with background, merge",
    "voi_sum_whole": "Variation of information with background, sum",
    "rand_error_whole": "Adapted Rand error with background",
    "rand_precision_whole": "… precision of pairs",
    "rand_recall_whole": "… recall of pairs",
    "edges_correct": "Length of neurites that is right",
    "edges_omitted": "… not filled",
    "edges_merged": "… in an object of several neurites",
    "edges_split": "… where a neurite is cut",
    "erl_um": "Expected run length",
    "erl_most_um": "… of a perfect result",
    "tiles.position_rms": "Tile positions, error (RMS)",
    "tiles.position_max": "Tile positions, largest error",
    "tiles.stage_rms": "Stage positions, error (RMS)",
    "tiles.axis_rms": "Rotation axes, error (RMS)",
    "tiles.axis_max": "Rotation axes, largest error",
    "recon.rmse": "Attenuation against truth, error (RMS)",
    "recon.rmse_relative": "… relative to the truth's spread",
    "recon.correlation": "Attenuation against truth, correlation",
    "recon.bias": "Attenuation against truth, mean bias",
}
_GROUPS = {"tiles": "Tiles", "recon": "Reconstruction", "predict": "Inference"}
_WHOLE = ("count_true", "count_found")


def words(name: str) -> str:
    """Return what a score's name means."""
    return _WORDS.get(name) or _WORDS.get(name.rsplit(".", 1)[-1]) or name.replace("_", " ")


def text(score: dict[str, Any]) -> str:
    """Return a score's value as people write it, without its unit."""
    value = score["value"]
    if value is None:
        return "–"
    if score["unit"] == "objects":
        return f"{value:.0f}"
    if score["unit"] == "%":
        return f"{value:+.1f}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def unit(score: dict[str, Any]) -> str:
    """Return a score's unit as people write it."""
    return {"1": "", "vox": "voxel", "um": "µm", "objects": ""}.get(score["unit"], score["unit"])


def span_text(score: dict[str, Any]) -> str:
    """Return the 95 % interval, or nothing."""
    if score.get("low") is None or score.get("high") is None:
        return ""
    ends = [text(score | {"value": score[end]}) for end in ("low", "high")]
    return f"{ends[0]} – {ends[1]}"


def section(results: Results) -> Section:
    """Return the table of scores; without any it has no parts."""
    out = Section("scores", "Scores")
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, score in results.metrics.items():
        if ".curve." in name:  # drawn, not listed
            continue
        groups.setdefault(name.rpartition(".")[0] or "all", []).append((name, score))
    for group, found in groups.items():
        out.add(
            Table(
                [_GROUPS.get(group, group.capitalize()), "Value", "", "95 % interval", "from"],
                [_row(name, score) for name, score in found],
                numeric=1,
            )
        )
    if out.parts:
        out.lead = (
            "Models are scored on test boxes that training never saw. Intervals come from "
            "resampling blocks (voxel scores), objects (detection) or tiles."
        )
    return out


def _row(name: str, score: dict[str, Any]) -> list[Any]:
    drawn = Markup("")
    if score["unit"] == "1" and score["value"] is not None and 0 <= score["value"] <= 1:
        drawn = chart.interval(score["value"], score["low"], score["high"], (0.0, 1.0))
    of = f"{score['n']} {score['of']}" if score.get("of") and not name.endswith(_WHOLE) else ""
    value = Markup("<b>{}</b> {}").format(text(score), unit(score))
    label = Markup('<span title="{}">{}</span>').format(name, words(name))
    return [label, value, drawn, span_text(score), of]
