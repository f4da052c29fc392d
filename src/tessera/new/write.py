"""The text of a config: what was seen, with a word on what a person may want to change."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tessera.errors import TesseraError
from tessera.new.look import SeenLabels, SeenScans, SeenVolume, Shape

_AXES = "zyx"
_TRAIN, _VALIDATION, _GAP = 0.60, 0.10, 0.03  # shares of the longest axis; the rest is test


@dataclass(frozen=True)
class Device:
    """What will train: memory of one rank in bytes, and whether it is a GPU."""

    memory_bytes: float
    gpu: bool


def config_text(
    specimen: str,
    scans: SeenScans | None,
    volume: SeenVolume | None,
    labels: Sequence[SeenLabels],
    device: Device | None = None,
) -> str:
    """Return the content of ``config.yaml``.

    Args:
        specimen: its name.
        scans: where it starts from raw scans.
        volume: where it starts from a volume.
        labels: of the volume.
        device: that a model's size is chosen for; None leaves the defaults.
    """
    parts = [
        "# Each section is a stage of the workflow; what is left out has the default of",
        "# docs/config.md. A changed setting does its stage and what follows again, nothing else.",
        f"specimen: {specimen} # names the folder below results/",
        "",
    ]
    if scans is not None:
        parts += _scans(scans)
    if volume is not None:
        parts += _volume(volume)
    if volume is not None and labels:
        parts += _models(labels, volume, device)
    else:
        parts += _NO_MODELS
    return "\n".join(parts) + "\n"


def _scans(seen: SeenScans) -> list[str]:
    size = f"{seen.angles} angles of {seen.rows} x {seen.columns} pixels"
    lines = [
        f"# {seen.count} x {seen.kind}: {size}",
        f"scans: {_quoted(seen.pattern)}",
        "",
        "recon:",
    ]
    if seen.pixel_um is None:
        lines.append("  # pixel_um: 1.0 # NEEDED: the files do not say how large a pixel is")
    else:
        lines.append(
            f"  # pixel_um: {seen.pixel_um:g} # as the files say; give it to overrule them"
        )
    if seen.span_deg is None:
        lines.append("  # angles_deg: 180 # NEEDED: the files hold no angles; 180 or 360")
    else:
        lines.append(f"  # the angles cover {seen.span_deg:.0f} degrees")
    lines += [
        "  filter: ramp # noisy data: hann, parzen",
        "  rings: { method: sorting } # none, sorting, wavelet-fourier, titarenko, all",
        "  # axis: { column: 512.5 } # only where it is not found by itself",
        "",
        "mosaic:",
        "  max_shift_vox: 8.0 # how far the stage's positions may be off",
        "  max_residual_vox: 1.0 # the workflow stops if the tiles fit worse",
    ]
    if seen.count > 1 and not seen.positions:
        lines.append(
            "  # NEEDED: not all scans say where the stage was; docs/formats-raw.md says how to"
        )
    return [*lines, ""]


def _volume(seen: SeenVolume) -> list[str]:
    shape = " x ".join(map(str, seen.shape))
    lines = [
        f"# {shape} voxels (z, y, x), {seen.dtype}",
        "volume:",
        f"  path: {_quoted(seen.path)}",
    ]
    if seen.dataset is not None:
        lines.append(f"  dataset: {_quoted(seen.dataset)}")
    if seen.voxel_um is None:
        lines.append("  # voxel_um: [1.0, 1.0, 1.0] # NEEDED: the file does not say (z, y, x)")
    else:
        size = ", ".join(f"{v:g}" for v in seen.voxel_um)
        lines.append(f"  voxel_um: [{size}] # z, y, x, as the file says")
    return [*lines, ""]


def _models(labels: Sequence[SeenLabels], volume: SeenVolume, device: Device | None) -> list[str]:
    """One model that learns all classes, on boxes along the longest axis."""
    shape = volume.shape
    names = list(dict.fromkeys(["background", *(source.name for source in labels)]))
    lone = labels[0] if len(labels) == 1 else None
    if lone is not None and not lone.are_instances and not lone.are_mask:
        names = ["background", *(f"{lone.name}_{n}" for n in range(1, lone.values + 1))]
    lines = ["models:", "  tissue:", f"    classes: [{', '.join(names)}]", "    labels:"]
    for source in labels:
        place = f"path: {_quoted(source.path)}"
        place += "" if source.dataset is None else f", dataset: {_quoted(source.dataset)}"
        if lone is None or lone.are_instances:
            place += f", instances_of: {source.name}"
        lines.append(f"      - {{ {place} }}")
    boxes = _boxes(shape)
    train, validation, test = map(_box_text, boxes)
    lines += [
        "    # No voxel has two uses; scores are those of the test boxes.",
        "    split:",
        f"      train: [{train}]",
        f"      validation: [{validation}]",
        f"      test: [{test}]",
        *_size(volume, boxes[0], len(names), device),
        "    steps: 600",
        "",
        "label:",
        f"  classes: [{names[1]}] # whose objects get ids and are counted",
        "  min_voxels: 100 # smaller objects are dropped",
        "",
    ]
    return lines


def _boxes(shape: Shape) -> list[tuple[Shape, Shape]]:
    """Start and stop of the boxes for training, validation and test."""
    axis = max(range(3), key=lambda a: (shape[a], a))
    size = shape[axis]
    first, second = round(_TRAIN * size), round((_TRAIN + _VALIDATION) * size)
    third = min(round((_TRAIN + _VALIDATION + _GAP) * size), size - 1)

    def box(start: int, stop: int) -> tuple[Shape, Shape]:
        (z, low), (y, mid), (x, high) = (
            (start, stop) if a == axis else (0, n) for a, n in enumerate(shape)
        )
        return (z, y, x), (low, mid, high)

    return [box(0, first), box(first, second), box(third, size)]


def _box_text(box: tuple[Shape, Shape]) -> str:
    return f"{{ start: {list(box[0])}, stop: {list(box[1])} }}"


def _size(
    volume: SeenVolume, box: tuple[Shape, Shape], classes: int, device: Device | None
) -> list[str]:
    """The network's size, for the volume and the machine; see :mod:`tessera.train.suggest`."""
    from tessera.train.suggest import suggest

    z, y, x = (b - a for a, b in zip(*box, strict=True))
    if device is None:
        return ["    net: unet3d"]
    try:
        found = suggest(
            (z, y, x), volume.voxel_um or (1.0,) * 3, classes, device.memory_bytes, device.gpu
        )
    except TesseraError as error:
        return ["    net: unet3d", f"    # NEEDED: patch and channels; {error}"]
    kind = "GPU" if device.gpu else "processor"
    samples = math.prod((z, y, x)) / math.prod(found.patch)
    return [
        f"    # Chosen for {_times((z, y, x))} voxels to learn from ({samples:.3g} patches) and a "
        f"{kind} with",
        f"    # {device.memory_bytes / 2**30:.1f} GiB a rank, of which a step takes about "
        f"{found.memory_gib:g}. The network sees",
        f"    # {_times(found.halo_vox)} voxels about each; more levels see further and cost more.",
        f"    net: {found.net}",
        f"    channels: {list(found.channels)} # features of each level",
        f"    net_options: {json.dumps(found.net_options)}",
        f"    patch: {list(found.patch)}",
        f"    batch: {found.batch} # patches a rank and step",
    ]


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _quoted(text: str) -> str:
    """A text as YAML reads it, whatever is in it: JSON's quotes are YAML's."""
    return json.dumps(text, ensure_ascii=False)


_NO_MODELS = """\
# What to learn, once there are labels of the volume; `tessera new` writes this for --labels.
# models:
#   tissue:
#     net: unet3d
#     classes: [background, soma, vessel]
#     labels:
#       - { path: labels.h5, dataset: somas, instances_of: soma }
#     split:
#       train: [{ start: [0, 0, 0], stop: [64, 256, 256] }]
#       test: [{ start: [70, 0, 0], stop: [128, 256, 256] }]
#
# label:
#   classes: [soma]
""".splitlines()
