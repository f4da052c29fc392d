"""``tessera model``: show what a bundle is."""

from __future__ import annotations

import argparse

from tessera.nets import bundle


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    show = kinds.add_parser("show", help="say what a bundle is, and check its hashes")
    show.add_argument("bundle", help="folder that holds model.json and model.safetensors")


def main(args: argparse.Namespace) -> int:
    """Run a sub-command."""
    print(describe(args.bundle))
    return 0


def describe(folder: str) -> str:
    """Return what a person wants to know of a bundle, which is read and checked in full."""
    model = bundle.load(folder)
    facts = model.facts
    parameters = sum(p.numel() for p in model.net.parameters())
    rows = {
        "network": f"{facts.net['name']} {tuple(facts.net['channels'])}, {parameters:,} parameters",
        "options": ", ".join(f"{k}={v}" for k, v in sorted(facts.net["options"].items())) or "none",
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


def _flat(parts: dict[str, object]) -> str:
    shown = [f"{k}={v}" for k, v in parts.items() if not isinstance(v, dict | list)]
    return ", ".join(shown) or "not recorded"
