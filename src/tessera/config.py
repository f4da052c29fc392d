"""What the user asked for: one frozen model a stage, read from one ``config.yaml``.

A stage sees its own section alone. Units stand in the names (``_um``, ``_vox``, ``_deg``);
where a job runs (threads, memory, queues) is a profile's business and never stands here.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tessera.errors import TesseraError

S = TypeVar("S", bound="Section")
Positive = Annotated[float, Field(gt=0)]
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
Fraction = Annotated[float, Field(ge=0, le=1)]
Chance = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- where the data are ---------------------------------------------------------------------


class VolumeSource(Section):
    """A volume on disk that exists already."""

    path: str = Field(description="HDF5 file, folder or glob of TIFFs, multi-page TIFF, or Zarr")
    dataset: str | None = Field(None, description="dataset inside an HDF5 or Zarr file")
    voxel_um: tuple[Positive, Positive, Positive] | None = Field(
        None, description="voxel size (z, y, x) in micrometres, where the file does not say"
    )


class LabelSource(Section):
    """Voxels that a person has labelled: class ids, or instances that count as one class."""

    path: str
    dataset: str | None = None
    instances_of: str | None = Field(
        None, description="the dataset holds instance ids, all of this class; else class ids"
    )


class BoxSetting(Section):
    """A box of voxels, half open, in z, y, x; None is the volume's edge."""

    start: tuple[int, int, int] = (0, 0, 0)
    stop: tuple[int | None, int | None, int | None] = (None, None, None)

    def overlaps(self, other: BoxSetting) -> bool:
        """True if the boxes share a voxel, whatever the volume's size."""
        return all(
            (b is None or c < b) and (d is None or a < d)
            for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True)
        )


# --- stages -----------------------------------------------------------------------------------


class Simulate(Section):
    """A spinal-cord-like specimen, scanned as a grid of overlapping tiles."""

    seed: int = 1
    shape: Size = Field((96, 232, 232), description="the fused field (z, y, x) in voxels")
    voxel_um: Positive = 1.3
    tiles: Size = Field((1, 2, 2), description="tiles along z, y, x")
    overlap_vox: Annotated[int, Field(ge=0)] = 32
    angles: Annotated[int, Field(ge=2)] = 361
    somas: Annotated[int, Field(ge=0)] = 120
    vessels: Annotated[int, Field(ge=0)] = 14
    fibres: Annotated[int, Field(ge=0)] = 60
    photons: Positive = Field(6.0e4, description="mean count of an unattenuated pixel")
    rings: Annotated[float, Field(ge=0)] = Field(0.01, description="spread of the pixel gains")
    axis_error_vox: Annotated[float, Field(ge=0)] = 6.0
    stage_error_vox: Annotated[float, Field(ge=0)] = 3.0


class Axis(Section):
    """The rotation axis: found by itself, or given."""

    column: float | None = Field(None, description="axis as a pixel-centre column; None finds it")
    search_vox: Annotated[float, Field(gt=0)] = Field(
        40.0, description="how far from the middle of the detector the axis may lie"
    )
    tilt: bool = Field(False, description="fit a line of axes over the rows, not one axis")
    half_acquisition: bool = Field(
        False, description="360 degrees about an axis near the detector's edge; tiles twice as wide"
    )
    min_confidence: Fraction = Field(0.2, description="a job stops below this confidence")


class Rings(Section):
    """Stripe removal in the sinogram, one method of the field."""

    method: Literal["none", "sorting", "wavelet-fourier", "titarenko", "all"] = "sorting"
    size: Annotated[int, Field(ge=3)] = Field(21, description="window in columns (sorting, all)")
    level: Annotated[int, Field(ge=1)] = Field(5, description="wavelet levels")
    sigma: Positive = Field(1.0, description="damping in Fourier space (wavelet-fourier)")
    snr: Annotated[float, Field(ge=1)] = Field(3.0, description="how large a stripe counts (all)")


class Phase(Section):
    """Phase retrieval of a specimen of one material (Paganin)."""

    energy_kev: Annotated[float, Field(ge=1, le=500)] = Field(
        description="photon energy in keV, 1 to 500"
    )
    distance_mm: Annotated[float, Field(ge=0.1, le=1e5)] = Field(
        description="specimen to detector in mm, 0.1 to 100000"
    )
    delta_beta: Annotated[float, Field(ge=1, le=1e5)] = Field(
        description="delta / beta of the material, 1 to 100000"
    )


