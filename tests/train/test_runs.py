"""Whole trainings of seconds: they learn, repeat, resume, stop, and agree whatever the ranks."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tessera.cli import main
from tessera.compute.horovod import Team
from tessera.compute.signals import Warned
from tessera.config import Model
from tessera.errors import Requeue, TesseraError, WorkFailed
from tessera.nets import bundle
from tessera.train import command
from tessera.volume.box import Box
from tessera.volume.store import open_volume
from tests.launcher import ENVIRONMENT, MPIEXEC, on_ranks

BUNDLE = (bundle.WEIGHTS, bundle.FACTS)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _train(specimen, settings, name, warned=None, truth="truth.zarr"):
    command.run(
        Model.model_validate(settings),
        str(specimen / "volume.json"),
        str(specimen / truth),
        specimen / name,
        Team(),
        warned,
    )
    return specimen / name


def _same(a: Path, b: Path) -> bool:
    return all((a / n).read_bytes() == (b / n).read_bytes() for n in BUNDLE)


class _After(Warned):
    """A scheduler's signal that comes after some looks at it."""

    def __init__(self, looks):
        super().__init__()
        self.left = looks

    def __bool__(self):
        self.left -= 1
        return self.left < 0


def test_it_learns_what_it_never_saw(specimen, small):
    out = _train(specimen, {**small, "steps": 120, "ema": 0.95}, "m")
    model = bundle.load(out)
    volume, truth = open_volume(specimen / "volume.zarr"), open_volume(specimen / "truth.zarr")
    unseen = Box.of((0, 0, 40), (32, 40, 48))
    read = unseen.grow(model.halo)
    image = model.normalise(torch.from_numpy(volume.read(read)))[None, None]
    found = model.net(image).argmax(1)[0][unseen.inside(read)].numpy()
    wanted = truth.read(unseen)
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.8
    lines = [json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(10, 121, 10))
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert all({"seconds", "lr", "samples_per_s", "score"} <= set(line) for line in lines)
    assert model.facts.training["best_validation"] == max(line["score"] for line in lines)
    assert list((out / "tensorboard").iterdir())


def test_twenty_steps_are_ten_and_ten(specimen, small):
    """Stopped by a signal at step 7, killed after the checkpoint of step 10, and gone on with."""
    whole = _train(specimen, small, "whole")
    again = _train(specimen, small, "again")
    assert _same(whole, again)
    for looks in (7, 6):
        with pytest.raises(Requeue, match="checkpoint is written"):
            _train(specimen, small, "parts", _After(looks - 1))
    assert not (specimen / "parts" / bundle.FACTS).exists()
    _train(specimen, small, "parts")
    assert _same(whole, specimen / "parts")
    steps = [json.loads(x)["step"] for x in (whole / "curves.jsonl").read_text().splitlines()]
    assert [
        json.loads(x)["step"] for x in (specimen / "parts/curves.jsonl").read_text().splitlines()
    ] == steps
    # A finished training that is run again changes nothing; one with other settings starts anew.
    before = (whole / bundle.WEIGHTS).stat().st_mtime_ns
    _train(specimen, small, "whole")
    assert _same(whole, again) and (whole / bundle.WEIGHTS).stat().st_mtime_ns >= before
    _train(specimen, {**small, "seed": 1}, "whole")
    assert not _same(whole, again)


def test_a_killed_training_ends_with_the_same_bytes(specimen, small):
    settings = {**small, "steps": 40, "checkpoint_every": 5}
    whole = _train(specimen, settings, "whole")
    call = [
        sys.executable, "-m", "tessera.cli", "train", "m", "--settings", json.dumps(settings),
        "--volume", str(specimen / "volume.json"), "--truth", str(specimen / "truth.zarr"),
        "--out", str(specimen / "killed"),
    ]  # fmt: skip
    running = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    mark = specimen / "killed" / "checkpoint" / "last.safetensors"
    while not mark.exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    subprocess.run(call, check=True, stderr=subprocess.DEVNULL)
    assert _same(whole, specimen / "killed")


def test_sigterm_leaves_with_the_status_that_requeues(specimen, small):
    settings = {**small, "steps": 2000}
    call = [
        sys.executable, "-m", "tessera.cli", "train", "m", "--settings", json.dumps(settings),
        "--volume", str(specimen / "volume.json"), "--truth", str(specimen / "truth.zarr"),
        "--out", str(specimen / "m"),
    ]  # fmt: skip
    running = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
    while not (specimen / "m" / "curves.jsonl").exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 75 and "run again to go on" in said
    assert (specimen / "m" / "checkpoint" / "last.safetensors").exists()


