"""Estimates, limits, profiles and rates on numbers small enough to be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tessera.errors import TesseraError
from tessera.plan.estimate import Placement, elapsed, estimate
from tessera.plan.limits import Limits, findings, with_disk
from tessera.plan.profile import Profile, read_profile
from tessera.plan.rates import PLAN, Rate, jobs_of, measured, read_works
from tessera.plan.work import MIB, Work

RATE = Rate(seconds=2.0, start=10.0, base=100.0 * MIB)
# Two jobs of 5 and 4 of nine blocks; 90 units: each block is 10 of them, 20 s.
WORK = Work("predict", 2, 9, 90.0, "GFLOP", "cells", held=50.0 * MIB, batches="predict.batches")


def test_one_core() -> None:
    found = estimate(WORK, RATE)
    assert found.job_seconds == 10 + 5 * 20
    assert found.seconds == 2 * 10 + 9 * 20
    assert found.memory == 150 * MIB
    assert found.core_hours == 200 / 3600


def test_ranks_share_the_work_and_each_holds_its_own() -> None:
    found = estimate(WORK, RATE, Placement(tasks=4, threads=1))
    assert found.job_seconds == 10 + 5 * 20 / 4
    assert found.memory == 600 * MIB
    assert found.core_hours == 4 * (20 + 180 / 4) / 3600


def test_more_ranks_train_no_faster() -> None:
    train = Work("train", 1, 100, 900.0, "GFLOP", "cells", largest=100, tasks=2)
    assert estimate(train, RATE, Placement(tasks=8)).seconds == estimate(train, RATE).seconds


def test_a_gpu_is_worth_cores_for_networks_alone() -> None:
    torch = Work("predict", 1, 1, 90.0, "GFLOP", start="torch")
    found = estimate(torch, RATE, Placement(gpus=1), gpu_speed=90)
    assert found.seconds == 10 + 2
    assert found.gpu_hours == 12 / 3600
    assert estimate(WORK, RATE, Placement(gpus=1), gpu_speed=90).gpus == 0


def test_jobs_beside_each_other() -> None:
    found = [estimate(WORK, RATE)]
    assert elapsed(found, 2) == 110
    assert elapsed(found, 1) == 100 + 110  # one of the mean, one of the longest


def test_what_limits_make_of_it() -> None:
    found = [estimate(WORK, RATE)]  # a job of 110 s and 150 MiB
    assert findings(found, Limits(seconds=170, memory=200 * MIB)) == []
    (late,) = findings(found, Limits(seconds=100))
    assert "set predict.batches to 4" in late  # 2 * 110 * 1.5 / 100 = 3.3
    (large,) = findings(found, Limits(memory=100 * MIB))
    assert "150 MiB" in large and "100 MiB" in large
    writes = estimate(Work("label", 1, 1, 1.0, "Mvoxel", written=2e9, files=50), RATE)
    room, files = findings([writes], Limits(room=1e9, files=49))
    assert room.startswith("room: 1.9 GiB") and files.startswith("files: 50")


def test_what_the_profile_asks_comes_before_the_limit() -> None:
    found = [estimate(WORK, RATE, Placement(seconds=3600, memory=1024 * MIB))]
    assert findings(found, Limits(seconds=1, memory=1)) == []


def test_the_disk_is_the_limit_where_none_is_given(tmp_path: Path) -> None:
    found = with_disk(Limits(), tmp_path / "not" / "there")
    assert found.room is not None and found.room > 0
    assert with_disk(Limits(room=5, files=6), tmp_path) == Limits(room=5, files=6)


def test_profile() -> None:
    profile = Profile(
        {
            "default-resources": ["runtime=30 * attempt", "mem_mb=2000", "slurm_account=x"],
            "set-threads": {"recon": 8},
            "set-resources": {
                "recon": {"tasks": 2, "mem_mb": "3000 * attempt", "runtime": "2h"},
                "train": {"tasks": 4, "gpus_per_task": 1, "mem": "4GB"},
                "predict": {"mem_mb": "lambda w, input: input.size_mb"},
            },
        }
    )
    assert profile.of("recon") == Placement(2, 8, 0, 3e9, 7200)
    assert profile.of("train") == Placement(4, None, 4, 4e9, 1800)
    assert profile.of("predict") == Placement(None, None, 0, None, 1800)
    # A rule that is not named: memory of the default is not what its own says.
    assert profile.of("label_local") == Placement(seconds=1800)


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_our_own_profiles_are_understood(name: str) -> None:
    profile = read_profile(Path(__file__).resolve().parents[2] / "profiles" / name)
    asked = profile.of("train")
    if name == "slurm":
        assert asked.tasks and asked.memory and asked.seconds


def test_no_profile(tmp_path: Path) -> None:
    with pytest.raises(TesseraError, match="no profile here"):
        read_profile(tmp_path)


def benchmark(root: Path, name: str, seconds: str, mib: float) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{mib}\n")


def test_rates_of_an_earlier_run(tmp_path: Path) -> None:
    benchmark(tmp_path, "predict/benchmarks/cells_0000.tsv", "110", 150)
    benchmark(tmp_path, "predict/benchmarks/cells_0001.tsv", "90", 140)
    benchmark(tmp_path, "predict/benchmarks/cells_finish.tsv", "7", 10)
    starts = {"arrays": (10.0, 100.0 * MIB)}
    rates = measured([(tmp_path, [WORK])], starts)
    rate = rates["predict cells"]
    assert rate == rates["predict"]
    assert rate.seconds == 2.0 and rate.source == tmp_path.name
    again = estimate(WORK, rate)
    assert again.seconds == 200
    assert again.memory == 150 * MIB


def test_a_run_that_is_half_done_counts_for_half(tmp_path: Path) -> None:
    benchmark(tmp_path, "predict/benchmarks/cells_0000.tsv", "100", 150)
    rate = measured([(tmp_path, [WORK])], {"arrays": (10.0, 0.0)})["predict"]
    assert rate.seconds == 2.0


def test_benchmarks_belong_to_rules(tmp_path: Path) -> None:
    for name in (
        "recon/benchmarks/tile_1.tsv",
        "simulate/benchmarks/truth.tsv",
        "simulate/benchmarks/tile_1.tsv",
        "label/benchmarks/cells_soma_local_0000.tsv",
        "label/benchmarks/cells_soma_merge.tsv",
        "label/benchmarks/cells_vessel_local_0000.tsv",
        "train/benchmarks/cells.tsv",
        "evaluate/benchmarks/evaluate.tsv",
        "label/benchmarks/cells_soma_match_0000.tsv",
        "label/benchmarks/cells_soma_assemble_merge.tsv",
        "predict/benchmarks/cells_0000.tsv",
        "predict/benchmarks/cells_refill_0000.tsv",
        "train/benchmarks/cells_volume_0.tsv",
        "train/benchmarks/cells_volume_11.tsv",
    ):
        benchmark(tmp_path, name, "NA" if "merge" in name else "1", 1)
    for rule, of, count in (
        ("recon", "", 1),
        ("simulate_scan", "", 1),
        ("simulate_truth", "", 1),
        ("label_local", "cells/soma", 1),
        ("label_merge", "cells/soma", 1),
        ("label_merge", "cells/vessel", 0),
        ("train", "cells", 1),
        ("train", "other", 0),
        ("evaluate", "", 1),
        ("assemble_match", "cells/soma", 1),
        ("assemble_merge", "cells/soma", 1),
        ("predict", "cells", 1),
        ("refill", "cells", 1),
        ("train_import", "cells", 2),
    ):
        assert len(jobs_of(tmp_path, Work(rule, 1, 1, 1.0, "Mvoxel", of))) == count, rule
    assert jobs_of(tmp_path, Work("label_merge", 1, 1, 1.0, "Mvoxel", "cells/soma"))[0].seconds == 0


def test_a_run_without_a_plan(tmp_path: Path) -> None:
    with pytest.raises(TesseraError, match="there is no plan of that run"):
        read_works(tmp_path)
    (tmp_path / PLAN).parent.mkdir()
    (tmp_path / PLAN).write_text(json.dumps({"rules": [{"work": {"nonsense": 1}}]}))
    with pytest.raises(TesseraError, match="not a plan of this version"):
        read_works(tmp_path)
