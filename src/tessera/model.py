"""``tessera model``: show what a bundle is, or make one of weights from elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tessera.nets import bundle


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    show = kinds.add_parser("show", help="say what a bundle is, and check its hashes")
    show.add_argument("bundle", help="folder that holds model.json and model.safetensors")

    join = kinds.add_parser("join", help="make one bundle of several: the mean of what they say")
    join.add_argument("out", help="folder of the ensemble's bundle")
    join.add_argument("bundles", nargs="+", help="folders of its members")

    ffn = kinds.add_parser("import-ffn", help="make a bundle of a published flood-filling network")
    ffn.add_argument("weights", type=Path, help=".npz of its variables, or a checkpoint's prefix")
    ffn.add_argument("out", type=Path, help="folder of the bundle")
    ffn.add_argument("--class", dest="name", default="neuron", help="what its objects are")
    triple: dict[str, Any] = {"type": int, "nargs": 3, "metavar": ("Z", "Y", "X")}
    ffn.add_argument("--fov", default=[33, 33, 33], help="field of view, voxels", **triple)
    ffn.add_argument("--deltas", default=[8, 8, 8], help="steps of a move, voxels", **triple)
    ffn.add_argument("--mean", type=float, default=128.0, help="grey value that it sees as 0")
    ffn.add_argument("--std", type=float, default=33.0, help="grey values that it sees as 1")
    ffn.add_argument(
        "--voxel-um",
        type=float,
        nargs=3,
        default=[0.01, 0.01, 0.01],
        metavar=("Z", "Y", "X"),
        help="voxel size of what it was trained on; the defaults are those of FIB-25",
    )


def main(args: argparse.Namespace) -> int:
    """Run a sub-command."""
    if args.what == "import-ffn":
        from tessera.nets.published import import_ffn

        geometry = {"fov": args.fov, "deltas": args.deltas}
        grey = (args.mean, args.std)
        import_ffn(args.weights, args.out, args.name, geometry, grey, tuple(args.voxel_um))
        print(describe(str(args.out)))
    elif args.what == "join":
        from tessera.nets.join import join

        join(args.bundles, args.out)
        print(describe(args.out))
    else:
        print(describe(args.bundle))
    return 0


def describe(folder: str) -> str:
    """Return what a person wants to know of a bundle, which is read and checked in full."""
    model = bundle.load(folder)
    facts = model.facts
    parameters = sum(p.numel() for p in model.net.parameters())
    options = sorted(facts.net["options"].items())
    rows = {
        "network": f"{facts.net['name']} {tuple(facts.net['channels'])}, {parameters:,} parameters",
        "options": ", ".join(f"{k}={_short(v)}" for k, v in options) or "none",
        "classes": f"{', '.join(facts.classes)} ({facts.activation})",
        "input": "(voxel - {mean:.6g}) / {std:.6g}".format(**facts.normalisation),
        "voxel_um": " x ".join(f"{v:g}" for v in facts.voxel_um),
        "halo_vox": " x ".join(map(str, facts.halo_vox)),
        "align_vox": " x ".join(map(str, facts.align_vox)),
        "training": _flat(facts.training),
        "data": _flat(facts.data),
        "digest": model.digest,
    }
    return "\n".join(f"{name:<11}{text}" for name, text in rows.items())


def _short(value: Any) -> str:
    """An option's value; of an ensemble's members their networks alone."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return " + ".join(str(member["name"]) for member in value)
    return str(value)


def _flat(parts: dict[str, object]) -> str:
    shown = [f"{k}={v}" for k, v in parts.items() if not isinstance(v, dict | list)]
    return ", ".join(shown) or "not recorded"
