"""`net: ffn` in a config: the workflow trains or imports, fills, assembles, agglomerates."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tessera.nets import bundle
from tessera.nets.ffn import _layers
from tessera.simulate.fibres import make_fibres
from tessera.volume.box import Box
from tessera.volume.store import open_volume

from .small import environment, snakemake, write_config

FIBRES: dict[str, Any] = {
    "specimen": "fibres",
    "volume": {"path": "fibres.h5", "dataset": "raw", "voxel_um": [0.01, 0.01, 0.01]},
    "mosaic": {"shard": [32, 32, 32], "chunk": [16, 16, 16], "levels": 1, "dtype": "uint8"},
    "models": {
        "neurons": {
            "net": "ffn",
            "classes": ["background", "neuron"],
            "labels": [{"path": "fibres.h5", "dataset": "ids", "instances_of": "neuron"}],
            "split": {"train": [{"stop": [28, 40, 32]}], "test": [{"start": [4, 4, 32]}]},
            "net_options": {"depth": 3, "features": 8, "fov": 9, "deltas": 2},
            "steps": 200,
            "batch": 4,
            "learning_rate": 0.005,
            "lr_scaling": "none",
            "augment": {"contrast": 0, "noise": 0, "blur": 0, "sharpen": 0, "warp": 0},
            "schedule": "linear",
        }
    },
    "predict": {
        "batches": 1,
        "fill": {"subvolume": [32, 40, 32], "overlap_vox": 10, "min_voxels": 40, "window_vox": 24},
    },
    "label": {
        "classes": ["neuron"],
        "batches": 1,
        "min_voxels": 1,
        "assembly": {"agglomerate": True, "recovered": 0.6, "min_contact_vox": 4, "min_voxels": 10},
    },
    "evaluate": {"bootstrap": 0},
}


def write_fibres(folder: Path) -> None:
    made = make_fibres((28, 40, 56), 1, diameter_vox=10, swerve_vox=2, fading=0)
    with h5py.File(folder / "fibres.h5", "w") as file:
        file["raw"], file["ids"] = made.image, made.ids


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fibres")
    write_fibres(folder)
    done = snakemake(folder, write_config(folder, FIBRES))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder / "results/fibres"


def read(results: Path, *parts: str) -> np.ndarray:
    volume = open_volume(results.joinpath("label/neurons/neuron", *parts, "labels.zarr"))
    return volume.read(Box.whole(volume.shape))


def test_from_volume_to_scores_and_report(filled: Path) -> None:
    fragments, labels = read(filled, "fragments"), read(filled)
    assert labels.max() > 3 and np.array_equal(fragments > 0, labels > 0)
    whole_of = {int(f): set(np.unique(labels[fragments == f])) for f in np.unique(fragments)}
    assert all(len(wholes) == 1 for wholes in whole_of.values())  # fragments are only ever joined
    metrics = json.loads((filled / "evaluate/metrics.json").read_text())
    assert metrics["neuron.coverage"]["value"] > 0.1  # a network of seconds
    assert 0 < metrics["neuron.erl_um"]["value"] < metrics["neuron.erl_most_um"]["value"]
    # The curve passes through what was made: at the threshold of the config, and above all scores.
    curve = metrics["neuron.curve.0.60.voi_sum_both"]["value"]
    assert curve == pytest.approx(metrics["neuron.voi_sum_both"]["value"], abs=1e-6)
    page = (filled / "report/index.html").read_text()
    assert "Agglomeration" in page and "Variation of information" in page


def test_imported_weights_and_more_batches_label_the_same(filled: Path, tmp_path: Path) -> None:
    """The network that was just trained, as its publisher would have it: nothing is trained."""
    write_fibres(tmp_path)
    model = bundle.load(filled / "train/neurons")
    state = model.net.state_dict()
    variables = {}
    for ours, theirs in _layers(3).items():
        kernel = state[f"{ours}.weight"].numpy().transpose(2, 3, 4, 1, 0)
        variables[f"seed_update/{theirs}/weights"] = kernel
        variables[f"seed_update/{theirs}/biases"] = state[f"{ours}.bias"].numpy()
    np.savez(tmp_path / "weights.npz", **variables)
    config = copy.deepcopy(FIBRES)
    norm = model.facts.normalisation
    config["models"]["neurons"] |= {
        "weights": "weights.npz",
        "weights_mean_std": [norm["mean"], norm["std"]],
        "labels": [],
        "split": {},
    }
    config["predict"]["batches"] = 2
    done = snakemake(tmp_path, write_config(tmp_path, config))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    results = tmp_path / "results/fibres"
    assert not (results / "train/neurons/curves.jsonl").exists()
    assert np.array_equal(read(results), read(filled))


def test_a_fill_killed_at_random_moments_ends_the_same(filled: Path, tmp_path: Path) -> None:
    """SIGKILL between any two instructions; checkpoints after every object."""
    seed = int(os.environ.get("TESSERA_FAULT_SEED", random.SystemRandom().randrange(10**6)))
    print(f"fault seed {seed}")
    dice = random.Random(seed)
    settings = copy.deepcopy(FIBRES["predict"])
    settings["fill"]["checkpoint_minutes"] = 1e-6
    layout = ["--volume", filled / "mosaic/volume.json", "--model", filled / "train/neurons"]
    layout += ["--settings", json.dumps(settings), "--out", tmp_path]
    tessera = [sys.executable, "-m", "tessera.cli", "predict", "fill"]
    subprocess.run([*tessera, "store", *layout], check=True, env=environment())
    for _ in range(3):
        run = subprocess.Popen([*tessera, "run", tmp_path], env=environment())
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(timeout=dice.uniform(1, 6))
        run.kill()
        run.wait()
    subprocess.run([*tessera, "run", tmp_path], check=True, env=environment())
    mine, theirs = (
        {p.relative_to(root): p.read_bytes() for p in (root / "subvolumes").rglob("*.npz")}
        for root in (tmp_path, filled / "predict/neurons")
    )
    assert len(mine) == 2 and mine == theirs
    assert not list((tmp_path / "checkpoints").rglob("*.npz"))


def test_what_is_wrong_is_said_before_the_first_job(tmp_path: Path) -> None:
    write_fibres(tmp_path)
    config = copy.deepcopy(FIBRES)
    config["predict"]["fill"]["overlap_vox"] = 6
    run = snakemake(tmp_path, write_config(tmp_path, config), "-n")
    assert run.returncode == 2 and "overlap_vox" in run.stderr and "at least 8" in run.stderr
    config = copy.deepcopy(FIBRES)
    config["models"]["neurons"]["weights"] = "nowhere.npz"
    run = snakemake(tmp_path, write_config(tmp_path, config), "-n")
    assert run.returncode == 2 and "nowhere.npz does not exist" in run.stderr
