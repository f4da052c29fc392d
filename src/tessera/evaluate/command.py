"""``tessera evaluate``: scores with confidence intervals, on what training never saw.

What is given is scored: tiles and density where the specimen is simulated, each model where it
has truth and test boxes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera import __version__
from tessera.arguments import add_settings, section
from tessera.config import Evaluate, Model, parse_section, read_config
from tessera.errors import TesseraError

if TYPE_CHECKING:
    from tessera.evaluate.scores import Score

_MARGIN = 8  # voxels left out at the border when the reconstruction is compared


class _NewModel(argparse.Action):
    """``--model NAME`` opens a model; the options after it are that model's."""

    def __call__(self, parser: Any, args: Any, value: Any, option: str | None = None) -> None:
        from tessera.evaluate.model import ModelFiles

        args.models = [*(args.models or []), ModelFiles(value)]


class _OfModel(argparse.Action):
    """An option of the model that was named last."""

    def __call__(self, parser: Any, args: Any, value: Any, option: str | None = None) -> None:
        if not args.models:
            parser.error(f"{option} belongs to a model: give --model NAME before it")
        model = args.models[-1]
        if self.dest == "model_settings":
            model.settings = parse_section(Model, value)
        elif self.dest == "prediction":
            model.prediction = Path(value)
        else:
            name, equals, path = value.partition("=")
            if not equals:
                parser.error(f"{option} {value}: write CLASS=FILE")
            getattr(model, self.dest)[name] = Path(path)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_settings(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of scores")
    known = parser.add_argument_group("a simulated specimen's truth")
    known.add_argument("--truth", type=Path, metavar="FILE", help="simulate/truth.json")
    known.add_argument("--truth-classes", type=Path, metavar="ZARR", help="simulate/truth.zarr")
    known.add_argument("--truth-ids", type=Path, metavar="ZARR", help="simulate/soma_ids.zarr")
    known.add_argument("--density", type=Path, metavar="ZARR", help="simulate/density.zarr")
    made = parser.add_argument_group("what was made")
    made.add_argument("--positions", type=Path, metavar="FILE", help="mosaic/positions.json")
    made.add_argument(
        "--axis", type=Path, nargs="+", default=[], metavar="FILE", help="recon/<tile>/axis.json"
    )
    made.add_argument("--volume", type=Path, metavar="FILE", help="mosaic/volume.json")
    model = parser.add_argument_group("models, each with its options after its name")
    model.add_argument("--model", dest="models", action=_NewModel, metavar="NAME")
    model.add_argument("--model-settings", action=_OfModel, metavar="JSON", help="its section")
    model.add_argument(
        "--prediction", action=_OfModel, metavar="FILE", help="predict/<model>/store.json"
    )
    model.add_argument(
        "--labels",
        action=_OfModel,
        metavar="CLASS=FILE",
        help="label/<model>/<class>/labels.json; may be repeated",
    )
    model.add_argument(
        "--fragments",
        action=_OfModel,
        metavar="CLASS=FILE",
        help="labels.json of what was agglomerated: all thresholds are scored",
    )


def main(args: argparse.Namespace) -> int:
    """Write tables, pictures and, last, ``metrics.json``; print the scores."""
    models = args.models or []
    for model in models:
        if model.settings is None:
            model.settings = _settings_of(args.config, model.name)
    found = evaluate(section(args, Evaluate), args, models)
    for name, one in found.items():
        if ".curve." in name:
            continue
        span = "" if one.low is None else f"  [{one.low:.4g}, {one.high:.4g}]"
        print(f"{name:<28} {one.value:.4g} {one.unit}{span}  n={one.n} {one.of}".rstrip())
    return 0


def evaluate(settings: Evaluate, given: Any, models: Sequence[Any]) -> dict[str, Score]:
    """Score what is given.

    Args:
        settings: the stage's section.
        given: the files, by the names of the options.
        models: the models, as :class:`~tessera.evaluate.model.ModelFiles`.

    Returns:
        the scores by name, as they stand in ``metrics.json``.
    """
    import numpy as np

    from tessera.evaluate import tables
    from tessera.evaluate import tiles as positions
    from tessera.evaluate.model import open_truth, prefixed, score_model
    from tessera.volume.record import atomic_write
    from tessera.volume.store import open_volume, write_errors

    placed = positions.read_json(given.positions) if given.positions else None
    image = None
    if given.volume:
        image = open_volume(
            given.volume.parent / Path(positions.read_json(given.volume)["path"]).name
        )
    texts: dict[str, str] = {}
    pictures = {}
    per_model = []
    with ExitStack() as stack:
        simulated = (given.truth_classes, given.truth_ids) if given.truth_classes else None
        for model in models:
            truth = open_truth(model, settings, simulated, stack)
            if truth is None or not model.settings.split.test:
                print(f"model {model.name}: no truth or no test boxes (split.test), not scored")
                continue
            outcome = score_model(model, settings, truth, image)
            per_model.append((model.name, outcome.scores))
            texts |= outcome.tables
            pictures[model.name] = outcome.pictures
    found = prefixed(per_model)
    if given.truth and (placed or given.axis):
        tiles = positions.tile_errors(positions.read_json(given.truth), placed, given.axis)
        found |= positions.tile_scores(tiles, settings.bootstrap)
        texts["tiles.csv"] = tables.tiles_csv(tiles)
    found |= positions.trust_scores(placed, given.axis)
    found |= _density(given, image, placed, settings.bootstrap)

    with write_errors(given.out):
        given.out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            atomic_write(given.out / name, text)
        for name, arrays in pictures.items():
            if arrays:
                np.savez_compressed(given.out / f"{name}_slices.npz", **arrays)  # type: ignore[arg-type]
        _write(given.out, settings, models, found)
    return found


def _density(given: Any, image: Any, placed: Any, draws: int) -> dict[str, Score]:
    """Compare the reconstruction with the true density; integers have lost their unit."""
    from tessera.evaluate.density import reconstruction_scores
    from tessera.evaluate.tiles import discs
    from tessera.volume.store import open_volume

    if not given.density or image is None or image.dtype.kind != "f":
        return {}
    truth = open_volume(given.density)
    return reconstruction_scores(image, truth, discs(placed or {}), _MARGIN, draws)


def _write(out: Path, settings: Evaluate, models: Sequence[Any], found: dict[str, Score]) -> None:
    import json

    from tessera.volume.record import atomic_write

    provenance = {
        "version": __version__,
        "settings": settings.model_dump(mode="json"),
        "models": {
            m.name: {
                "test": [b.model_dump(mode="json") for b in m.settings.split.test],
                "labels": [s.model_dump(mode="json") for s in settings.truth or m.settings.labels],
            }
            for m in models
        },
    }
    atomic_write(out / "provenance.json", json.dumps(provenance, indent=1) + "\n")
    text = json.dumps({name: one.as_json() for name, one in found.items()}, indent=1)
    atomic_write(out / "metrics.json", text + "\n")


def _settings_of(config: str | None, name: str) -> Model:
    if config is None:
        raise TesseraError(f"model '{name}' has no settings; give --model-settings or --config")
    models = read_config(config).models
    if name not in models:
        known = ", ".join(models) or "none"
        raise TesseraError(f"{config}: no model '{name}' under models (there: {known})")
    return models[name]
