"""The report's page on agglomeration: drawn where it was scored, and nowhere else."""

import json

from tessera.report import agglomeration, scores
from tessera.report.page import Figure, Table
from tessera.report.results import Results

KINDS = ("voi_split_both", "voi_merge_both", "voi_sum_both", "voi_sum_whole", "rand_error_both")


def score(value):
    return {"value": value, "low": None, "high": None, "unit": "bit", "n": 9, "of": "objects"}


def test_curve_is_drawn_with_the_threshold_that_was_taken(tmp_path):
    found = {f"neuron.{k}": score(0.9) for k in KINDS}
    found |= {f"neuron.fragments.{k}": score(1.5) for k in KINDS}
    for at in (0.25, 0.5, 0.75):
        found |= {f"neuron.curve.{at:.2f}.{k}": score(abs(at - 0.5) + 0.8) for k in KINDS}
    label = tmp_path / "label/neurons/neuron"
    (tmp_path / "evaluate").mkdir()
    label.mkdir(parents=True)
    (tmp_path / "evaluate/metrics.json").write_text(json.dumps(found))
    (label / "labels.json").write_text("{}")
    (label / "store.json").write_text(json.dumps({"recovered": 0.6}))
    section = agglomeration.section(Results(tmp_path))
    figure, table = section.parts
    assert isinstance(figure, Figure) and "taken" in figure.body and "merge" in figure.body
    assert isinstance(table, Table)
    assert table.rows[0][1:] == ["1.500", "0.900", "0.800 at 0.50"]
    listed = str(scores.section(Results(tmp_path)).parts)
    assert "curve" not in listed and "0.900" in listed


def test_nothing_without_a_curve(tmp_path):
    assert not agglomeration.section(Results(tmp_path)).parts
