"""Statistics in pieces against numpy on the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tessera.errors import TesseraError
from tessera.volume import statistics as st
from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, Volume, create_volume


def stored(path: Path, data: np.ndarray) -> Volume:
    layout = Layout(
        Triple(*data.shape), str(data.dtype), (1.0,) * 3, Triple(8, 8, 8), Triple(8, 16, 16)
    )
    volume = create_volume(path, layout)
    volume.write(Box.whole(data.shape), data)
    return Volume(path)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a small volume many pieces."""
    monkeypatch.setattr(st, "_PIECE", 8 * 16 * 16)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "uint16"])
def test_as_numpy_says(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    data = (rng.gamma(3.0, 12.0, (21, 40, 37)) + 1).clip(1, 255).astype(dtype)
    found = st.statistics(stored(tmp_path / "v.zarr", data))
    values = data.astype(float)
    assert found["count"] == data.size
    for name, truth in (("mean", values.mean()), ("std", values.std())):
        assert found[name] == pytest.approx(truth, rel=1e-6)
    assert (found["min"], found["max"]) == (values.min(), values.max())
    step = 1.0 if dtype != "float32" else (values.max() - values.min()) / 2**12
    for name, q in (("p01", 1), ("p50", 50), ("p99", 99)):
        assert found[name] == pytest.approx(np.percentile(values, q), abs=step)
    assert sum(found["histogram"]) == data.size
    assert len(found["edges"]) == len(found["histogram"]) + 1 <= 257
    counts, _ = np.histogram(values, bins=found["edges"])
    assert np.abs(np.array(found["histogram"]) - counts).sum() <= (0 if dtype != "float32" else 60)


def test_empty_space_and_nan_do_not_count(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(5, 1, (16, 32, 32)).astype(np.float32)
    data[:, :10] = 0
    data[3, 20, 20] = np.nan
    inside = data[np.isfinite(data) & (data != 0)]
    found = st.statistics(stored(tmp_path / "v.zarr", data))
    assert found["count"] == inside.size
    assert found["mean"] == pytest.approx(float(inside.mean()), rel=1e-5)


def test_zero_of_integers_is_empty_where_it_is_said(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 200, (16, 32, 32)).astype(np.uint8)
    data[:, :10] = 0
    layout = Layout(Triple(16, 32, 32), "uint8", (1.0,) * 3, Triple(8, 8, 8), Triple(8, 16, 16))
    for said, counted in ({}, data), ({"empty": 0}, data[:, 10:]):
        path = tmp_path / f"{len(said)}.zarr"
        create_volume(path, layout, said).write(Box.whole(data.shape), data)
        found = st.statistics(Volume(path))
        assert (found["count"], found["min"]) == (counted.size, counted.min())
        assert found["mean"] == pytest.approx(counted.mean(), rel=1e-6)


def test_a_mask_of_columns(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(5, 1, (16, 40, 33)).astype(np.float32)
    mask = np.hypot(*np.meshgrid(np.arange(40) - 20, np.arange(33) - 16, indexing="ij")) < 12
    found = st.percentiles(stored(tmp_path / "v.zarr", data), (5, 95), mask)
    np.testing.assert_allclose(found, np.percentile(data[:, mask], (5, 95)), atol=5e-3)


def test_one_value_and_none(tmp_path: Path) -> None:
    found = st.statistics(stored(tmp_path / "a.zarr", np.full((9, 9, 9), 2.5, np.float32)))
    assert found["mean"] == found["min"] == found["max"] == 2.5 and found["std"] == 0
    assert found["p50"] == pytest.approx(2.5, rel=1e-5)
    with pytest.raises(TesseraError, match="nothing but empty"):
        st.statistics(stored(tmp_path / "b.zarr", np.zeros((9, 9, 9), np.float32)))


def test_it_does_not_depend_on_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).normal(size=(40, 64, 64)).astype(np.float32)
    volume = stored(tmp_path / "v.zarr", data)
    first = st.statistics(volume)
    monkeypatch.setattr(st, "_WORKERS", 1)
    assert st.statistics(volume) == first
