"""The whole way through profiles/slurm, on a Slurm of four nodes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cluster.conftest import QUICK, edited
from tests.cluster.onebox import OneBox
from tests.workflow.small import FEWER_JOBS, SMALL, contents, snakemake, write_config

ENDED_BADLY = ("FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


@pytest.mark.cluster
@pytest.mark.slow
def test_a_run_on_slurm_gives_the_same_bytes(slurm: OneBox, finished: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, FEWER_JOBS)
    profile = edited("slurm", tmp_path, slurm_partition="batch", scratch=str(tmp_path / "scratch"))
    earlier = slurm.jobs(",".join(["COMPLETED", *ENDED_BADLY]))  # of other tests' runs
    done = snakemake(tmp_path, config, *QUICK, profile=profile, env=slurm.environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    ran = {job: rule for job, rule in slurm.jobs("COMPLETED").items() if job not in earlier}
    rules = {re.sub(r"^rule_(\w+?)(_wildcards_.*)?$", r"\1", c) for c in ran.values()}
    assert {"recon", "train", "predict", "label_merge", "report"} <= rules
    assert not set(slurm.jobs(",".join(ENDED_BADLY))) - set(earlier)
    assert contents(tmp_path / "results") == contents(finished / "results")


def test_ranks_get_as_many_cores_as_the_job_asked_for(tmp_path: Path) -> None:
    config = write_config(tmp_path, SMALL)
    profile = edited("slurm", tmp_path, {"train: 1": "train: 3"})
    dry = snakemake(tmp_path, config, "-n", "-p", "--cores", "8", profile=profile)
    assert "srun --mpi=pmix -n 2 --cpus-per-task=3 tessera train" in dry.stdout, dry.stderr[-3000:]
    assert "srun --mpi=pmix -n 2 --cpus-per-task=1 tessera recon" in dry.stdout
