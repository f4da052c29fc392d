"""Assembly against volumes whose labels are known: cut, renamed, assembled, they come back."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tessera.config import Assembly, Label
from tessera.errors import TesseraError
from tessera.label import finish as last
from tessera.label.assembly import passes, plan
from tessera.label.assembly.consensus import consensus
from tessera.label.assembly.matching import match
from tessera.volume.box import Block
from tessera.volume.record import Record, write_record
from tessera.volume.store import open_volume
from tessera.volume.subvolume import Store, extent, make_grid, save_arrays, subvolume_file

SHAPE = (40, 70, 100)
OVERLAP = 16


def cells(seed, shape=SHAPE, count=40):
    """Voronoi cells, some of them background, each connected (cells are convex)."""
    random = np.random.default_rng(seed)
    points = random.uniform(0, 1, (count, 3)) * shape
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)[..., None, :]
    nearest = np.full(shape, np.inf)
    ids = np.zeros(shape, np.uint32)
    for number, point in enumerate(points):
        far = ((at[..., 0, :] - point) ** 2).sum(-1)
        ids[far < nearest] = number + 1
        nearest = np.minimum(nearest, far)
    ids[np.isin(ids, random.choice(count, count // 5, replace=False) + 1)] = 0
    return ids


def cut(truth, folder, seed, batches=1, change=None, key="k"):
    """Write a known volume as overlapping subvolumes with ids of their own."""
    random = np.random.default_rng(seed)
    grid = make_grid(truth.shape, (32, 32, 32), OVERLAP)
    store = Store(
        key=key,
        volume="",
        model="",
        shape=truth.shape,
        voxel_um=(1.0, 1.0, 1.0),
        origin_um=(0.0, 0.0, 0.0),
        block=tuple(grid.block),
        overlap_vox=OVERLAP,
        batches=1,
        classes=("neuron",),
        settings={},
    )
    store.write(folder)
    for block in grid:
        labels = truth[extent(block, truth.shape).slices]
        ids = np.unique(labels[labels > 0])
        table = np.zeros(int(truth.max()) + 1, np.uint32)
        table[ids] = random.permutation(len(ids)) + 1
        local = table[labels]
        if change is not None:
            local = change(block, local)
        save_arrays(
            subvolume_file(folder, block.index),
            labels=local[None],
            objects=np.zeros((0, 6), np.int64),
        )
    write_record(folder / "records" / "0000.json", Record(key, 0))
    return store


def assemble(source, folder, batches=1, order=1, sources=(), agreement=0.6, piece=1):
    label = Label(min_voxels=1, assembly=Assembly(agreement=agreement, min_voxels=piece))
    stores = [s / "store.json" for s in (source, *sources)]
    made = plan.create(label, "neuron", stores, batches, folder)
    for batch in list(range(batches))[::order]:
        passes.run_match(made, batch, batches)
    count = passes.merge(made)
    for batch in list(range(batches))[::order]:
        passes.run_relabel(made, batch, batches)
    assert last.finish(made.base) == count
    volume = open_volume(folder / "labels.zarr")
    from tessera.volume.box import Box

    return volume.read(Box.whole(volume.shape))


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel().astype(np.int64), b.ravel().astype(np.int64)]), axis=1)
    return len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


@pytest.mark.parametrize("seed", range(3))
def test_a_known_volume_comes_back(tmp_path, seed):
    truth = cells(seed)
    cut(truth, tmp_path / "predict", seed)
    found = assemble(tmp_path / "predict", tmp_path / "label")
    assert same_partition(found, truth)
    assert found.max() == len(np.unique(truth)) - 1
    objects = np.load(tmp_path / "label" / "objects.npz")
    assert objects["voxels"].tolist() == np.bincount(found.ravel())[1:].tolist()


def test_result_depends_on_no_batch_order_or_name(tmp_path):
    truth = cells(7)
    results = []
    for run, (batches, order) in enumerate([(1, 1), (3, 1), (5, -1)]):
        cut(truth, tmp_path / f"p{run}", seed=run)
        results.append(assemble(tmp_path / f"p{run}", tmp_path / f"l{run}", batches, order))
    assert all(np.array_equal(results[0], r) for r in results[1:])


def test_bent_object_that_returns_is_left_to_agglomeration(tmp_path):
    """A hairpin: its legs are two objects where the bend is not seen, so they stay apart there."""
    truth = np.zeros(SHAPE, np.uint32)
    truth[10:14, 5:10, 5:95] = 1
    truth[10:14, 20:25, 5:95] = 1
    truth[10:14, 5:25, 90:95] = 1
    truth[25:30, 5:25, 5:95] = 2

    def split(block, labels):
        import cc3d

        return cc3d.connected_components(labels, connectivity=26).astype(np.uint32)

    cut(truth, tmp_path / "predict", 0, change=split)
    found = assemble(tmp_path / "predict", tmp_path / "label")
    assert len(np.unique(found[truth == 1])) == 3  # two legs, and the bend in the last subvolume
    assert len(np.unique(found[truth == 2])) == 1
    # Nothing is joined that is not one.
    pairs = np.unique(np.stack([found[found > 0], truth[found > 0]]), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0]))


def test_disagreement_never_merges(tmp_path):
    """One subvolume joins two neurites that all others keep apart: they stay two objects."""
    truth = np.zeros(SHAPE, np.uint32)
    truth[:, 10:20, :] = 1
    truth[:, 21:30, :] = 2

    def join(block: Block, labels):
        if block.index != (0, 0, 1):
            return labels
        return (labels > 0).astype(np.uint32)

    cut(truth, tmp_path / "predict", 0, change=join)
    found = assemble(tmp_path / "predict", tmp_path / "label")
    first, second = found[5, 15, :], found[5, 25, :]
    assert first[2] != second[2] and first[-1] != second[-1]
    assert set(np.unique(first)) & set(np.unique(second)) <= {first[50]}


def test_touching_is_not_agreement():
    here, there = np.zeros((8, 8, 8), np.uint32), np.zeros((8, 8, 8), np.uint32)
    here[:, :4], there[:, 3:] = 5, 9  # share one plane of five
    assert len(match(here, there, 0.6)) == 0
    there[:, :4], there[:, 4:] = 9, 0
    assert match(here, there, 0.6).tolist() == [[5, 9, 256]]


def test_every_match_of_eighty_percent_is_made():
    here, there = np.zeros((10, 10, 10), np.uint32), np.zeros((10, 10, 10), np.uint32)
    here[...] = 1
    there[:8] = 4
    assert match(here, there, 0.6).tolist() == [[1, 4, 800]]


def test_other_boxes_or_class_are_refused(tmp_path):
    truth = cells(1)
    cut(truth, tmp_path / "a", 0)
    cut(truth[:, :, :64], tmp_path / "b", 0)
    with pytest.raises(TesseraError, match="other subvolumes"):
        assemble(tmp_path / "a", tmp_path / "l", sources=(tmp_path / "b",))
    with pytest.raises(TesseraError, match="fills no class"):
        plan.create(Label(), "soma", [tmp_path / "a" / "store.json"], 1, tmp_path / "l")
    with pytest.raises(TesseraError, match="fill store"):
        plan.create(Label(), "neuron", [tmp_path / "none" / "store.json"], 1, tmp_path / "l")


# --- consensus ----------------------------------------------------------------------------------

small = st.lists(st.integers(0, 3), min_size=12, max_size=12).map(
    lambda v: np.array(v, np.uint32).reshape(2, 2, 3)
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(small, small)
def test_voxels_agree_or_split(a, b):
    both = consensus([a, b]).ravel()
    a, b = a.ravel(), b.ravel()
    for i, j in itertools.combinations(range(len(a)), 2):
        together = a[i] == a[j] != 0 and b[i] == b[j] != 0
        assert (both[i] == both[j] != 0) == together
    assert same_partition(both, consensus([b, a]))


def test_consensus_of_one_is_itself_and_small_pieces_go():
    a = np.array([[1, 1, 1, 2]], np.uint32)
    b = np.array([[1, 1, 3, 3]], np.uint32)
    assert np.array_equal(consensus([b]), b)
    assert consensus([a, b]).tolist() == [[1, 1, 2, 3]]
    assert consensus([a, b], min_voxels=2).tolist() == [[1, 1, 0, 0]]


def test_consensus_of_two_models_splits_what_one_joins(tmp_path):
    truth = cells(3)
    joined = np.where(truth == 5, 6, truth)
    cut(joined, tmp_path / "a", 0)
    cut(truth, tmp_path / "b", 1, key="other")
    found = assemble(tmp_path / "a", tmp_path / "l", sources=(tmp_path / "b",))
    assert same_partition(found, truth)
