"""``tessera recon``: one raw scan to one tile, slab by slab."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tessera.arguments import add_ranks, add_settings, section
from tessera.config import Recon
from tessera.errors import TesseraError

_MOST_TRIED = 64


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    add_settings(parser)
    add_ranks(parser)
    parser.add_argument("--threads", type=int, default=1, help="threads of each rank")
    parser.add_argument(
        "--try",
        dest="candidates",
        metavar="FIRST:LAST:STEP",
        help="no tile: write axis.png, one row about each of these axes, labelled",
    )
    parser.add_argument("--row", type=int, help="detector row that --try shows; the middle")
    parser.add_argument("scan", type=Path, help="raw scan")
    parser.add_argument("out", type=Path, help="folder of the tile")


def main(args: argparse.Namespace) -> int:
    """Reconstruct."""
    from tessera.compute import ranks

    settings = section(args, Recon)
    if args.candidates is not None:
        columns = candidates(args.candidates)
        print(try_axes(args.scan, args.out, settings, columns, args.row, args.threads))
        return 0
    comm = ranks.world(args.ranks)
    reconstruct(args.scan, args.out, settings, comm, args.threads)
    return 0


def candidates(given: str) -> list[float]:
    """Return the columns of ``FIRST:LAST:STEP``, both ends among them.

    Raises:
        TesseraError: it is not that, or too many.
    """
    try:
        first, last, step = (float(word) for word in given.split(":"))
        count = int(np.floor((last - first) / step + 1e-6)) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        count = 0
    if not 1 <= count <= _MOST_TRIED:
        raise TesseraError(
            f"--try {given}: give FIRST:LAST:STEP in columns, {_MOST_TRIED} candidates at most, "
            "e.g. 1020:1030:1"
        )
    return [first + n * step for n in range(count)]


def try_axes(
    path: Path,
    out: Path,
    settings: Recon,
    columns: list[float],
    row: int | None = None,
    threads: int = 1,
) -> Path:
    """Write a labelled strip of candidate axes below ``out``; returns its path."""
    from tessera.formats import open_scan
    from tessera.formats.scan import angles_of, pixel_of
    from tessera.recon.backends import make_backend
    from tessera.recon.strip import write_strip
    from tessera.recon.tile import slice_columns

    with open_scan(path) as scan:
        angles = angles_of(scan, settings.angles_deg)
        pixel = pixel_of(scan.header, settings.pixel_um, path)
        side = slice_columns(scan.header.columns, settings)
        backend = make_backend(settings, angles, side, threads)
        write_strip(scan, settings, backend, pixel, columns, out / "axis.png", row)
    return out / "axis.png"


def reconstruct(
    path: Path, out: Path, settings: Recon, comm: Any | None = None, threads: int = 1
) -> None:
    """Write ``tile.zarr``, ``axis.json``, ``qc.npz`` and the record below ``out``.

    Raises:
        TesseraError: the scan is bad, or its rotation axis is not to be trusted.
    """
    from tessera.compute import ranks
    from tessera.formats import open_scan
    from tessera.formats.scan import angles_of, pixel_of
    from tessera.recon.backends import make_backend
    from tessera.recon.half import check_turn
    from tessera.recon.prepare import axis_of, pictures
    from tessera.recon.strip import write_sheet
    from tessera.recon.tile import Slabs, slice_columns
    from tessera.volume.engine import run_batch
    from tessera.volume.record import make_key

    with open_scan(path) as scan:
        angles = angles_of(scan, settings.angles_deg)
        if settings.axis.half_acquisition:
            check_turn(angles, str(path))
        pixel = pixel_of(scan.header, settings.pixel_um, path)
        axis = ranks.root_only(comm, axis_of, scan, angles, settings)
        side = slice_columns(scan.header.columns, settings)
        backend = make_backend(settings, angles, side, threads)
        qc = ranks.root_only(comm, pictures, scan, axis, settings, backend, pixel)
        ranks.root_only(comm, _write_axis, out, axis, qc)
        if axis.how == "found" and axis.confidence < settings.axis.min_confidence:
            ranks.root_only(comm, write_sheet, qc["axis_candidates"], out / "axis.png")
            raise TesseraError(
                f"{path}: the rotation axis is not to be trusted ({axis.column:.2f}, confidence "
                f"{axis.confidence:.2f}); look at the candidates in {out / 'axis.png'} and give "
                "recon.axis.column"
            )
        slabs = Slabs(scan, axis, settings, backend, out / "tile.zarr")
        key = make_key(
            settings=settings.model_dump(mode="json"),
            scan=_content(path),
            axis=round(axis.column, 6),
        )
        ranks.root_only(comm, slabs.create, key)
        run_batch(slabs.task(), list(slabs.grid), out / "records" / "0000.json", key, comm)


def _content(path: Path) -> list[Any]:
    """What tells one raw scan from another: sizes of its files, and hashes of their ends.

    Reading all of a scan once more would cost as much as reconstructing it; times of files are no
    content, and a copy is the same scan.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [(p.name, p.stat().st_size, _ends(p)) for p in files]


def _ends(path: Path, size: int = 1 << 24) -> str:
    import xxhash

    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        digest.update(file.read(size))
        file.seek(max(0, path.stat().st_size - size))
        digest.update(file.read(size))
    return digest.hexdigest()


def _write_axis(out: Path, axis: Any, qc: dict[str, np.ndarray]) -> None:
    from tessera.volume.record import atomic_write
    from tessera.volume.store import write_errors

    with write_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        np.savez(out / "qc.npz", **qc)  # type: ignore[arg-type]
        atomic_write(out / "axis.json", json.dumps(asdict(axis), indent=1))
