"""Where data are: volumes, labels, and the boxes of them that training and tests use."""

from __future__ import annotations

from pydantic import Field, model_validator

from tessera.settings.section import Positive, Section


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
