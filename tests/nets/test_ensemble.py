"""An ensemble says the mean of what its members say."""

import json

import pytest
import torch

from tessera.cli import main
from tessera.config import parse_config
from tessera.errors import TesseraError
from tessera.nets import bundle, registry
from tessera.nets.join import join
from tessera.predict.trim import Trimmed

MEMBERS = [
    {"name": "unet3d", "channels": [4, 6], "options": {"stem": 1, "norm": "none"}},
    {
        "name": "unet3d",
        "channels": [3, 5, 4],
        "options": {"norm": "none", "convs": 1},
        "scale": 0.5,
        "shift": 2.0,
    },
]


def _ensemble(activation, outputs=3, members=MEMBERS):
    torch.manual_seed(0)
    options = {"members": members, "activation": activation}
    return registry.build("ensemble", outputs, (), options).eval().requires_grad_(False)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_its_probabilities_are_the_mean_of_its_members(activation):
    net = _ensemble(activation)
    x = torch.randn(1, 1, 32, 32, 32)
    turn = {"softmax": lambda t: torch.softmax(t, 1), "sigmoid": torch.sigmoid}[activation]
    first, second = net.nets[0](x), net.nets[1](0.5 * x + 2)
    wanted = (turn(first) + turn(second)) / 2
    torch.testing.assert_close(turn(net(x)), wanted, rtol=1e-4, atol=1e-6)


def test_it_sees_as_far_as_its_widest_member_on_a_grid_of_all():
    net = _ensemble("softmax")
    assert net.align == (8, 8, 8)
    assert all(
        h % 8 == 0 and 0 <= h - max(n.halo[a] for n in net.nets) < 8 for a, h in enumerate(net.halo)
    )


def test_it_computes_only_what_is_wanted():
    net = _ensemble("softmax")
    part = tuple((h, h + 8) for h in net.halo)
    x = torch.randn(1, 1, *(8 + 2 * h for h in net.halo))
    whole = net(x)[(..., *(slice(*span) for span in part))]
    torch.testing.assert_close(Trimmed(net)(x, part), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("members", "activation", "said"), [([], "softmax", "one member"), (MEMBERS, "tanh", "tanh")]
)
def test_what_is_no_ensemble_is_said(members, activation, said):
    with pytest.raises(TesseraError, match=said):
        _ensemble(activation, members=members)


def _bundle(folder, seed, mean, **changes):
    torch.manual_seed(seed)
    options = {"stem": 1, "norm": "none", "convs": 1}
    net = registry.build("unet3d", 2, (3, 4), options)
    facts = {
        "net": {"name": "unet3d", "channels": [3, 4], "options": options},
        "classes": ("background", "soma"),
        "activation": "softmax",
        "normalisation": {"mean": mean, "std": 10.0 + mean},
        "voxel_um": (1.0, 1.0, 1.0),
        "halo_vox": net.halo,
        "align_vox": net.align,
    }
    bundle.save(folder, net.state_dict(), bundle.Facts(**{**facts, **changes}))
    return str(folder)


def test_bundles_of_other_normalisations_are_joined(tmp_path, capsys):
    """By the command; each member sees the raw voxels as it did in its training."""
    folders = [_bundle(tmp_path / str(n), n, mean=5.0 * n) for n in range(3)]
    assert main(["model", "join", str(tmp_path / "all"), *folders]) == 0
    assert "unet3d + unet3d + unet3d" in capsys.readouterr().out
    members, whole = [bundle.load(f) for f in folders], bundle.load(tmp_path / "all")
    raw = torch.randint(0, 60, (1, 1, 16, 16, 16))
    wanted = sum(m.probabilities(m.net(m.normalise(raw))) for m in members) / 3
    found = whole.probabilities(whole.net(whole.normalise(raw)))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_bundles_of_other_classes_are_not(tmp_path):
    folders = [
        _bundle(tmp_path / "a", 0, 0.0),
        _bundle(tmp_path / "b", 1, 0.0, classes=("background", "vessel")),
    ]
    with pytest.raises(TesseraError, match="b: its classes are"):
        join(folders, tmp_path / "c")


def test_the_command_joins_what_the_config_names(tmp_path):
    folders = [_bundle(tmp_path / str(n), n, mean=0.0) for n in range(2)]
    settings = json.dumps({"classes": ["background", "soma"], "ensemble": ["a", "b"]})
    call = ["train", "m", "--settings", settings, "--volume", "none", "--out", str(tmp_path / "m")]
    assert main([*call, "--member", folders[0]]) == 2
    assert main([*call, "--member", folders[0], "--member", folders[1]]) == 0
    join(folders, tmp_path / "by_hand")
    assert bundle.load(tmp_path / "m").digest == bundle.load(tmp_path / "by_hand").digest


def test_a_config_names_members_that_there_are():
    def config(**changes):
        model = {"classes": ["background", "soma"], "labels": [{"path": "x"}]}
        both = {**model, "ensemble": ["a", "b"], **changes}
        return {"specimen": "s", "scans": "x", "models": {"a": model, "b": model, "both": both}}

    assert parse_config(config()).models["both"].ensemble == ("a", "b")
    for wrong, said in (
        ({"ensemble": ["a", "c"]}, "names 'c'"),
        ({"ensemble": ["both"]}, "names 'both'"),
        ({"classes": ["background", "vessel"]}, "other classes"),
    ):
        with pytest.raises(TesseraError, match=said):
            parse_config(config(**wrong))