class Recon(Section):
    """From one raw scan to one reconstructed tile of linear attenuation in 1/cm."""

    backend: Literal["gridder", "finufft", "torch", "tomopy", "sirt", "cgls"] = Field(
        "gridder",
        description="torch: on a GPU; tomopy: gridrec, in the environment of envs/recon.yaml; "
        "sirt, cgls: the ASTRA toolbox",
    )
    iterations: Annotated[int, Field(gt=0)] = Field(100, description="of sirt and cgls")
    filter: Literal["ramp", "shepp", "cosine", "hann", "hamming", "parzen", "none"] = "ramp"
    pixel_um: Positive | None = Field(None, description="detector pixel; None reads the file's")
    angles_deg: float | None = Field(
        None, description="range of evenly spaced angles, where the file holds none"
    )
    zingers: bool = True
    dead_pixels: bool = True
    phase: Phase | None = Field(None, description="None: absorption alone")
    rings: Rings = Rings()
    axis: Axis = Axis()
    roi_extend: bool = Field(True, description="the tile is narrower than the specimen")
    rows: Annotated[int, Field(gt=0)] = Field(
        32, description="rows of one slab at most; large slices make it fewer"
    )


class Mosaic(Section):
    """From tiles to one volume: registration, one global solution, fusion."""

    kind: Literal["volumes", "projections"] = "volumes"
    max_shift_vox: Annotated[float, Field(gt=0)] = Field(
        8.0, description="how far a stage position may be off, per axis"
    )
    min_quality: Fraction = Field(0.3, description="correlation below which a pair is left out")
    max_residual_vox: Positive = Field(
        1.0, description="the gate: a larger residual of the solution stops the workflow"
    )
    match_brightness: bool = True
    chunk: Size = (32, 32, 32)
    shard: Size = (64, 64, 64)
    batches: Annotated[int, Field(gt=0)] | None = None
    dtype: Literal["float32", "uint16", "uint8"] = "float32"
    window: tuple[float, float] | None = Field(
        None, description="values mapped to the integer range; None takes it from the histogram"
    )
    levels: Annotated[int, Field(ge=1, le=10)] = 3
    tiff: bool = Field(False, description="write a TIFF stack beside the OME-Zarr")


