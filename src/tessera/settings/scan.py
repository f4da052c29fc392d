"""From scans to one volume: simulate, recon, mosaic."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tessera.settings.section import Fraction, Positive, Section, Size


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
        None,
        description="values mapped to 1 and the largest integer, 0 being empty; None takes them "
        "from the histogram",
    )
    levels: Annotated[int, Field(ge=1, le=10)] = 3
    tiff: bool = Field(False, description="write a TIFF stack beside the OME-Zarr")
