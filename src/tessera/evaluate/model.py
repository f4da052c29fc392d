"""One model's scores: its classes voxel by voxel, its objects one by one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tessera.config import BoxSetting, Evaluate, Model
from tessera.errors import TesseraError
from tessera.evaluate import apart, scores, tables
from tessera.evaluate.boundaries import boundary_scores
from tessera.evaluate.detection import Census, Detection, detect
from tessera.evaluate.scores import Score
from tessera.evaluate.slices import Marked, marked, slice_pictures
from tessera.evaluate.tiles import read_json
from tessera.evaluate.truth import Truth, labelled_truth, simulated_truth
from tessera.evaluate.voxels import class_reader, clip_boxes, confusion, predicted_classes
from tessera.volume.box import Box, Triple
from tessera.volume.store import Volume, open_volume


@dataclass
class ModelFiles:
    """One model as the command line names it.

    Attributes:
        name: of the model.
        settings: its section.
        prediction: ``predict/<model>/store.json``.
        labels: class -> ``label/<model>/<class>/labels.json``.
        fragments: class -> ``labels.json`` of what was agglomerated into these labels.
    """

    name: str
    settings: Model | None = None
    prediction: Path | None = None
    labels: dict[str, Path] = field(default_factory=dict)
    fragments: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Scores by name, tables by file name, pictures."""

    scores: dict[str, Score]
    tables: dict[str, str]
    pictures: dict[str, np.ndarray]


def open_truth(
    files: ModelFiles,
    settings: Evaluate,
    simulated: tuple[Path, Path | None] | None,
    stack: ExitStack,
) -> Truth | None:
    """Return the truth for a model: ``evaluate.truth``, else its labels, else the simulation's."""
    assert files.settings is not None
    sources = settings.truth or files.settings.labels
    if sources:
        return labelled_truth(sources, files.settings.classes, stack)
    if simulated is None:
        return None
    classes, ids = simulated
    return simulated_truth(
        open_volume(classes), open_volume(ids) if ids else None, files.settings.classes
    )


def score_model(
    files: ModelFiles, settings: Evaluate, truth: Truth, image: Volume | None
) -> Outcome:
    """Score one model on its test boxes.

    Raises:
        TesseraError: truth and prediction are not of one shape, or a box lies outside.
    """
    assert files.settings is not None
    model = files.settings
    boxes = clip_boxes([_box(b, truth.shape) for b in model.split.test], truth.shape)
    result: dict[str, Score] = {}
    texts: dict[str, str] = {}
    marks: list[Marked] = []
    predicted = None
    output = (
        predicted_classes(files.prediction.parent, model.classes, model.target)
        if files.prediction
        else None
    )
    if output is not None:
        _same_shape(output, truth)
        predicted = class_reader(output, model.target)
        counts = confusion(truth.classes, predicted, boxes, len(model.classes))
        for index, name in enumerate(model.classes):
            if index and name in truth.named:
                units = counts[:, index]
                result[f"{name}.dice"] = scores.score(
                    units, scores.dice, settings.bootstrap, of="blocks"
                )
                result[f"{name}.iou"] = scores.score(
                    units, scores.iou, settings.bootstrap, of="blocks"
                )
        texts[f"{files.name}_blocks.csv"] = tables.blocks_csv(counts, model.classes)
    if files.prediction and model.target == "boundaries":
        result |= boundary_scores(files.prediction.parent, truth, boxes, settings.bootstrap)
    if files.prediction and (seams := files.prediction.parent / "seams.json").is_file():
        seam = read_json(seams)
        span = seam.get("low"), seam.get("high")
        result["predict.seam_score"] = Score(
            float(seam["score"]), "1", seam.get("faces", 1), *span, "block faces"
        )
    for name, path in files.labels.items():
        if name not in truth.named:
            continue
        labels = _labels_of(path)
        _same_shape(labels, truth)
        true, found = truth.census(name, boxes), read_census(path.parent / "objects.npz")
        match = detect(
            true, found, boxes, labels.voxel_um, settings.match_distance_um, _smallest(path)
        )
        result |= detection_scores(name, match, settings.bootstrap)
        if _apart(model) and name in truth.instances:
            true_ids = truth.instances[name]
            result |= apart.segmentation_scores(name, labels.read, true_ids, boxes)
            result |= apart.line_scores(name, labels, true_ids, boxes)
            if name in files.fragments:
                given = _labels_of(files.fragments[name])
                _same_shape(given, truth)
                joins = path.parent / "joins.npz"
                result |= apart.agglomeration_scores(name, given.read, true_ids, boxes, joins)
        frame = (labels.origin_um, labels.voxel_um)
        texts[f"{files.name}_{name}_objects.csv"] = tables.objects_csv(true, found, match, frame)
        marks.append(marked(name, truth.instances.get(name), labels.read, true, found, match))
    pictures = {}
    if image is not None and image.shape == truth.shape:
        pictures = slice_pictures(image, boxes[0], truth.classes, predicted, marks)
        pictures["classes"] = np.array(model.classes)
    return Outcome(result, texts, pictures)


