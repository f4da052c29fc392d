"""The arguments that stages' commands share: where a command's settings come from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeVar

from tessera.errors import TesseraError

if TYPE_CHECKING:  # a quarter of a second, which passes that need no settings do not wait for
    from tessera.config import Model, Section

S = TypeVar("S", bound="Section")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add ``--config FILE`` (by hand) and ``--settings JSON`` (a rule's own section)."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--config", metavar="FILE", help="config.yaml to take this stage's section")
    group.add_argument("--settings", metavar="JSON", help="this stage's section itself")


def add_ranks(parser: argparse.ArgumentParser) -> None:
    """Add ``--ranks N``: how many MPI ranks there must be."""
    parser.add_argument(
        "--ranks",
        type=int,
        default=1,
        metavar="N",
        help="MPI ranks this command was started with; it refuses to start with another number",
    )


def section(args: argparse.Namespace, kind: type[S]) -> S:
    """Return a stage's settings as given by :func:`add_settings`, or the defaults."""
    if args.settings is not None:
        try:
            return kind.model_validate_json(args.settings)
        except ValueError:  # the sentence that says why needs all sections
            from tessera.config import parse_section

            return parse_section(kind, args.settings)
    if args.config is not None:
        from tessera.config import read_config

        found = getattr(read_config(args.config), kind.__name__.lower())
        if not isinstance(found, kind):
            raise TesseraError(f"{args.config}: has no section '{kind.__name__.lower()}'; add it")
        return found
    return kind()


def model_section(args: argparse.Namespace, name: str) -> Model:
    """Return the settings of model ``name`` as given by :func:`add_settings`."""
    from tessera.config import Model, parse_section, read_config

    if args.settings is not None:
        return parse_section(Model, args.settings)
    if args.config is not None:
        models = read_config(args.config).models
        if name not in models:
            known = ", ".join(models) or "none"
            raise TesseraError(f"{args.config}: no model '{name}' under models (there: {known})")
        return models[name]
    raise TesseraError("give the model's settings with --config FILE")
