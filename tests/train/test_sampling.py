"""Samples: where they lie, how often each class is met, and that they repeat."""

import numpy as np
import pytest

from tessera.config import Model
from tessera.errors import TesseraError
from tessera.train.sampling import Sampler, take_census
from tessera.train.source import Region, open_data
from tessera.volume.box import Box


def _open(specimen, small, **changes):
    settings = Model.model_validate({**small, **changes})
    return open_data(settings, str(specimen / "volume.json"), str(specimen / "truth.zarr"))


@pytest.fixture
def region(specimen, small):
    return Region(_open(specimen, small), Box.of((0, 0, 0), (32, 40, 32)), (16, 16, 16))


def test_the_census_counts_every_voxel_once(region):
    census = take_census([region], 2)
    _, labels = region.read(region.box)
    assert census.voxels.tolist() == np.bincount(labels.ravel().astype(int)).tolist()
    cell = labels[8:16, 16:24, 24:32]
    assert census.counts[0][1, 2, 3].tolist() == [(cell == 0).sum(), (cell == 1).sum()]


def test_what_no_tile_saw_is_fed_as_the_mean(specimen, small):
    source = _open(specimen, small)
    box = Box.of((0, 0, 0), (32, 40, 48))
    before, raw = source.image(box), source.volume.read(box)
    hole = np.s_[5:9, 20:40, 0:17]
    raw[hole] = 0
    source.volume.write(box, raw)
    after = source.image(box)
    assert not after[hole].any()
    after[hole] = before[hole]
    assert np.array_equal(after, before)


def test_patches_stay_in_their_box_and_repeat(region):
    census = take_census([region], 2)
    sampler, again = (Sampler([region], census, (16, 16, 16), 7) for _ in range(2))
    places = [sampler.place(k)[1] for k in range(200)]
    assert all(region.box.contains(box) for box in places)
    assert places == [again.place(k)[1] for k in range(200)]
    assert len(set(places)) > 100


def test_patches_reach_beyond_the_volume_as_inference_does(specimen, small):
    """Mirrored voxels beyond the volume's own faces, and no label there; never beyond others."""
    source, patch = _open(specimen, small), (16, 16, 16)
    box = Box.of((0, 8, 0), (32, 40, 32))  # of 32 x 40 x 48: y ends, z whole, x begins
    region = Region(source, box, patch, mirrored=True)
    assert region.room == Box.of((-4, 8, -4), (36, 44, 32))
    assert region.hold()
    image, labels = region.read(Box.of((-4, 8, -4), (12, 24, 12)))
    inside = source.image(Box.of((0, 8, 0), (12, 24, 12)))
    index = np.ix_([4, 3, 2, 1, *range(12)], range(16), [4, 3, 2, 1, *range(12)])
    np.testing.assert_array_equal(image, inside[index])
    assert (labels[:4] == -1).all() and (labels[:, :, :4] == -1).all()
    assert (labels[4:, :, 4:] >= 0).all()
    sampler = Sampler([region], take_census([region], 2), patch, 3)
    places = [sampler.place(k)[1] for k in range(300)]
    assert all(region.room.contains(place) for place in places)
    assert min(place.start.z for place in places) == -4


def test_a_rare_class_is_met_as_often_as_the_others(region):
    """Drawn blindly, 3 in 100 patches would be about the one ball."""
    image, labels = region.read(region.box)
    only = np.where(labels > 0, 0, 0).astype(np.int16)
    only[4:9, 4:9, 4:9] = 1
    region._held = (image, only)
    sampler = Sampler([region], take_census([region], 2), (16, 16, 16), 0)
    met = np.mean([region.read(sampler.place(k)[1])[1].any() for k in range(300)])
    assert met > 0.45


def test_held_and_unheld_regions_read_the_same(specimen, small):
    box, patch = Box.of((3, 4, 5), (13, 38, 31)), (16, 16, 16)  # thinner than a patch
    held, disk = (Region(_open(specimen, small), box, patch) for _ in range(2))
    assert held.hold()
    assert held.room.shape.z == 16
    for start in ((0, 4, 5), (0, 10, 12)):
        cut = Box.of(start, tuple(a + 16 for a in start))
        for a, b in zip(held.read(cut), disk.read(cut), strict=True):
            assert np.array_equal(a, b)
    assert (held.read(held.room)[1][:3] == -1).all()
    assert held.digest() == disk.digest()


def test_sources_paint_over_each_other(specimen, small):
    path = str(specimen / "ids.zarr")
    labels = [
        {"path": path, "instances_of": "soma"},
        {"path": str(specimen / "truth.zarr")},
    ]
    source = _open(specimen, small, labels=labels)
    box = Box.whole(source.volume.shape)
    plain = _open(specimen, small)
    assert np.array_equal(source.labels.read(box), plain.labels.read(box))
    ids = _open(specimen, small, labels=labels[:1], target="boundaries").labels.read(box)
    assert set(np.unique(ids)) > {0, 1, 2}


def test_a_class_without_a_name_is_refused(specimen, small):
    source = _open(specimen, small, labels=[{"path": str(specimen / "ids.zarr")}])
    with pytest.raises(TesseraError, match="holds label .* names the classes"):
        source.labels.read(Box.whole(source.volume.shape))
