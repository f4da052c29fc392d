"""``tessera report``: one page that needs nothing from elsewhere, and scenes for viewers."""

from __future__ import annotations

import argparse
from pathlib import Path

from tessera.arguments import add_settings, section
from tessera.config import Report


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_settings(parser)
    parser.add_argument(
        "--results", type=Path, required=True, metavar="DIR", help="results/<specimen>"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the page, e.g. report/index.html"
    )
    parser.add_argument("--dag", type=Path, metavar="FILE", help="graph of rules, if it is known")


def main(args: argparse.Namespace) -> int:
    """Write the page and, beside it, ``viewer.json``."""
    path = write_report(section(args, Report), args.results, args.out, args.dag)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return 0


def write_report(settings: Report, root: Path, out: Path, dag: Path | None = None) -> Path:
    """Write the page of one specimen's results.

    Every part is optional: what the results do not hold is not shown.

    Args:
        settings: the stage's section.
        root: ``results/<specimen>``.
        out: the HTML file.
        dag: ``dag.json``, or None to tell the graph from the results.

    Raises:
        TesseraError: the folder is missing, or a file in it is broken.
    """
    import json

    from tessera import __version__
    from tessera.report import agglomeration, head, models, mosaic, objects, recon, run, scores
    from tessera.report.page import render
    from tessera.report.results import Results
    from tessera.report.viewers import neuroglancer_state
    from tessera.volume.record import atomic_write
    from tessera.volume.store import write_errors

    results = Results(root)
    sections = [
        objects.section(results),
        models.unseen(results),
        scores.section(results),
        agglomeration.section(results),
        recon.section(results),
        mosaic.section(results),
        models.training(results),
        run.section(results, dag),
        run.provenance(results),
    ]
    text = render(
        head.hero(results, settings.title),
        sections,
        f"Made by tessera {__version__}. This file needs no network.",
        ["page.js", "scene.js"],
    )
    with write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        state = neuroglancer_state(results)
        if state is not None:
            atomic_write(out.parent / "viewer.json", json.dumps(state, indent=1) + "\n")
        atomic_write(out, text)
    return out
