"""A network with its classes, targets and training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tessera.settings.section import Fraction, Positive, Section, Size
from tessera.settings.source import LabelledVolume, LabelSource, TrainSplit

_NOT_OF_FFN = ("target", "channels", "patch", "accumulate", "loss", "class_weights", "early_stop")


class Augment(Section):
    """How often (0 to 1) a training sample is varied in each way."""

    symmetries: bool = Field(True, description="reflections, and turns by 90 degrees of equal axes")
    in_plane: bool = Field(
        False,
        description="turns stay in planes of z: where people painted labels plane by plane, or z "
        "is imaged otherwise than y and x",
    )
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
    compression: Literal["none", "fp16", "bf16"] = Field(
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
        if self.net == "ffn":
            fields = type(self).model_fields
            # By value, not by what was written: jobs get every setting.
            idle = [n for n in _NOT_OF_FFN if getattr(self, n) != fields[n].default]
            if idle:
                raise ValueError(
                    f"a flood-filling network has no use for {', '.join(idle)}; take that out (its "
                    "size is under net_options)"
                )
        if self.volumes and self.net == "ffn":
            raise ValueError(
                "a flood-filling network learns from the specimen's own volume alone; take its "
                "volumes out"
            )
        return self
