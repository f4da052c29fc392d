"""The whole way: what a run leaves, what a rerun does again, what a kill costs."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .small import REPO, SMALL, command, contents, environment, snakemake, write_config


def jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from the table that a dry run prints."""
    table = output.split("Job stats:")[1].split("\n\n")[0]
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+)\s+(\d+)$", table, re.M)}


def changed(base: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    settings = copy.deepcopy(base)
    for name, values in sections.items():
        settings.setdefault(name, {}).update(values)
    return settings


def test_run_leaves_a_report_and_scores(finished: Path) -> None:
    results = finished / "results/small"
    page = (results / "report/index.html").read_text()
    assert page.startswith("<!") and not re.search(r'(?:src|href)="https?://', page)
    metrics = json.loads((results / "evaluate/metrics.json").read_text())
    assert {"soma.dice", "soma.f1"} <= set(metrics)


def test_nothing_is_done_twice(finished: Path) -> None:
    again = snakemake(finished, finished / "mine.yaml", "-n")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.parametrize(
    ("section", "value", "rerun", "kept"),
    [
        ("evaluate", {"bootstrap": 60}, {"evaluate", "report"}, {"train", "recon", "predict"}),
        ("report", {"title": "Another"}, {"report"}, {"evaluate", "train"}),
        ("label", {"min_voxels": 20}, {"label_store", "evaluate"}, {"predict", "train", "recon"}),
        ("recon", {"filter": "hann"}, {"recon", "train", "report"}, {"simulate_scan"}),
    ],
)
def test_a_changed_setting_reruns_its_stage_and_what_follows(
    finished: Path,
    section: str,
    value: dict[str, Any],
    rerun: set[str],
    kept: set[str],
) -> None:
    config = write_config(finished, changed(SMALL, **{section: value}), f"{section}.yaml")
    dry = snakemake(finished, config, "-n")
    assert dry.returncode == 0, dry.stderr
    planned = set(jobs(dry.stdout))
    assert rerun <= planned
    assert not kept & planned


def test_a_run_killed_at_random_moments_ends_the_same(finished: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("TESSERA_FAULT_SEED", random.SystemRandom().randrange(10**6)))
    print(f"fault seed {seed}")
    dice = random.Random(seed)
    config = write_config(tmp_path, SMALL)
    for _ in range(3):
        run = subprocess.Popen(
            command(tmp_path, config),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(timeout=dice.uniform(5, 20))
        with contextlib.suppress(ProcessLookupError):  # it was done before its time
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        time.sleep(0.5)
    done = snakemake(tmp_path, config)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    mine, theirs = contents(tmp_path / "results"), contents(finished / "results")
    assert mine == theirs


def test_a_damaged_shard_is_found_and_made_again(finished: Path) -> None:
    results = finished / "results/small"
    before = contents(finished / "results")
    shards = sorted(p for p in (results / "predict/tissue").rglob("c/*/*/*/*") if p.is_file())
    victim = shards[len(shards) // 2]
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 0xFF
    victim.write_bytes(data)
    verify = subprocess.run(
        ["tessera", "verify", str(results)], env=environment(), text=True, capture_output=True
    )
    assert verify.returncode == 1 and "struck" in verify.stdout
    done = snakemake(finished, finished / "mine.yaml")
    assert done.returncode == 0, done.stderr[-4000:]
    assert contents(finished / "results") == before


def test_the_demo_is_planned_without_running(tmp_path: Path) -> None:
    dry = snakemake(tmp_path, REPO / "config.yaml", "-n")
    assert dry.returncode == 0, dry.stderr
    planned = jobs(dry.stdout)
    assert planned["recon"] == 4 and planned["train"] == 1 and planned["report"] == 1
    assert not (tmp_path / "results").exists()


def test_a_wrong_config_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    config = write_config(tmp_path, changed(SMALL, recon={"filtre": "ramp"}))
    run = snakemake(tmp_path, config)
    assert run.returncode == 2
    lines = [line for line in run.stderr.splitlines() if line.startswith("tessera:")]
    assert len(lines) == 1 and "filtre" in lines[0] and "'filter'" in lines[0]
    assert "Traceback" not in run.stderr
