"""Agglomeration scored at every threshold: one object of two halves, and a neighbour."""

import numpy as np
import pytest

from tessera.errors import TesseraError
from tessera.evaluate.apart import THRESHOLDS, agglomeration_scores, line_scores
from tessera.volume.box import Box, Triple
from tessera.volume.store import Layout, create_volume


@pytest.fixture
def cut():
    """(truth, fragments): truth 1 is cut into fragments 1 and 2 of one size, truth 2 is 3."""
    truth = np.zeros((8, 8, 48), np.uint32)
    truth[1:7, 1:4, 4:44], truth[1:7, 5:8, 4:44] = 1, 2
    fragments = truth.copy()
    fragments[truth == 2] = 3
    fragments[(truth == 1) & (np.arange(48) >= 24)] = 2
    return truth, fragments


def reader(array):
    return lambda box: array[box.slices]


def test_curve_falls_where_the_right_pair_is_joined_and_rises_with_the_wrong_one(cut, tmp_path):
    truth, fragments = cut
    pairs = np.array([(1, 2), (2, 3)])
    scores = np.array([0.7, 0.3])
    np.savez(tmp_path / "joins.npz", pairs=pairs, scores=scores)
    boxes = [Box.whole(truth.shape)]
    found = agglomeration_scores(
        "n", reader(fragments), reader(truth), boxes, tmp_path / "joins.npz"
    )
    assert found["n.fragments.voi_split_both"].value == pytest.approx(0.5)  # half the voxels: 1 bit
    for at in THRESHOLDS:
        split, merge = (found[f"n.curve.{at:.2f}.voi_{k}_both"].value for k in ("split", "merge"))
        assert split == pytest.approx(0.5 if at > 0.7 else 0, abs=1e-9)
        assert merge == pytest.approx(1.0 if at <= 0.3 else 0, abs=1e-9)


def test_missing_joins_are_said(cut, tmp_path):
    read = reader(cut[0])
    with pytest.raises(TesseraError, match="run the label stage again"):
        agglomeration_scores("n", read, read, [Box.whole(cut[0].shape)], tmp_path / "joins.npz")


def test_lines_are_cut_where_labels_are(cut, tmp_path):
    truth, fragments = cut
    layout = Layout(Triple(*truth.shape), "uint32", (1.0, 1.0, 0.5), Triple(8, 8, 16))
    volume = create_volume(tmp_path / "labels.zarr", layout)
    volume.write(Box.whole(truth.shape), fragments)
    found = line_scores("n", volume, reader(truth), [Box.whole(truth.shape)])
    length = found["n.erl_most_um"].value  # two lines of one length
    assert found["n.edges_split"].value == pytest.approx(0.5 / (2 * length))  # one edge of x
    assert found["n.edges_correct"].value + found["n.edges_split"].value == pytest.approx(1)
    assert found["n.erl_um"].value == pytest.approx(0.75 * length, rel=0.03)
    assert found["n.erl_um"].n == 2
