"""profiles/pbs: requests, answers, and the whole way through a stand-in that is strict."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.pbs import pbs
from tests.cluster import standin
from tests.cluster.conftest import PBS_QUICK, edited
from tests.cluster.onebox import OneBox
from tests.workflow.small import FEWER_JOBS, REPO, SMALL, contents, snakemake, write_config

SCRIPTS = REPO / "profiles/pbs"


def job(threads: int = 1, **resources: Any) -> dict[str, Any]:
    asked = {"mem_mb": 4000, "runtime": 60, "tasks": 1, "pbs_account": "tomo"} | resources
    return {
        "rule": "predict",
        "jobid": 7,
        "threads": threads,
        "wildcards": {"model": "somas", "batch": "0003"},
        "resources": asked,
    }


def options(**kinds: Any) -> str:
    return " ".join(pbs.request(job(**kinds)))


# --- requests ---------------------------------------------------------------------------------


def test_a_request_as_the_polaris_guide_writes_it() -> None:
    # qsub -A tomo -q debug -l select=2:... -l walltime= -l filesystems=home:eagle -l place=scatter
    said = options(
        threads=8,
        tasks=8,
        nodes=2,
        gpu=8,
        mem_mb=480000,
        runtime=90,
        pbs_queue="debug",
        pbs_filesystems="home:eagle",
        pbs_place="scatter",
        pbs_chunk="system=polaris",
    )
    assert said == (
        "-N predict -j oe -V -A tomo -q debug "
        "-l select=2:ncpus=32:mpiprocs=4:ompthreads=8:mem=480000mb:ngpus=4:system=polaris "
        "-l walltime=01:30:00 -l place=scatter -l filesystems=home:eagle"
    )


def test_torque_wants_nodes_and_the_memory_of_the_whole_job() -> None:
    said = options(threads=2, tasks=4, nodes=2, gpu=2, pbs_dialect="torque")
    assert said.endswith("-l nodes=2:ppn=4:gpus=1,mem=8000mb,walltime=01:00:00")
    assert "select" not in said


def test_what_is_not_given_is_left_to_the_site() -> None:
    said = pbs.request(job(pbs_account="", pbs_queue="", pbs_place="", pbs_filesystems=""))
    assert "-A" not in said and "-q" not in said and not any("place" in word for word in said)


@pytest.mark.parametrize("wrong", [{"tasks": 3}, {"tasks": 2, "gpu": 1}])
def test_ranks_that_do_not_divide_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(pbs.BadRequest, match="evenly over nodes=2"):
        pbs.request(job(nodes=2, **wrong))


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(pbs.BadRequest, match="torque"):
        pbs.request(job(pbs_dialect="sge"))


@given(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 6000))
def test_every_request_is_one_that_a_strict_server_takes(
    nodes: int, ranks: int, threads: int, minutes: int
) -> None:
    asked = pbs.request(job(threads=threads, nodes=nodes, tasks=ranks * nodes, runtime=minutes))
    found = standin.parse([*asked, "-o", "/dev/null", __file__])
    assert found["cores"] == nodes * ranks * threads
    assert found["seconds"] == minutes * 60


@pytest.mark.parametrize(
    ("minutes", "text"), [(1, "00:01:00"), (90, "01:30:00"), (6000, "100:00:00"), (0.5, "00:01:00")]
)
def test_walltimes(minutes: float, text: str) -> None:
    assert pbs.walltime(minutes) == text


@given(st.text(min_size=1, max_size=40))
def test_names_are_such_as_every_pbs_takes(rule: str) -> None:
    name = pbs.job_name(rule)
    assert len(name) <= 15 and name[0].isascii() and name[0].isalpha()
    assert all(c.isascii() and (c.isalnum() or c == "_") for c in name)


def test_a_log_is_found_by_rule_and_wildcards() -> None:
    assert pbs.log_name(job()) == "predict/somas_0003.log"


# --- what the stand-in refuses ----------------------------------------------------------------

GOOD = "select=1:ncpus=2:mpiprocs=2:ompthreads=1:mem=4000mb"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (["-l", "nodes=1:ppn=2"], "Resource_List.select"),
        (["-l", GOOD.replace("mb", "")], "Resource_List.select"),
        (["-l", GOOD.replace("ncpus=2", "ncpus=1")], "more ranks"),
        (["-l", GOOD.replace("select=1", "select=9")], "Resource_List.select"),
        (["-l", GOOD + ":cores=3"], "Unknown resource"),
        (["-l", GOOD, "-l", "walltime=60"], "walltime"),
        (["-l", GOOD, "-l", "walltime=00:10:00", "-l", "place=wide"], "place"),
        (["-l", GOOD, "-l", "walltime=00:10:00", "--wrap"], "invalid option"),
    ],
)
def test_malformed_requests_are_refused(request_: list[str], said: str) -> None:
    with pytest.raises(standin.Refused, match=said):
        standin.parse(["-A", "tomo", *request_, __file__])


# --- answers ----------------------------------------------------------------------------------


def answer(**attributes: Any) -> str:
    return json.dumps({"pbs_version": "2022.1", "Jobs": {"1234.pbs-1": attributes}})


@pytest.mark.parametrize("state", "QHWTRESBU")
def test_a_job_that_is_not_over_is_running(state: str) -> None:
    assert pbs.state(pbs.facts(answer(job_state=state), "1234.pbs-1"), None) == "running"


@pytest.mark.parametrize(("status", "verdict"), [(0, "success"), (1, "failed"), (271, "failed")])
def test_a_finished_job_is_judged_by_its_exit_status(status: int, verdict: str) -> None:
    found = pbs.facts(answer(job_state="F", Exit_status=status), "1234")
    assert pbs.state(found, None) == verdict


def test_a_job_deleted_before_it_began_failed() -> None:
    assert pbs.state(pbs.facts(answer(job_state="F"), "1234.pbs-1"), None) == "failed"


def test_a_forgotten_job_is_judged_by_what_it_left() -> None:
    assert [pbs.state({}, mark) for mark in ("0\n", "1\n", None)] == ["success", "failed", "failed"]


def test_json_that_is_none_is_read_all_the_same() -> None:
    broken = answer(job_state="F", Exit_status=0).replace("{", '{"BUILD": 007, ', 1)
    with pytest.raises(ValueError):
        json.loads(broken)
    assert pbs.state(pbs.facts(broken, "1234"), None) == "success"


def test_torque_answers_in_lines() -> None:
    said = "Job Id: 77.head\n    Job_Name = predict\n    job_state = C\n    exit_status = 0\n"
    assert pbs.facts(said, "77.head") == {"job_state": "C", "exit_status": "0"}


# --- the scripts, against the stand-in --------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> dict[str, str]:
    return standin.install(tmp_path / "pbs")


def call(script: str, *words: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *words],
        env=env,
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def submit(commands: str, tmp_path: Path, env: dict[str, str], **resources: Any) -> str:
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\n# properties = {json.dumps(job(**resources))}\n{commands}\n")
    return call("submit.py", str(script), env=env, cwd=tmp_path)


def ended(job_id: str, tmp_path: Path, env: dict[str, str]) -> str:
    for _ in range(100):
        said = call("status.py", job_id, env=env, cwd=tmp_path)
        if said != "running":
            return said
        time.sleep(0.2)
    return "running"


def test_jobs_end_as_they_end(server: dict[str, str], tmp_path: Path) -> None:
    good = submit("echo did it", tmp_path, server)
    bad = submit("exit 3", tmp_path, server)
    assert (ended(good, tmp_path, server), ended(bad, tmp_path, server)) == ("success", "failed")
    log = tmp_path / "results/pbs-logs/predict/somas_0003.log"
    assert log.exists()
    state = json.loads((tmp_path / "pbs/jobs/2.json").read_text())
    assert state["Exit_status"] == 3


def test_a_cancelled_job_has_failed(server: dict[str, str], tmp_path: Path) -> None:
    running = submit("sleep 60", tmp_path, server)
    call("cancel.py", running, env=server, cwd=tmp_path)
    assert ended(running, tmp_path, server) == "failed"


def test_a_silent_server_means_running(server: dict[str, str], tmp_path: Path) -> None:
    over = submit("exit 1", tmp_path, server)
    assert ended(over, tmp_path, server) == "failed"
    (tmp_path / "pbs/down").touch()
    assert call("status.py", over, env=server, cwd=tmp_path) == "running"
    (tmp_path / "pbs/down").unlink()
    assert call("status.py", over, env=server, cwd=tmp_path) == "failed"


def test_a_server_without_history_is_made_up_for(server: dict[str, str], tmp_path: Path) -> None:
    good, bad = (submit(f"exit {n}", tmp_path, server) for n in (0, 1))
    for one in (good, bad):
        ended(one, tmp_path, server)
        (tmp_path / f"pbs/jobs/{pbs.number(one)}.json").unlink()
    said = [call("status.py", one, env=server, cwd=tmp_path) for one in (good, bad)]
    assert said == ["success", "failed"]


def test_a_refused_request_is_said_with_its_reason(server: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="No active allocation"):
        submit("true", tmp_path, server, pbs_account="")


# --- the whole way ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_on_pbs_gives_the_same_bytes(
    server: dict[str, str], finished: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, FEWER_JOBS)
    # A site whose batch shells know no `module` yet, and whose module reads what is not set.
    loaded, scratch = tmp_path / "loaded", tmp_path / "scratch"
    (tmp_path / "modules/init").mkdir(parents=True)
    says = f'module() {{ echo "$*$NEVER_SET" >> {loaded}; }}\n'
    (tmp_path / "modules/init/bash").write_text(says)
    env = server | {"MODULESHOME": str(tmp_path / "modules")}
    profile = edited(
        *("pbs", tmp_path),
        pbs_account="tomo",
        pbs_queue="workq",
        pbs_place="pack",
        modules="gcc openmpi/5",
        scratch=str(scratch),
    )
    done = snakemake(tmp_path, config, *PBS_QUICK, profile=profile, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert set(loaded.read_text().splitlines()) == {"load gcc openmpi/5"} and scratch.is_dir()
    assert contents(tmp_path / "results") == contents(finished / "results")


@pytest.mark.cluster
@pytest.mark.slow
def test_the_torque_dialect_on_a_real_scheduler(
    slurm: OneBox, finished: Path, tmp_path: Path
) -> None:
    # slurm-wlm-torque: qsub, qstat and qdel in torque's manner, on Slurm
    config = write_config(tmp_path, SMALL)
    goal = "results/small/mosaic/positions.json"
    launcher = {'"mpiexec"': '"srun --mpi=pmix"'}
    profile = edited("pbs", tmp_path, launcher, pbs_dialect="torque", pbs_queue="batch")
    done = snakemake(
        tmp_path, config, *PBS_QUICK, "--", goal, profile=profile, env=slurm.environment
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    theirs = contents(finished / "results/small/recon")
    assert theirs and contents(tmp_path / "results/small/recon") == theirs
