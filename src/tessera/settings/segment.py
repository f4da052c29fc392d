"""From a volume to objects, counted and scored: predict, label, analyse, evaluate, report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tessera.settings.section import Chance, Fraction, Positive, Section, Size
from tessera.settings.source import LabelSource, VolumeSource


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
        0.4, description="share of both fragments that a fill from one of them must reach"
    )
    max_voxels: Annotated[int, Field(ge=1)] = Field(
        100_000, description="a larger fragment seeks no partner: a window shows little of it"
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

    match_distance_um: Positive | None = Field(
        None,
        description="centroids this near are one detection; None: the median radius of the true "
        "objects, as balls of their volume",
    )
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    truth: tuple[LabelSource, ...] = Field((), description="empty: the model's own labels")


class Report(Section):
    """What the report says of itself."""

    title: str | None = None