class TrainSplit(Section):
    """Boxes for training, validation and test. A box may not overlap one of another use."""

    train: tuple[BoxSetting, ...] = Field((), description="empty: the whole volume")
    validation: tuple[BoxSetting, ...] = ()
    test: tuple[BoxSetting, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> TrainSplit:
        used = [(n, b) for n in ("train", "validation", "test") for b in getattr(self, n)]
        for i, (name, box) in enumerate(used):
            for other_name, other in used[i + 1 :]:
                if name != other_name and box.overlaps(other):
                    raise ValueError(
                        f"the {name} box from {box.start} and the {other_name} box from "
                        f"{other.start} overlap; move one so that no voxel has two uses"
                    )
        return self


class LabelledVolume(Section):
    """A volume beside the specimen's own that a model learns from; boxes are of its voxels."""

    volume: VolumeSource
    labels: tuple[LabelSource, ...] = Field(min_length=1)
    split: TrainSplit = TrainSplit()


class Augment(Section):
    """How often (0 to 1) a training sample is varied in each way."""

    symmetries: bool = Field(True, description="reflections, and turns by 90 degrees of equal axes")
    contrast: Fraction = Field(0.5, description="contrast, brightness and gamma")
    noise: Fraction = 0.3
    blur: Fraction = 0.1
    sharpen: Fraction = 0.1
    warp: Fraction = Field(0.15, description="free rotation, scaling and elastic deformation")
    missing: Fraction = Field(0.0, description="slices that are missing, as in serial sections")
    shading: Fraction = Field(0.0, description="slow changes of brightness across the sample")
    strength: Annotated[float, Field(gt=0, le=3)] = Field(
        1.0, description="how far contrast, shading and warp go; more where labels are few"
    )


class Model(Section):
    """One network with its classes, targets and training."""

    net: Literal["unet3d", "unet2d", "segnet", "ffn"] = "unet3d"
    classes: tuple[str, ...] = Field(("background",), description="class 0 first")
    target: Literal["classes", "multilabel", "boundaries", "affinities"] = "classes"
    labels: tuple[LabelSource, ...] = Field((), description="empty: the simulated truth")
    split: TrainSplit = TrainSplit()
    volumes: tuple[LabelledVolume, ...] = Field(
        (), description="more labelled volumes to learn from, beside the specimen's own"
    )
    channels: tuple[Annotated[int, Field(gt=0)], ...] = (24, 48)
    net_options: dict[str, Any] = Field(
        default_factory=dict, description="what only this network knows, e.g. depth of an FFN"
    )
    weights: str | None = Field(
        None, description="published weights of an FFN (.npz): imported, and nothing is trained"
    )
    weights_mean_std: tuple[float, Positive] = Field(
        (128.0, 33.0), description="grey values that imported weights see as 0, and as 1 more"
    )
    ensemble: tuple[str, ...] = Field(
        (), description="other models of the config: their mean, and nothing is trained"
    )
    bundle: str | None = Field(
        None, description="folder of a model that was trained elsewhere: nothing is trained"
    )
    patch: Size = (64, 64, 64)
    batch: Annotated[int, Field(gt=0)] = Field(2, description="samples a rank and step")
    accumulate: Annotated[int, Field(gt=0)] = Field(
        1, description="batches whose gradients are summed for one step"
    )
    steps: Annotated[int, Field(gt=0)] = 400
    learning_rate: Positive = 2e-3
    lr_scaling: Literal["auto", "linear", "sqrt", "none"] = Field(
        "auto", description="with the number of ranks; auto: linear to 16, square root beyond"
    )
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    loss: Literal["dice+ce", "ce", "dice", "soft-margin"] = "dice+ce"
    class_weights: Literal["none", "median-frequency"] = "none"
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.99
    augment: Augment = Augment()
    checkpoint_every: Annotated[int, Field(gt=0)] = 100
    validate_every: Annotated[int, Field(gt=0)] = 100
    early_stop: Annotated[int, Field(gt=0)] | None = Field(
        None, description="validations without a better score after which training ends"
    )
    compression: Literal["none", "fp16"] = Field(
        "none", description="of gradients on their way between ranks"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    seed: int = 0

    @property
    def is_trained(self) -> bool:
        """Whether the workflow trains it, rather than taking it from elsewhere."""
        return not (self.weights or self.ensemble or self.bundle)

    @model_validator(mode="after")
    def _named(self) -> Model:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"the classes {list(self.classes)} name one twice; name each once")
        for source in (*self.labels, *(s for v in self.volumes for s in v.labels)):
            if source.instances_of is not None and source.instances_of not in self.classes:
                raise ValueError(
                    f"labels of '{source.instances_of}' in {source.path} are none of the classes "
                    f"{list(self.classes)}; name it under classes"
                )
        if self.weights is not None and self.net != "ffn":
            raise ValueError(
                f"weights are imported for net: ffn, not for {self.net}; take them out, or set net"
            )
        given = [n for n in ("weights", "ensemble", "bundle") if getattr(self, n)]
        if len(given) > 1:
            raise ValueError(f"a model comes from {' or from '.join(given)}; give one of them")
        split = self.split
        if self.is_trained and not split.train and (split.validation or split.test):
            raise ValueError(
                "validation or test boxes are given without train boxes, and training would take "
                "the whole volume; give train boxes that leave them out"
            )
        if self.target == "classes" and self.net != "ffn" and len(self.classes) < 2:
            raise ValueError(
                f"classes {list(self.classes)} leave nothing to tell apart; name the background "
                "and at least one class"
            )
        if self.target == "multilabel" and len(self.classes) > 31:
            raise ValueError(
                f"{len(self.classes)} independent classes are more than the 31 that a label holds; "
                "take classes out, or target: classes"
            )
        if self.volumes and self.net == "ffn":
            raise ValueError(
                "a flood-filling network learns from the specimen's own volume alone; take its "
                "volumes out"
            )
        return self


class Fill(Section):
    """How a flood-filling network fills subvolumes (doi:10.1038/s41592-018-0049-4)."""

    subvolume: Size = Field((192, 192, 192), description="what a subvolume owns, in voxels")
    overlap_vox: Annotated[int, Field(ge=2)] = Field(
        40, description="voxels that neighbouring subvolumes share, more than a field of view"
    )
    orders: tuple[Literal["forward", "reverse"], ...] = Field(
        ("forward",), min_length=1, description="orders of seeds; each fills anew, labels agree"
    )
    start: Chance = Field(0.95, description="probability that a seed starts with")
    pad: Chance = Field(0.05, description="probability of voxels that were not reached yet")
    move_threshold: Chance = 0.9
    segment_threshold: Chance = 0.6
    min_voxels: Annotated[int, Field(ge=1)] = Field(1000, description="of an object")
    min_distance_vox: Annotated[int, Field(ge=0)] = Field(
        1, description="a seed this near an object is passed over"
    )
    window_vox: Annotated[int, Field(ge=16)] = Field(
        49, description="side of the box about a contact in which fragments are filled again"
    )
    checkpoint_minutes: Positive = Field(10.0, description="between checkpoints of a subvolume")


class Predict(Section):
    """Inference over overlapping blocks."""

    block: Size = Field((64, 64, 64), description="a shard in voxels; blocks are whole shards")
    chunk: Size = (32, 32, 32)
    memory_gib: Positive = Field(
        1.5, description="what a block may take: larger blocks compute fewer voxels twice"
    )
    batches: Annotated[int, Field(gt=0)] | None = None
    output: Literal["probabilities", "classes"] = "probabilities"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    augment: bool = Field(False, description="average over reflections (8 passes)")
    mask: VolumeSource | None = None
    fill: Fill = Field(Fill(), description="of flood-filling networks")


class Assembly(Section):
    """How fragments of overlapping subvolumes become objects; in doubt they stay apart."""

    agreement: Annotated[float, Field(gt=0.5, le=1)] = Field(
        0.6, description="share of either fragment's overlap that the other must hold"
    )
    min_voxels: Annotated[int, Field(ge=1)] = Field(
        100, description="of a piece after consensus, and of what two fragments share"
    )
    agglomerate: bool = Field(False, description="join fragments that fill each other")
    recovered: Fraction = Field(
        0.4, description="share of each fragment that the fill from the other must reach"
    )
    min_contact_vox: Annotated[int, Field(ge=1)] = Field(
        30, description="faces of voxels that two fragments must share to be tried"
    )


class Label(Section):
    """Connected components with ids that are global across blocks."""

    classes: tuple[str, ...] = Field(("soma",), description="classes whose objects get ids")
    threshold: Fraction = 0.5
    connectivity: Literal[6, 18, 26] = 6
    min_voxels: Annotated[int, Field(ge=0)] = 100
    batches: Annotated[int, Field(gt=0)] | None = None
    block: Size = (64, 64, 64)
    assembly: Assembly = Field(Assembly(), description="of subvolumes that an FFN filled")


class Analyse(Section):
    """What is measured on which class."""

    min_volume_um3: Annotated[float, Field(ge=0)] = Field(
        0.0, description="smaller objects are left out of tables and counts"
    )


class Evaluate(Section):
    """Scores against truth, on boxes that training never saw."""

    match_distance_um: Positive = Field(8.0, description="centroids this near are one detection")
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    truth: tuple[LabelSource, ...] = Field((), description="empty: the model's own labels")


class Report(Section):
    """What the report says of itself."""

    title: str | None = None


class Config(Section):
    """The whole of ``config.yaml``."""

    specimen: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    results: str = "results"
    scans: str | tuple[str, ...] | None = Field(None, description="glob or list of raw scans")
    volume: VolumeSource | None = Field(None, description="start from a volume that exists")
    simulate: Simulate | None = Field(None, description="start from a simulated specimen")
    recon: Recon = Recon()
    mosaic: Mosaic = Mosaic()
    models: dict[str, Model] = Field(default_factory=dict)
    predict: Predict = Predict()
    label: Label = Label()
    analyse: Analyse = Analyse()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()

    @model_validator(mode="after")
    def _one_start(self) -> Config:
        starts = [n for n in ("scans", "volume", "simulate") if getattr(self, n) is not None]
        if len(starts) != 1:
            named = " and ".join(starts) or "none of them"
            raise ValueError(f"give one of scans, volume or simulate as the start, not {named}")
        return self

    @model_validator(mode="after")
    def _ensembles(self) -> Config:
        for name, model in self.models.items():
            for member in model.ensemble:
                known = self.models.get(member)
                if known is None or known.ensemble or known.net == "ffn":
                    raise ValueError(
                        f"models.{name}.ensemble names '{member}', which is no model that is "
                        "trained block by block; name such models of this config"
                    )
                if (known.classes, known.target) != (model.classes, model.target):
                    raise ValueError(
                        f"models.{name}.ensemble: '{member}' has other classes or another target; "
                        "an ensemble is of models that say the same things"
                    )
        return self

    @model_validator(mode="after")
    def _uses_apart(self) -> Config:
        """A volume that is named twice keeps its uses apart all the same."""
        for name, model in self.models.items():
            if not model.is_trained:
                continue
            own = [("split", self.volume, model.split)] if self.volume and model.labels else []
            others = [
                (f"volumes.{n}.split", one.volume, one.split) for n, one in enumerate(model.volumes)
            ]
            used = [
                (where, (volume.path, volume.dataset), use, box)
                for where, volume, split in own + others
                for use in ("train", "validation", "test")
                for box in getattr(split, use) or ((BoxSetting(),) if _whole(split, use) else ())
            ]
            for i, (where, data, use, box) in enumerate(used):
                for other_where, other_data, other_use, other in used[i + 1 :]:
                    if data == other_data and use != other_use and box.overlaps(other):
                        raise ValueError(
                            f"models.{name}: {where}.{use} from {box.start} and "
                            f"{other_where}.{other_use} from {other.start} overlap, for both are "
                            f"boxes of {data[0]}; move one so that no voxel has two uses"
                        )
        return self


def _whole(split: TrainSplit, use: str) -> bool:
    """True if training takes the whole volume because no box is given."""
    return use == "train" and not split.train


# --- reading ----------------------------------------------------------------------------------


def _known_keys(data: Any, location: tuple[Any, ...]) -> list[str]:
    """Names allowed where a validation error happened, by walking the models."""
    model: Any = Config
    for part in location:
        if isinstance(model, type) and issubclass(model, BaseModel):
            annotation = model.model_fields[part].annotation if part in model.model_fields else None
        else:
            continue
        model = next((m for m in _models_in(annotation)), model)
    return list(model.model_fields) if model is not None else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for inner in getattr(annotation, "__args__", ()):
        found += _models_in(inner)
    return found


def _sentence(error: ValidationError, where: str) -> str:
    """One sentence for the first thing wrong; how many more there are, if any."""
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        *parents, key = first["loc"]
        near = difflib.get_close_matches(str(key), _known_keys(None, tuple(parents)), 1, 0.5)
        hint = f"; did you mean '{near[0]}'?" if near else "; remove it or see docs/config.md"
        text = f"{where}: unknown key '{place}'{hint}"
    else:
        message = first["msg"].removeprefix("Value error, ")
        given = first.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        text = f"{where}: '{place}': {message}{shown}"
    more = error.error_count() - 1
    return text + (f" (and {more} more)" if more else "")


def parse_config(data: Any, where: str = "config") -> Config:
    """Turn what YAML or Snakemake read into settings; one sentence if it is wrong.

    Raises:
        TesseraError: with the first fault, its place, and the nearest known key.
    """
    if not isinstance(data, dict):
        raise TesseraError(f"{where}: expected settings as 'key: value' lines")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise TesseraError(_sentence(error, where)) from None


def read_config(path: str | Path) -> Config:
    """Read a ``config.yaml``."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise TesseraError(f"{path}: cannot be read ({error.strerror}); give a config") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        first = " ".join(str(error).split())
        raise TesseraError(f"{path}: is not YAML: {first}") from None
    return parse_config(data, str(path))


def parse_section(kind: type[S], text: str) -> S:
    """Read one section from the JSON that a rule hands to a command."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise TesseraError(_sentence(error, f"settings of {kind.__name__.lower()}")) from None


def section_json(section: Section) -> str:
    """Return a section as canonical JSON: the same settings give the same text."""
    return json.dumps(section.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
