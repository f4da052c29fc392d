"""What agglomeration gains and costs at each threshold of what fragments recover of each other."""

from __future__ import annotations

from typing import Any

from tessera.report import chart
from tessera.report.page import Figure, Section, Table
from tessera.report.results import Results

_SCORES = {
    "voi_split_both": "split",
    "voi_merge_both": "merge",
    "voi_sum_both": "sum",
}
_ROWS = {
    "voi_sum_both": "Variation of information, sum (bit)",
    "voi_sum_whole": "… with background as a label (bit)",
    "rand_error_both": "Adapted Rand error",
}


def section(results: Results) -> Section:
    """Return the curves of each class that was agglomerated; without any it has no parts."""
    out = Section("agglomeration", "Agglomeration")
    for name, curve in _curves(results.metrics).items():
        model = next((m for m, c in results.classes if name in (c, f"{m}.{c}")), "")
        store = results.json("label", model, name.rpartition(".")[2], "store.json") or {}
        chosen = store.get("recovered")
        marks = [] if chosen is None else [(float(chosen), "taken")]
        lines = [
            chart.Line(text, list(curve), [one[kind] for one in curve.values()], f"c{n}", n == 2)
            for n, (kind, text) in enumerate(_SCORES.items())
        ]
        title = "share that two fragments recover of each other"
        body = chart.lines(
            lines, f"Scores of {name} over thresholds", title, "bit", marks, from_zero=True
        )
        out.add(Figure(body, f"{name}: fragments are joined from this share on.", 3, "Threshold"))
        out.add(_table(name, results.metrics, curve))
    if out.parts:
        out.lead = (
            "Fragments in contact are filled again from each other. The lower the share that they "
            "must recover, the more are joined: splits turn into merges. The threshold was not "
            "chosen by these scores."
        )
    return out


def _curves(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[float, dict[str, Any]]]:
    """Class -> threshold -> score -> value."""
    out: dict[str, dict[float, dict[str, Any]]] = {}
    for name, score in metrics.items():
        head, found, tail = name.partition(".curve.")
        if found:
            at, _, kind = tail.rpartition(".")
            value = float("nan") if score["value"] is None else score["value"]
            out.setdefault(head, {}).setdefault(float(at), {})[kind] = value
    return out


def _table(
    name: str, metrics: dict[str, dict[str, Any]], curve: dict[float, dict[str, Any]]
) -> Table:
    rows = []
    for kind, text in _ROWS.items():
        values = [metrics.get(f"{name}.{step}{kind}", {}) for step in ("fragments.", "")]
        best = min(curve, key=lambda at: curve[at][kind])
        said = ["–" if v.get("value") is None else f"{v['value']:.3f}" for v in values]
        rows.append([text, *said, f"{curve[best][kind]:.3f} at {best:.2f}"])
    head = [name, "Fragments", "Agglomerated", "Best on the curve"]
    return Table(head, rows, span=3)