def detection_scores(name: str, match: Detection, draws: int) -> dict[str, Score]:
    """Return precision, recall, F1, counts and centroid error of one class."""
    units = match.units()
    of = "objects"
    true, found = int(match.true_counts.sum()), int(match.found_counts.sum())
    apart = match.distance_um[match.true_counts & (match.partner_of_truth >= 0)]
    out = {
        f"{name}.precision": scores.score(units, scores.precision, draws, of=of),
        f"{name}.recall": scores.score(units, scores.recall, draws, of=of),
        f"{name}.f1": scores.score(units, scores.f1, draws, of=of),
        f"{name}.count_error": scores.score(units, scores.count_error_percent, draws, "%", of),
        f"{name}.count_true": Score(true, "objects", true, of=of),
        f"{name}.count_found": Score(found, "objects", found, of=of),
        f"{name}.match_distance": Score(match.within_um, "um"),
    }
    if len(apart):
        squares = np.stack([np.ones(len(apart)), apart**2], 1)
        out[f"{name}.centroid_rms"] = scores.score(
            squares, scores.root_mean_square, draws, "um", "matches"
        )
    return out


def _apart(model: Model) -> bool:
    """True for models that tell touching objects apart, so that cuts and merges are what counts."""
    return model.net == "ffn" or model.target in ("boundaries", "affinities")


def read_census(path: Path) -> Census:
    """Read the label stage's list of objects."""
    try:
        with np.load(path) as data:
            return Census(
                data["id"].astype(np.int64),
                data["voxels"].astype(np.int64),
                data["centroid_zyx_vox"].reshape(-1, 3).astype(float),
            )
    except (OSError, KeyError, ValueError) as error:
        raise TesseraError(
            f"{path}: is not a list of objects ({error}); run the label stage again"
        ) from None


def _smallest(labels: Path) -> int:
    """The size below which the label stage drops objects, from its plan beside the labels."""
    plan = labels.parent / "store.json"
    return int(read_json(plan).get("min_voxels", 0)) if plan.is_file() else 0


def _box(setting: BoxSetting, shape: Triple) -> Box:
    stop = tuple(n if s is None else s for s, n in zip(setting.stop, shape, strict=True))
    return Box.of(setting.start, stop)


def _labels_of(path: Path) -> Volume:
    return open_volume(path.parent / Path(read_json(path)["path"]).name)


def _same_shape(volume: Volume, truth: Truth) -> None:
    if tuple(volume.shape) != tuple(truth.shape):
        raise TesseraError(
            f"{volume.path}: {tuple(volume.shape)} voxels but the truth has {tuple(truth.shape)}; "
            "give labels of the same volume"
        )


def prefixed(all_scores: Sequence[tuple[str, dict[str, Score]]]) -> dict[str, Score]:
    """Join the scores of several models; with more than one, names begin with the model's."""
    if len(all_scores) == 1:
        return dict(all_scores[0][1])
    return {f"{model}.{name}": s for model, found in all_scores for name, s in found.items()}
