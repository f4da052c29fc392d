"""Planned against measured, on a run whose times are made up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tessera.report.cost import Cost, costs
from tessera.report.planned import planned, table, waiting
from tessera.report.results import Results

HEAD = "s\tmax_rss\tio_in\tio_out\tcpu_time\n"


def job(root: Path, name: str, began: float, took: float, cpu: float = 0.0) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEAD}{took}\t500\t10\t20\t{cpu}\n")
    os.utime(path, (began + took, began + took))


@pytest.fixture
def run(tmp_path: Path) -> Results:
    """Two tiles: the second scan is long; predict waits 30 s and 60 s, on 2 cores of which one.

    simulate a 0-10, b 0-50; recon a 15-20, b 51-60; store has no benchmark; predict 90-100, 120-130
    """
    for tile, began, took in (("a", 0, 10), ("b", 0, 50)):
        job(tmp_path, f"simulate/benchmarks/{tile}.tsv", 1000 + began, took)
    for tile, began, took in (("a", 15, 5), ("b", 51, 9)):
        job(tmp_path, f"recon/benchmarks/{tile}.tsv", 1000 + began, took)
    for batch, began in ((0, 90), (1, 120)):
        job(tmp_path, f"predict/benchmarks/cells_{batch:04d}.tsv", 1000 + began, 10, 10)
    rule = {
        "rule": "predict", "jobs": 1, "cores": 2, "seconds": 12.0, "memory_mib": 400.0,
        "read_bytes": 5 << 20, "written_bytes": 7 << 20, "source": "calibration",
    }  # fmt: skip
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text(json.dumps({"rules": [rule, rule]}))
    return Results(tmp_path)


def test_several_models_of_a_rule_are_planned_together(run: Results) -> None:
    (plan,) = planned(run).values()
    assert (plan.jobs, plan.cores, plan.seconds, plan.peak_mib) == (2, 2, 24, 400)
    assert (plan.read_mb, plan.written_mb) == (10, 14)


def test_a_tile_waits_for_its_own_scan_and_a_batch_for_all(run: Results) -> None:
    waits = waiting(costs(run))
    assert waits["recon"] == pytest.approx((5 + 1) / 2)
    assert waits["predict"] == pytest.approx((30 + 60) / 2)
    assert "simulate_scan" not in waits


def test_times_that_tell_nothing_are_no_waiting() -> None:
    early = Cost("recon", spans={"a": (5.0, 6.0)})
    late = Cost("simulate_scan", spans={"a": (90.0, 99.0)})
    assert waiting([late, early]) == {"recon": 0.0}


def test_the_table(run: Results) -> None:
    found = table(run, costs(run))
    (row,) = found.rows
    assert [str(cell) for cell in row] == [
        "predict",
        "2",
        "24 s → <b>20 s</b>",
        "400 MiB → <b>500 MiB</b>",
        "10 MiB → <b>20 MiB</b>",
        "14 MiB → <b>40 MiB</b>",
        "45 s",
        "50%",  # 20 s of processor time, 2 cores held for 20 s
    ]


def test_without_a_plan_there_is_no_table(tmp_path: Path) -> None:
    job(tmp_path, "predict/benchmarks/cells_0000.tsv", 0, 1)
    assert not table(Results(tmp_path), costs(Results(tmp_path))).rows
