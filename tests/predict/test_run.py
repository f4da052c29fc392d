"""Blocks against the whole volume at once, from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from tessera.cli import main
from tessera.nets.bundle import load
from tessera.nets.registry import build
from tessera.predict.memory import Memory
from tessera.predict.run import Predictor
from tessera.predict.seams import seam_score
from tessera.predict.shape import compute_block
from tessera.volume.box import Box, Grid, Triple
from tessera.volume.mirror import mirror
from tessera.volume.store import Layout, create_volume, open_volume

Store = Callable[[np.ndarray], Path]
SHAPE = (24, 33, 40)


def voxels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(3).normal(100, 50, shape).astype(np.float32)


def predict(
    volume: Path,
    model: Path,
    out: Path,
    batches: int = 1,
    more: tuple[str, ...] = (),
    **given: object,
) -> np.ndarray:
    section = json.dumps({"block": [16, 16, 16], "chunk": [16, 16, 16]} | given)
    line = ["predict", "store", "--settings", section, "--volume", str(volume)]
    line += ["--model", str(model), "--batches", str(batches), "--out", str(out)]
    assert main(line) == 0
    for batch in range(batches):
        run = ["predict", "run", str(out), "--batch", str(batch), "--of", str(batches), *more]
        assert main(run) == 0
    assert main(["predict", "finish", str(out)]) == 0
    name = json.loads((out / "store.json").read_text())["path"]
    found = open_volume(out / name)
    return found.read(Box.whole(found.shape))


def whole(values: np.ndarray, model: Path) -> np.ndarray:
    """Plain torch, mirrored to a whole stride, on the volume: probabilities (class, z, y, x)."""
    bundle = load(model)
    index = [mirror(np.arange(n + -n % a), n) for n, a in zip(SHAPE, bundle.align, strict=True)]
    given = torch.from_numpy(values[np.ix_(*index)])[None, None]
    with torch.inference_mode():
        made = torch.softmax(bundle.net((given - 100) / 50), 1)[0].numpy()
    return np.asarray(made[(slice(None), *map(slice, SHAPE))])


def test_blocks_equal_the_whole_volume_at_once(volume: Store, bundle: Path, tmp_path: Path) -> None:
    values = voxels()
    truth = whole(values, bundle)
    assert truth.std() > 0.1
    given = volume(values)
    small = predict(given, bundle, tmp_path / "small", memory_gib=1e-6)
    large = predict(given, bundle, tmp_path / "large", memory_gib=4)
    # Stored in steps of 1/255; sums in another order may round to the neighbouring step.
    for found in (small, large):
        assert np.abs(found / 255 - truth).max() <= 0.5 / 255 + 1e-5
    assert (small != large).mean() < 1e-3
    classes = predict(given, bundle, tmp_path / "classes", output="classes")
    assert (classes == truth.argmax(0)).mean() > 0.9999


def test_bytes_do_not_depend_on_batches_or_threads(
    volume: Store, bundle: Path, tmp_path: Path
) -> None:
    given = volume(voxels())
    one = predict(given, bundle, tmp_path / "one")
    many = predict(given, bundle, tmp_path / "many", batches=5, more=("--threads", "2"))
    np.testing.assert_array_equal(one, many)
    digests = [json.loads((tmp_path / n / "seams.json").read_text()) for n in ("one", "many")]
    assert digests[0] == digests[1]


def test_reflections_average_to_a_symmetric_result(bundle: Path) -> None:
    """With augmentation the prediction of a mirrored image is the mirrored prediction."""
    predictor = Predictor(load(bundle), "fp32", augment=True)
    values = voxels((32, 32, 32))
    plain, turned = predictor(values), predictor(np.ascontiguousarray(values[:, ::-1]))
    np.testing.assert_allclose(turned[:, :, ::-1], plain, atol=1e-5)
    part = ((12, 18), (10, 20), (12, 16))
    inner = plain[(slice(None), *(slice(*p) for p in part))]
    np.testing.assert_allclose(predictor(values, part), inner, atol=1e-5)


def test_what_is_wrong_is_said(
    volume: Store, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = volume(voxels())
    line = ["predict", "store", "--volume", str(given), "--model", str(bundle)]
    line += ["--out", str(tmp_path / "out")]
    odd = json.dumps({"block": [17, 16, 16], "chunk": [17, 16, 16]})
    assert main([*line, "--settings", odd]) == 2
    assert "network's stride" in capsys.readouterr().err
    (bundle / "model.safetensors").write_bytes(b"changed")
    assert main([*line, "--settings", "{}"]) == 2
    assert "model.safetensors" in capsys.readouterr().err


shapes = st.tuples(*[st.integers(1, 900)] * 3)


@settings(max_examples=60, deadline=None)
@given(
    shapes, st.tuples(*[st.sampled_from([16, 32, 64])] * 3), st.integers(0, 40), st.floats(0.01, 4)
)
def test_compute_blocks_are_whole_shards_within_memory(
    shape: tuple[int, int, int], shard: tuple[int, int, int], halo: int, memory: float
) -> None:
    margin = Triple(halo, halo, halo)
    takes = Memory(read=60.0, write=100.0)
    block = compute_block(Triple(*shape), Triple(*shard), margin, takes, memory)
    assert all(b % s == 0 for b, s in zip(block, shard, strict=True))
    grid = Grid.of(shape, block)
    shards = Grid.of(shape, shard)
    assert len(grid) >= min(4, len(shards), math.prod(shape) / 256**3)
    largest = max(grid, key=lambda b: b.write.size).write
    held = 60 * largest.grow(margin).size + 100 * largest.size
    assert block == shard or held <= memory * 2**30


def test_seam_score_sees_a_seam_and_nothing_else(tmp_path: Path) -> None:
    smooth = np.add.outer(np.add.outer(np.arange(32), np.arange(32)), np.arange(32))
    stepped = smooth.copy()
    stepped[:, :, 16:] += 1
    # As a network that halves its maps leaves them: steps of 1 and 3 along z, over and over.
    uneven = smooth + (np.arange(32) // 2 * 2)[:, None, None]
    grid = Grid.of((32, 32, 32), (16, 16, 16))
    cases = (
        (smooth, 1, [1, 1, 1]),
        (stepped, 1, [1, 1, 2]),
        (stepped, 4, [1, 1, 2]),
        (uneven, 2, [1, 1, 1]),
    )
    for values, align, axes in cases:
        layout = Layout(
            Triple(32, 32, 32), "uint8", (1, 1, 1), Triple(16, 16, 16), Triple(16, 16, 16)
        )
        volume = create_volume(tmp_path / "v.zarr", layout)
        volume.write(Box.whole((32, 32, 32)), values.astype(np.uint8))
        found = seam_score(volume, grid, (align,) * 3, 0.1)["axes"]
        assert found == pytest.approx(axes, rel=1e-3)


def test_seam_score_tells_blocks_that_were_given_no_halo(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build("unet3d", 2, (8, 16)).eval()
    image = torch.randn(1, 1, 96, 96, 96)
    grid, volumes = Grid.of((96, 96, 96), (32, 32, 32)), {}
    with torch.inference_mode():
        whole = net(image)[0, 1]
        alone = torch.empty_like(whole)
        for block in grid:
            alone[block.write.slices] = net(image[(..., *block.write.slices)])[0, 1]
    for name, logits in (("whole", whole), ("alone", alone)):
        layout = Layout(Triple(96, 96, 96), "uint8", (1, 1, 1), shard=Triple(32, 32, 32))
        volumes[name] = create_volume(tmp_path / f"{name}.zarr", layout)
        values = torch.sigmoid(logits / whole.std()).mul(255).round()
        volumes[name].write(Box.whole((96, 96, 96)), values.to(torch.uint8).numpy())
    score = {name: seam_score(v, grid, tuple(net.align), 2) for name, v in volumes.items()}
    assert score["whole"]["score"] < 1.02 and score["whole"]["low"] == 1
    assert score["alone"]["score"] > 1.2 and score["alone"]["low"] > 1.15


@pytest.mark.parametrize("block", [(40, 40, 20), (20, 20, 20)])
def test_the_interval_of_the_seam_score_holds_what_is_true(
    tmp_path: Path, block: tuple[int, int, int]
) -> None:
    """Of random volumes without a seam 95 % should have an interval down to 1, with one face as
    with three; where all steps at the faces are doubled, none."""
    random, shape, volumes = np.random.default_rng(0), (40, 40, 40), 40
    grid, clear = Grid.of(shape, block), 0
    layout = Layout(Triple(*shape), "float32", (1, 1, 1), Triple(20, 20, 20), Triple(40, 40, 40))
    for _ in range(volumes):
        values = gaussian_filter(random.normal(size=shape), 1.0, mode="wrap")
        torn = values.copy()
        for axis, side in enumerate(block):
            if side < shape[axis]:
                before, after = (np.take(torn, [n], axis) for n in (side - 1, side))
                torn += (after - before) * (np.indices(shape)[axis] >= side)
        for number, data in enumerate((values, torn)):
            volume = create_volume(tmp_path / f"{number}.zarr", layout)
            volume.write(Box.whole(shape), data.astype(np.float32))
            found = seam_score(volume, grid, (1, 1, 1), 1e-6)
            assert 1 <= found["low"] <= found["score"] <= found["high"]
            if number:
                assert found["low"] > 1.05
            else:
                clear += found["low"] == 1
    assert clear >= volumes - 5  # more than five of 40 are one in seventy, if it is 95 %