def test_early_stop_keeps_the_best_and_the_last(specimen, small):
    settings = {**small, "steps": 60, "validate_every": 2, "early_stop": 2, "learning_rate": 1e-9}
    out = _train(specimen, settings, "m")
    lines = [json.loads(line) for line in (out / "curves.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] < 60
    best, last = (bundle.read_facts(f)[0].training for f in (out, out / "last"))
    assert best["steps"] < last["steps"] == lines[-1]["step"]


def test_a_lost_loss_stops_and_keeps_the_batch(specimen, small):
    volume = open_volume(specimen / "volume.zarr")
    data = volume.read(Box.whole(volume.shape))
    data[:] = np.nan
    volume.write(Box.whole(volume.shape), data)
    with pytest.raises(WorkFailed, match="not a finite number at step 1;"):
        _train(specimen, small, "m")
    kept = load_file(specimen / "m" / "lost_batch_0.safetensors")
    assert kept["batch.image"].shape == (2, 1, 16, 16, 16)
    assert not (specimen / "m" / bundle.FACTS).exists()


@pytest.mark.parametrize(
    ("changes", "classes"),
    [
        ({"net": "segnet", "loss": "ce", "class_weights": "median-frequency"}, 2),
        ({"net": "unet2d", "patch": [4, 16, 16]}, 2),
        ({"target": "multilabel", "loss": "soft-margin"}, 2),
        ({"target": "boundaries", "ids": True}, 1),
        ({"target": "affinities", "loss": "ce", "ids": True, "accumulate": 2}, 3),
    ],
)
def test_every_target_and_network_trains(specimen, small, changes, classes):
    settings = {**small, "steps": 4, **changes}
    if settings.pop("ids", False):
        settings["labels"] = [{"path": str(specimen / "ids.zarr"), "instances_of": "soma"}]
    model = bundle.load(_train(specimen, settings, "m"))
    assert len(model.classes) == classes
    sums = model.probabilities(model.net(torch.zeros(1, 1, 16, 16, 16))).sum(1)
    if model.facts.activation == "softmax":
        assert torch.allclose(sums, torch.ones(1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patch": [18, 16, 16]}, "not a multiple of the network's grid"),
        ({"classes": ["background", "soma", "vessel"]}, "no voxel of vessel"),
        ({"split": {"train": [{"start": [90, 0, 0]}]}}, "lies outside the volume"),
        ({"precision": "fp16"}, "fp16 is for inference"),
        ({"labels": [{"path": "LABELS"}]}, "do not fit the volume"),
        ({"net_options": {"levels": 3}}, "cannot be built"),
    ],
)
def test_bad_input_is_one_sentence(specimen, small, capsys, changes, said):
    from .conftest import write_volume

    write_volume(specimen / "other.zarr", np.zeros((8, 8, 8), np.uint8))
    text = json.dumps({**small, **changes}).replace("LABELS", str(specimen / "other.zarr"))
    arguments = ["--volume", str(specimen / "volume.json"), "--truth", str(specimen / "truth.zarr")]
    status = main(["train", "m", "--settings", text, *arguments, "--out", str(specimen / "m")])
    told = capsys.readouterr().err.strip()
    assert status == 2 and said in told and len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": {"train": [{}], "test": [{"start": [0, 0, 40]}]}}, "overlap"),
        ({"split": {"test": [{"start": [0, 0, 40]}]}}, "without train boxes"),
        ({"labels": [{"path": "x", "instances_of": "cell"}]}, "none of the classes"),
        ({"classes": ["a", "a"]}, "name one twice"),
        ({"classes": ["a"]}, "nothing to tell apart"),
        ({"net": "ffn", "bundle": "a", "weights": "b"}, "comes from weights or from bundle"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(small, changes, said):
    with pytest.raises(ValueError, match=said):
        Model.model_validate({**small, **changes})


def test_boxes_side_by_side_do_not_overlap(small):
    assert Model.model_validate(small).split.train[0].stop[2] == 32


# --- ranks ---------------------------------------------------------------------------------------

try:
    import horovod.torch

    HOROVOD = horovod.torch.__name__
except ImportError:
    HOROVOD = None
needs_ranks = pytest.mark.skipif(None in (HOROVOD, MPIEXEC), reason="no Horovod or no mpiexec here")


def _ranks(specimen, settings, name, count, expected=None):
    return subprocess.run(
        [
            *on_ranks(count), sys.executable, "-m", "tessera.cli", "train", "m",
            "--settings", json.dumps(settings),
            "--volume", str(specimen / "volume.json"), "--truth", str(specimen / "truth.zarr"),
            "--out", str(specimen / name), "--ranks", str(expected or count),
        ],
        env=ENVIRONMENT,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@needs_ranks
@pytest.mark.parametrize("norm", ["plain", "batch"])
def test_two_ranks_are_one_with_twice_the_batch(specimen, small, norm):
    """After 10 steps the weights agree to 1e-3 of the largest; and two ranks repeat bit for bit."""
    settings = {**small, "steps": 10, "batch": 1, "net_options": {"norm": norm}}
    first = _ranks(specimen, settings, "two", 2)
    assert first.returncode == 0, first.stderr
    assert _ranks(specimen, settings, "again", 2).returncode == 0
    assert _same(specimen / "two", specimen / "again")
    one = _train(specimen, {**settings, "batch": 2}, "one")
    two, alone = (load_file(f / bundle.WEIGHTS) for f in (specimen / "two", one))
    largest = max(t.abs().max() for t in alone.values())
    for name in alone:
        assert (two[name] - alone[name]).abs().max() < 1e-3 * largest, name
    scores = [
        [json.loads(x).get("score") for x in (f / "curves.jsonl").read_text().splitlines()]
        for f in (specimen / "two", one)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-2)


@needs_ranks
def test_another_number_of_ranks_goes_on(specimen, small):
    """Stopped as one rank, gone on as two with compressed gradients: every sample is new."""
    settings = {**small, "batch": 1, "compression": "fp16"}
    with pytest.raises(Requeue):
        _train(specimen, settings, "m", _After(9))
    done = _ranks(specimen, settings, "m", 2)
    assert done.returncode == 0, done.stderr
    assert "going on from step 10" in done.stderr
    assert bundle.load(specimen / "m").facts.training["settings"]["batch"] == 1


@needs_ranks
def test_a_wrong_number_of_ranks_is_refused(specimen, small):
    done = _ranks(specimen, small, "m", 1, expected=2)
    assert done.returncode == 2 and "finds itself one of 1" in done.stderr


def test_without_horovod_one_process_trains_and_two_are_refused(monkeypatch):
    from tessera.compute import horovod

    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "HOROVOD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "horovod.torch", None)
    assert horovod.join(1).size == 1
    with pytest.raises(TesseraError, match="needs Horovod"):
        horovod.join(2)
