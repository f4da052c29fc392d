"""Training of a flood-filling network: its parts against definitions, the whole on a toy."""

import argparse
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.compute.horovod import Team
from tessera.config import Augment, Model
from tessera.errors import TesseraError
from tessera.nets import bundle
from tessera.train import command
from tessera.train.ffn import command as ffn
from tessera.train.ffn import loop
from tessera.train.ffn.examples import Example
from tessera.train.ffn.partitions import local_mass, partition
from tessera.train.ffn.streams import Counts, Fill
from tests.train.conftest import write_volume

OFF = Augment(symmetries=False, contrast=0, noise=0, blur=0, sharpen=0, warp=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.tuples(*[st.integers(0, 3)] * 3))
def test_local_mass_is_the_share_of_the_box(seed, radius):
    random = np.random.default_rng(seed)
    mask = random.random((5, 6, 7)) < 0.4
    found = local_mass(mask, radius)
    padded = np.pad(mask, [(r, r) for r in radius])
    windows = np.lib.stride_tricks.sliding_window_view(padded, [2 * r + 1 for r in radius])
    np.testing.assert_allclose(found, windows.mean((-1, -2, -3)), atol=1e-12)


def test_partitions_follow_each_objects_own_mass():
    labels = np.zeros((9, 9, 9), np.int32)
    labels[:, :, :4], labels[:, :, 6:], labels[0, 0, 5] = 1, 2, -1
    found = partition(labels, (1, 1, 1), (0.3, 0.6, 0.9))
    assert (found[labels <= 0] == 0).all()
    assert found[4, 4, 1] == 4  # all 27 voxels
    assert found[4, 4, 3] == 3  # 18 of 27
    assert found[0, 0, 0] == 1  # 8 of 27: the outside counts as empty


def example(inside, image=None):
    inside = torch.from_numpy(inside.astype(np.float32))
    return Example(torch.zeros_like(inside) if image is None else image, inside, inside * 0 + 1)


def test_field_of_view_follows_what_the_network_says():
    """A bar along x: only the shifts along x lie in the object."""
    inside = np.zeros((9, 9, 9), bool)
    inside[4, 4, :] = True
    fill = Fill(example(inside), (5, 5, 5), (2, 2, 2), np.random.default_rng(0))
    visited = []
    while fill.next():
        given_, target, weight = fill.fields()
        assert given_.shape == (2, 5, 5, 5) and (weight == 1).all()
        assert torch.equal(target[0] > 0.5, fill.example.inside[fill._window] > 0)
        visited.append(tuple(s.start for s in fill._window))
        fill.accept((target[0] - 0.5) * 20)  # a perfect network
    assert visited[0] == (2, 2, 2) and set(visited[1:]) == {(2, 2, 0), (2, 2, 4)}
    counts = Counts()
    fill.count(counts)
    assert counts.scores() == {"moves": 3, "precision": 1, "recall": 1, "f1": 1}


def test_counts_of_a_half_filled_object():
    inside = np.zeros((5, 5, 5), bool)
    inside[2] = True
    fill = Fill(example(inside), (5, 5, 5), (0, 0, 0), np.random.default_rng(0))
    assert fill.next()
    said = torch.full((5, 5, 5), -3.0)
    said[1:3, :2] = 3.0  # 20 voxels, 10 of the 25 true ones
    fill.accept(said)
    counts = Counts()
    fill.count(counts)
    found = counts.scores()
    assert found["precision"] == 0.5 and found["recall"] == 0.4
    assert found["f1"] == pytest.approx(2 * 0.5 * 0.4 / 0.9)


def test_loss_leaves_out_what_nobody_has_looked_at():
    logits = torch.tensor([0.0, 5.0])
    target = torch.tensor([0.95, 0.05])
    # Of a logit of 0 the cross-entropy is log 2, whatever the target.
    found = loop.loss_of(logits, target, torch.tensor([1.0, 0.0]))
    assert float(found) == pytest.approx(np.log(2))


# --- the whole, on slabs that a tiny network can tell apart -------------------------------------


def toy(folder):
    """Slabs of width 6 with dark planes between, 24 x 30 x 42."""
    image = np.full((24, 30, 42), 200, np.uint8)
    ids = np.zeros(image.shape, np.uint32)
    for number, start in enumerate(range(0, 42, 6)):
        ids[:, :, start + 1 : start + 6] = number + 1
        image[:, :, start] = 20
    write_volume(folder / "volume.zarr", image)
    write_volume(folder / "ids.zarr", ids)
    facts = {
        "path": "volume.zarr",
        "digest": "d",
        "statistics": {"mean": float(image.mean()), "std": float(image.std())},
    }
    (folder / "volume.json").write_text(json.dumps(facts))
    return {
        "net": "ffn",
        "classes": ["background", "neuron"],
        "labels": [{"path": str(folder / "ids.zarr"), "instances_of": "neuron"}],
        "net_options": {"depth": 2, "features": 8, "fov": 9, "deltas": 2},
        "steps": 120,
        "batch": 4,
        "learning_rate": 0.01,
        "schedule": "linear",
        "lr_scaling": "none",
        "checkpoint_every": 30,
        "validate_every": 60,
        "split": {
            "train": [{"stop": [None, None, 24]}],
            "validation": [{"start": [0, 0, 24]}],
        },
        "augment": OFF.model_dump(),
    }


@pytest.fixture
def made(tmp_path):
    return tmp_path, toy(tmp_path)


def start(folder, given, out="model", name="a"):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    arguments = [name, "--settings", json.dumps(given), "--volume", str(folder / "volume.json")]
    return command.main(parser.parse_args([*arguments, "--out", str(folder / out)]))


def test_it_learns_to_fill_and_writes_a_bundle(made):
    torch.set_num_threads(1)
    folder, given = made
    assert start(folder, given) == 0
    lines = [json.loads(x) for x in (folder / "model" / "curves.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 120
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert lines[-1]["validation_f1"] > 0.8
    assert {"moves", "precision", "recall", "f1", "samples_per_s"} <= set(lines[-1])
    model = bundle.load(folder / "model")
    assert model.classes == ("neuron",) and model.halo == (4, 4, 4)


@pytest.mark.parametrize("at", [7, 45, 90])
def test_killed_and_resumed_ends_with_the_same_bits(made, monkeypatch, at):
    torch.set_num_threads(1)
    folder, given = made
    given = {**given, "steps": 100, "checkpoint_every": 20, "validate_every": 50}
    start(folder, given, "whole")

    class Killed(Exception):
        pass

    real, calls = loop._step, []

    def dies(*args):
        calls.append(0)
        if len(calls) > at:
            raise Killed
        return real(*args)

    monkeypatch.setattr(loop, "_step", dies)
    with pytest.raises(Killed):
        start(folder, given, "killed")
    monkeypatch.setattr(loop, "_step", real)
    start(folder, given, "killed")
    for name in ("model.safetensors", "model.json"):
        assert (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes()


def test_bad_settings_are_said(made):
    folder, given = made
    with pytest.raises(TesseraError, match="one class"):
        start(folder, {**given, "classes": ["neuron", "glia"]})
    with pytest.raises(TesseraError, match="enlarge the boxes"):
        start(folder, {**given, "net_options": {"fov": 25, "deltas": 2, "depth": 1}})
    assert ffn.object_class(Model(net="ffn", classes=("neuron",))) == "neuron"
    assert Team().size == 1
