"""What `tessera status` says of runs that are at various points."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tessera import cli
from tessera.errors import TesseraError
from tessera.status import collect
from tessera.volume.record import Entry, Journal, Record, read_record


def journal(path: Path, total: int, done: int, failed: int = 0, kept: int = 0) -> Journal:
    """A journal of a batch that runs, or (all done) its record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = Record("key", total, {f"kept.{n}": Entry(f"kept.{n}") for n in range(kept)})
    out = Journal(path, start)
    for n in range(done):
        out.add(Entry(f"0.0.{n}", 1.0))
    for n in range(failed):
        out.add(Entry(f"1.0.{n}", 1.0, error="RuntimeError: no"))
    out.close()
    return out


def plan(root: Path, **rules: tuple[str, int, int]) -> None:
    """A plan: rule -> (of, blocks, jobs)."""
    (root / "plan").mkdir(parents=True)
    rows = [
        {"rule": rule, "of": of, "jobs": jobs, "work": {"blocks": blocks, "units": 1.0}}
        for rule, (of, blocks, jobs) in rules.items()
    ]
    (root / "plan" / "plan.json").write_text(json.dumps({"rules": rows}))


def test_done_failed_and_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal(tmp_path / "predict/cells/records/0000.json", 3, 3)
    journal(tmp_path / "predict/cells/records/0001.json", 4, 1, failed=1)
    (stage,) = collect(tmp_path)
    assert (stage.name, stage.done, stage.failed, stage.left) == ("predict/cells", 4, 1, 3)
    assert (stage.batches, stage.running) == (1, 1)
    assert cli.main(["status", str(tmp_path)]) == 0
    assert "failed: predict/cells/0001/1.0.0: RuntimeError: no" in capsys.readouterr().out


def test_a_plan_tells_of_what_has_not_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(
        tmp_path,
        recon=("", 6, 2),
        train=("cells", 100, 1),
        predict=("cells", 50, 5),
        label_local=("cells/soma", 50, 5),
    )
    journal(tmp_path / "recon/a/records/0000.json", 3, 3)
    journal(tmp_path / "recon/b/records/0000.json", 3, 1)
    stages = {s.name: s for s in collect(tmp_path)}
    assert list(stages) == ["recon", "train/cells", "predict/cells", "label/cells/soma/local"]
    assert (stages["recon"].done, stages["recon"].left, stages["recon"].batches) == (4, 2, 1)
    assert (stages["predict/cells"].left, stages["predict/cells"].batches_known) == (50, 5)
    assert stages["predict/cells"].seconds_to_go is None
    assert cli.main(["status", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [s["left"] for s in found] == [2, 100, 50, 50]


def test_rate_is_of_what_this_job_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predict/cells/records/0000.json"
    began = time.time() - 20
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: began)
        journal(path, 30, 5, kept=10)
    content = read_record(path)
    assert content is not None and (content.began, content.kept) == (pytest.approx(began), 10)
    (stage,) = collect(tmp_path)
    assert stage.rate == pytest.approx(5 / 20, rel=0.05)
    assert stage.seconds_to_go == pytest.approx(15 / 0.25, rel=0.05)


def test_a_job_that_is_gone_has_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path / "predict/cells/records/0000.json", 30, 5)
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    (stage,) = collect(tmp_path)
    assert (stage.running, stage.rate, stage.seconds_to_go) == (0, 0.0, None)


def test_steps_of_a_training(tmp_path: Path) -> None:
    plan(tmp_path, train=("cells", 100, 1))
    folder = tmp_path / "train" / "cells"
    folder.mkdir(parents=True)
    rows = [{"step": 10, "seconds": 5.0}, {"step": 40, "seconds": 20.0}]
    (folder / "curves.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"st')
    (stage,) = collect(tmp_path)
    assert (stage.done, stage.left, stage.rate) == (40, 60, 2.0)
    assert stage.seconds_to_go == 30
    (folder / "model.json").write_text("{}")
    (stage,) = collect(tmp_path)
    assert (stage.left, stage.batches, stage.running) == (0, 1, 0)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(TesseraError, match="no records below this folder"):
        collect(tmp_path)
