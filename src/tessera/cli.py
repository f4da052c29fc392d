"""The command line: ``tessera <stage> ...``. The only module that knows all stages.

A stage's own module is imported only when it is called, so that ``tessera --help`` is instant.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from tessera import __version__
from tessera.errors import EXIT_FAILED, TesseraError

# name -> (module with `configure(parser)` and `main(args)`, one line of help)
COMMANDS = {
    "new": ("tessera.new.command", "look at the data and write a config to start from"),
    "check": ("tessera.check", "find what is wrong before the first job"),
    "plan": ("tessera.plan.command", "what a run will cost, and what limits make of it"),
    "simulate": ("tessera.simulate.command", "make raw scans of a specimen whose truth is known"),
    "recon": ("tessera.recon.command", "reconstruct one raw scan into one tile"),
    "mosaic": ("tessera.mosaic.command", "register tiles, solve their positions, fuse them"),
    "train": ("tessera.train.command", "train a model, alone or on N ranks"),
    "predict": ("tessera.predict.command", "run a model over a volume, block by block"),
    "label": ("tessera.label.command", "give objects ids that are global across blocks"),
    "analyse": ("tessera.analyse.command", "measure what was found"),
    "evaluate": ("tessera.evaluate.command", "score against truth"),
    "report": ("tessera.report.command", "write the HTML report"),
    "model": ("tessera.model", "show, join or import model bundles"),
    "precision": ("tessera.precision", "what a reduced precision gains and costs"),
    "status": ("tessera.status", "what is done, what failed, what is left"),
    "verify": ("tessera.verify", "read every shard against its record"),
}


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="tessera",
        description="From raw tomography tiles to a segmented, measured volume.",
        epilog=f"commands:\n{lines}\n\n'tessera COMMAND --help' says more. The whole way is one "
        "workflow: see README.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="tessera [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"tessera {__version__}")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="see below")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 failed, 2 bad input, 75 requeue."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(argv[:1])
    module, text = COMMANDS[args.command]
    try:
        command = importlib.import_module(module)
        parser = argparse.ArgumentParser(prog=f"tessera {args.command}", description=text)
        command.configure(parser)
        return command.main(parser.parse_args(argv[1:])) or 0
    except TesseraError as error:
        if os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMIX_RANK", "0")) == "0":
            print(f"tessera {args.command}: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
