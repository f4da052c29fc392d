"""``tessera new DIR``: look at the data, write ``DIR/config.yaml``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import yaml

from tessera.config import parse_config
from tessera.errors import TesseraError

_RANKS = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder for config.yaml")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--scans", metavar="GLOB", help="raw scans, e.g. 'scan_*.h5' (in quotes)")
    start.add_argument("--volume", metavar="FILE[::DATASET]", help="a volume that exists")
    parser.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="[CLASS=]FILE[::DATASET]",
        help="labels of the volume; may be given for several classes",
    )


def main(args: argparse.Namespace) -> int:
    """Look, write, and say what comes next."""
    from tessera.volume.store import write_errors

    path: Path = args.folder / "config.yaml"
    if path.exists():
        raise TesseraError(f"{path}: is there already; change it, or give another folder")
    text = _text(args)
    parse_config(yaml.safe_load(text), str(path))
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    needed = text.count("NEEDED")
    print(f"wrote {path}; read it, then run: tessera check {path}")
    if needed:
        print(f"the data do not say everything: {needed} line(s) marked NEEDED")
    return 0


def _text(args: argparse.Namespace) -> str:
    from tessera.new import look
    from tessera.new.write import Device, config_text

    specimen = _specimen(args.folder)
    if args.scans is not None:
        if args.labels:
            raise TesseraError(
                "--labels: are of a volume, and raw scans have none yet; give them with --volume"
            )
        return config_text(specimen, look.look_at_scans(args.scans), None, [])
    volume = look.look_at_volume(args.volume)
    labels = [look.look_at_labels(given, volume.shape) for given in args.labels]
    if not labels:
        return config_text(specimen, None, volume, [])
    from tessera.compute.device import choose, memory_bytes

    gpu = choose().is_gpu
    # The profile for one machine trains on two ranks; each GPU is one rank's own.
    memory = memory_bytes() / (1 if gpu else _RANKS)
    return config_text(specimen, None, volume, labels, Device(memory, gpu))


def _specimen(folder: Path) -> str:
    """The folder's name, as a specimen may be called."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", folder.resolve().name).lstrip("._-")
    return name or "specimen"
