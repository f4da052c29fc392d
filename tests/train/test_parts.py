"""The parts of a training, each against something that it was not made from."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import find_boundaries

from tessera.config import Augment
from tessera.train import checkpoint, losses, schedule
from tessera.train.augment import Dice, augment, blur, contrast, shading, symmetry, warp
from tessera.train.feed import Feed
from tessera.train.targets import affinities, boundaries, make_target

SEEDS = st.integers(0, 2**31)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_boundaries_are_those_of_scikit_image(seed):
    ids = np.random.default_rng(seed).integers(0, 3, (5, 6, 7))
    edge, counts = boundaries(torch.from_numpy(ids))
    assert np.array_equal(edge[0].numpy() > 0, find_boundaries(ids, mode="thick"))
    assert counts.all()


def test_what_borders_on_the_unknown_does_not_count():
    ids = torch.tensor([1, 1, -1, 2, 2]).view(1, 1, 5)
    edge, counts = boundaries(ids)
    assert counts.flatten().tolist() == [True, False, False, False, True]
    assert edge.sum() == 0


def test_affinities_by_hand():
    same, counts = affinities(torch.tensor([1, 1, 2, 0, 0, -1]).view(1, 1, 6))
    assert same[2].flatten().tolist() == [0, 1, 0, 0, 0, 0]
    assert counts[2].flatten().tolist() == [False, True, True, True, True, False]
    assert not counts[0].any() and not counts[1].any()


def _random(seed, channels=3, samples=2):
    torch.manual_seed(seed)
    logits = torch.randn(samples, channels, 3, 4, 5)
    labels = torch.randint(-1, channels, (samples, 3, 4, 5))
    pairs = [make_target(one, "classes", channels) for one in labels]
    return logits, labels, torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_cross_entropy_is_torchs_with_ignored_voxels(seed):
    logits, labels, target, mask = _random(seed, samples=1)
    peer = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1)
    torch.testing.assert_close(losses.loss_of(logits, target, mask, "ce", True, None), peer)


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_soft_margin_is_torchs(seed):
    logits, _, target, _ = _random(seed)
    peer = torch.nn.functional.soft_margin_loss(logits, 2 * target - 1)
    full = torch.ones_like(target, dtype=torch.bool)
    torch.testing.assert_close(
        losses.loss_of(logits, target, full, "soft-margin", False, None), peer
    )


@pytest.mark.parametrize("kind", ["ce", "dice", "dice+ce"])
def test_the_mean_of_halves_is_the_whole(kind):
    """What makes ranks equal to one larger batch."""
    logits, _, target, mask = _random(3, samples=4)
    whole = losses.loss_of(logits, target, mask, kind, True, None)
    halves = [
        losses.loss_of(logits[s], target[s], mask[s], kind, True, None)
        for s in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_dice_of_a_perfect_and_of_a_wrong_answer():
    target = torch.zeros(1, 2, 2, 2, 2)
    target[:, 1, 0], target[:, 0, 1] = 1, 1
    mask = torch.ones(1, 1, 2, 2, 2, dtype=torch.bool)
    sure = 40 * (2 * target - 1)
    assert float(losses.loss_of(sure, target, mask, "dice", True, None)) == pytest.approx(
        0, abs=1e-4
    )
    assert float(losses.loss_of(-sure, target, mask, "dice", True, None)) == pytest.approx(1)


def test_what_is_not_labelled_has_no_gradient():
    logits, labels, target, mask = _random(5)
    logits.requires_grad_()
    losses.loss_of(logits, target, mask, "dice+ce", True, None).backward()
    unknown = (labels < 0)[:, None].expand_as(logits)
    assert (logits.grad[unknown] == 0).all() and (logits.grad[~unknown] != 0).all()


def test_median_frequency_by_hand():
    # Frequencies 0.8, 0.15, 0.05: the median is 0.15.
    weights = losses.median_frequency([80, 15, 5])
    assert weights == pytest.approx([0.1875, 1, 3])
    assert losses.median_frequency([10, 0]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("scaling", "ranks", "factor"),
    [("none", 8, 1), ("linear", 64, 64), ("sqrt", 64, 8), ("auto", 16, 16), ("auto", 64, 32)],
)
def test_learning_rate_grows_with_ranks(scaling, ranks, factor):
    assert schedule.rank_factor(scaling, ranks) == pytest.approx(factor)


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
def test_learning_rate_warms_up_and_falls(shape):
    rates = [schedule.learning_rate(1e-3, shape, s, 200, 4.0) for s in range(200)]
    assert rates[0] < 1e-3 and max(rates) == pytest.approx(4e-3)
    assert rates[9] == pytest.approx(4e-3)
    assert all(a >= b for a, b in zip(rates[9:], rates[10:], strict=False))
    middle = {"cosine": 0.5, "linear": 0.5, "constant": 1.0}[shape]
    assert rates[105] == pytest.approx(4e-3 * middle, rel=0.02)


def test_symmetries_are_the_48_of_a_cube():
    image = torch.arange(27.0).view(3, 3, 3)
    seen = {
        tuple(symmetry(image, image, (0, 1, 2), Dice(seed))[0].flatten().tolist())
        for seed in range(2000)
    }
    assert len(seen) == 48
    flat = {
        tuple(symmetry(image, image, (2,), Dice(seed))[0].flatten().tolist()) for seed in range(200)
    }
    assert len(flat) == 8


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_labels_move_with_the_image(seed):
    """An image that is its own labels stays so, under any geometry."""
    ball = sum((torch.arange(24.0) - 12).view(s) ** 2 for s in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)))
    labels = (ball < 49).long()
    moved, ids = warp(labels.float(), labels, (0, 1, 2), Dice(seed))
    inside = ids >= 0
    assert ((moved > 0.5) == (ids == 1))[inside].float().mean() > 0.97
    # Of 3000 seeds all keep 0.56 or more, and one of a hundred less than 0.6: scaled by 1.15 and
    # turned about three axes.
    assert inside.float().mean() > 0.5


@given(SEEDS, st.sampled_from([(20, 24, 24), (17, 9, 9), (1, 16, 16)]))
@settings(max_examples=20, deadline=None)
def test_a_warp_is_scipys_at_the_places_it_says(seed, shape):
    """Ramps that are warped alike say where each voxel came from."""
    from scipy.ndimage import map_coordinates

    random = np.random.default_rng(seed)
    image = random.normal(size=shape).astype(np.float32)
    labels = random.integers(0, 5, shape)
    ramps = np.indices(shape).astype(np.float32)
    moved, ids, *came = (
        part
        for data in (image, *ramps)
        for part in warp(torch.from_numpy(data), torch.from_numpy(labels), (1, 2), Dice(seed), 2.0)
    )
    at = np.stack([c.numpy() for c in came[::2]])
    inside = ids.numpy() >= 0
    peer = map_coordinates(image, at, order=1)
    assert inside.any()
    np.testing.assert_allclose(moved.numpy()[inside], peer[inside], atol=1e-3)
    sure = inside & (np.abs(at % 1 - 0.5) > 1e-3).all(0)
    near = np.rint(at).astype(int)
    np.testing.assert_array_equal(ids.numpy()[sure], labels[tuple(near)][sure])


@pytest.mark.parametrize("in_plane", [True, False])
def test_turns_stay_in_planes_of_z_where_asked(in_plane):
    """Planes of one value each are whole again afterwards, in order or reversed, if they do."""
    planes = torch.arange(15.0).view(-1, 1, 1).expand(15, 15, 15)
    options = Augment(in_plane=in_plane, contrast=0, noise=0, blur=0, sharpen=0, warp=0)
    kept = [
        bool((augment(planes, planes.int(), options, (0, 1, 2), seed)[0].diff(dim=0) != 0).all())
        for seed in range(60)
    ]
    assert all(kept) == in_plane and any(kept)


def test_a_sample_is_varied_by_its_seed_alone():
    image, labels = torch.randn(16, 16, 16), torch.randint(-1, 3, (16, 16, 16))
    always = Augment(contrast=1, noise=1, blur=1, sharpen=1, warp=1, missing=1)
    first = augment(image, labels, always, (0, 1, 2), 5)
    torch.rand(100)  # the global generator must not matter
    again = augment(image, labels, always, (0, 1, 2), 5)
    other = augment(image, labels, always, (0, 1, 2), 6)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert set(first[1].unique().tolist()) <= {-1, 0, 1, 2} and torch.isfinite(first[0]).all()


@given(SEEDS, st.sampled_from([1.0, 2.0]))
@settings(max_examples=20, deadline=None)
def test_shading_is_slow_and_contrast_keeps_the_order(seed, strength):
    """A step of shading from voxel to voxel is small beside its whole range; what was brighter
    stays brighter, whatever contrast, brightness and gamma."""
    field = shading(torch.Size((33, 33, 33)), Dice(seed), strength)
    whole = field.max() - field.min()
    for axis in range(3):
        # Linear between three points: half the axis rises by no more than the whole range.
        assert field.diff(dim=axis).abs().max() <= whole / 16 + 1e-6
    image = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(seed))
    changed = contrast(image, Dice(seed), strength)
    # Nearly equal values may change places by rounding.
    assert changed.flatten()[image.flatten().argsort()].diff().min() > -1e-5


def test_no_variation_is_none():
    image, labels = torch.randn(8, 8, 8), torch.zeros(8, 8, 8, dtype=torch.int16)
    never = Augment(symmetries=False, contrast=0, noise=0, blur=0, sharpen=0, warp=0)
    out = augment(image, labels, never, (0, 1, 2), 1)
    assert torch.equal(out[0], image) and torch.equal(out[1], labels)


def test_blur_is_scipys_gaussian():
    from scipy.ndimage import gaussian_filter

    image = np.random.default_rng(0).normal(size=(12, 13, 14)).astype(np.float32)
    peer = gaussian_filter(image, 1.0, mode="nearest", radius=2)
    np.testing.assert_allclose(blur(torch.from_numpy(image), 1.0).numpy(), peer, atol=1e-5)


def test_an_optimiser_goes_on_from_its_checkpoint(tmp_path):
    def made():
        torch.manual_seed(0)
        net = torch.nn.Conv3d(1, 2, 3)
        return net, torch.optim.Adam(net.parameters(), lr=0.1)

    def step(net, optimiser, seed):
        torch.manual_seed(seed)
        optimiser.zero_grad()
        net(torch.randn(1, 1, 4, 4, 4)).square().sum().backward()
        optimiser.step()

    net, optimiser = made()
    for seed in range(3):
        step(net, optimiser, seed)
    parts = {"net": net.state_dict(), "opt": checkpoint.optimiser_state(optimiser, net)}
    path = tmp_path / "c.safetensors"
    checkpoint.write(path, checkpoint.Checkpoint(checkpoint.pack(parts), {"step": 3}))
    other, others = made()
    found = checkpoint.read(path)
    assert found is not None and found.meta == {"step": 3}
    other.load_state_dict(found.part("net"))
    checkpoint.restore_optimiser(others, other, found.part("opt"))
    step(net, optimiser, 9)
    step(other, others, 9)
    assert torch.equal(net.weight, other.weight) and torch.equal(net.bias, other.bias)


def test_a_torn_checkpoint_is_none(tmp_path):
    path = tmp_path / "c.safetensors"
    assert checkpoint.read(path) is None
    path.write_bytes(b"\x00" * 20)
    assert checkpoint.read(path) is None


def test_an_error_of_the_reader_reaches_the_training():
    def fail(numbers):
        raise OSError("the disk is gone")

    with Feed(iter([(0,)]), fail) as feed, pytest.raises(OSError, match="the disk is gone"):
        next(iter(feed))
