"""Bundles: what is written is what is read, and nothing else is."""

import json

import pytest
import torch

from tessera.cli import main
from tessera.errors import TesseraError
from tessera.nets import bundle, registry


def _facts(**changes):
    parts = {
        "net": {"name": "unet3d", "channels": [4, 6], "options": {"norm": "none"}},
        "classes": ("background", "soma"),
        "activation": "softmax",
        "normalisation": {"mean": 100.0, "std": 20.0},
        "voxel_um": (1.0, 1.0, 1.0),
        "halo_vox": (24, 24, 24),
        "align_vox": (4, 4, 4),
    }
    return bundle.Facts(**{**parts, **changes})


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(1)
    net = registry.build("unet3d", 2, (4, 6), {"norm": "none"})
    bundle.save(tmp_path, net.state_dict(), _facts())
    return tmp_path


def test_a_bundle_comes_back_as_it_was(folder):
    torch.manual_seed(1)
    net = registry.build("unet3d", 2, (4, 6), {"norm": "none"}).eval()
    found = bundle.load(folder)
    x = torch.randn(1, 1, 16, 16, 16)
    assert torch.equal(found.net(x), net(x))
    assert found.facts == _facts()
    assert torch.equal(found.normalise(torch.tensor([120], dtype=torch.uint8)), torch.ones(1))
    assert torch.allclose(found.probabilities(found.net(x)).sum(1), torch.ones(1))
    assert not any(p.requires_grad for p in found.net.parameters())


def test_what_no_tile_saw_is_fed_as_the_mean(folder):
    # An integer 0 is a value like any other, unless it is said; a float's exact 0 is empty space.
    fed = bundle.load(folder).normalise
    assert torch.equal(fed(torch.tensor([0.0, 100.0, 140.0])), torch.tensor([0.0, 0.0, 2.0]))
    assert torch.equal(fed(torch.tensor([0, 140], dtype=torch.uint8)), torch.tensor([-5.0, 2.0]))
    told = bundle.load(folder)
    told.facts.normalisation["empty"] = 0.0
    assert torch.equal(
        told.normalise(torch.tensor([0, 140], dtype=torch.uint8)), torch.tensor([0.0, 2.0])
    )


def test_the_same_model_gives_the_same_bytes(folder, tmp_path):
    again = bundle.load(folder)
    bundle.save(tmp_path / "b", again.net.state_dict(), again.facts)
    for name in (bundle.WEIGHTS, bundle.FACTS):
        assert (folder / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _flip(folder):
    data = bytearray((folder / bundle.WEIGHTS).read_bytes())
    data[-3] ^= 1
    (folder / bundle.WEIGHTS).write_bytes(data)


def _edit(folder):
    content = json.loads((folder / bundle.FACTS).read_text())
    content["normalisation"]["mean"] = 0.0
    (folder / bundle.FACTS).write_text(json.dumps(content))


def _cut(folder):
    data = (folder / bundle.WEIGHTS).read_bytes()
    (folder / bundle.WEIGHTS).write_bytes(data[: len(data) // 2])


def _other(folder):
    net = registry.build("unet3d", 2, (4, 8), {"norm": "none"})
    bundle.save(folder, net.state_dict(), _facts())


def _halo(folder):
    net = registry.build("unet3d", 2, (4, 6), {"norm": "none"})
    bundle.save(folder, net.state_dict(), _facts(halo_vox=(4, 4, 4)))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_flip, "its hash differs"),
        (_edit, "changed after it was written"),
        (_cut, "its hash differs"),
        (_other, "do not fit the network"),
        (_halo, "receptive field"),
        (lambda f: (f / bundle.WEIGHTS).unlink(), "cannot be read"),
        (lambda f: (f / bundle.FACTS).unlink(), "cannot be read"),
        (lambda f: (f / bundle.FACTS).write_text("{"), "not JSON"),
        (lambda f: (f / bundle.FACTS).write_text('{"a": 1}'), "not a bundle"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused_in_one_sentence(folder, capsys, harm, said):
    harm(folder)
    with pytest.raises(TesseraError, match=said):
        bundle.load(folder)
    assert main(["model", "show", str(folder)]) == 2
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) == 1 and "Traceback" not in told


def test_show_says_what_a_person_asks(folder, capsys):
    assert main(["model", "show", str(folder)]) == 0
    told = capsys.readouterr().out
    for word in ("unet3d", "background, soma", "24 x 24 x 24", "(voxel - 100) / 20"):
        assert word in told
