"""The stages into which faults are put: each runs by itself on what the ones before it left."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tessera.volume.record import ABSENT, Entry, Record, read_record
from tests.workflow.small import contents

ROOT = "results/small"


@dataclass(frozen=True)
class Stage:
    """One stage of the small specimen.

    Attributes:
        name: its folder below the specimen's results.
        made: what it makes, below the specimen's results: removed before it runs.
        goals: the files that Snakemake is asked for.
        records: folders of its records; none if it does no blocks.
    """

    name: str
    made: tuple[str, ...]
    goals: tuple[str, ...]
    records: tuple[str, ...] = ()

    def record_files(self, folder: Path) -> list[Path]:
        """Paths of all records that it leaves, in the order of the work."""
        return [
            folder / ROOT / place / f"{batch:04d}.json"
            for place in self.records
            for batch in (0, 1)
        ]


STAGES = (
    Stage(
        "recon",
        ("recon",),
        tuple(f"recon/tile_z0_y0_x{x}/records/0000.json" for x in (0, 1)),
        tuple(f"recon/tile_z0_y0_x{x}/records" for x in (0, 1)),
    ),
    Stage(
        "mosaic",
        ("mosaic/volume.zarr", "mosaic/records", "mosaic/volume.json", "mosaic/store.json"),
        ("mosaic/volume.json",),
        ("mosaic/records",),
    ),
    Stage("train", ("train",), ("train/tissue/model.json",)),
    Stage("predict", ("predict",), ("predict/tissue/seams.json",), ("predict/tissue/records",)),
    Stage(
        "label",
        ("label",),
        ("label/tissue/soma/labels.json",),
        ("label/tissue/soma/local/records", "label/tissue/soma/records"),
    ),
)
BLOCKWISE = tuple(stage for stage in STAGES if stage.records)


def copy_before(stage: Stage, finished: Path, folder: Path) -> None:
    """Copy a finished run as it was before a stage: times, Snakemake's own notes and all."""
    after = [later.name for later in STAGES[STAGES.index(stage) + 1 :]]
    gone = {f"{ROOT}/{name}" for name in (*stage.made, *after, "analyse", "evaluate", "report")}

    def ignore(place: str, names: list[str]) -> list[str]:
        below = Path(place).relative_to(finished)
        return [name for name in names if str(below / name) in gone | {".snakemake/log"}]

    shutil.copytree(finished, folder, ignore=ignore, dirs_exist_ok=True)


def results(stage: Stage, folder: Path) -> dict[str, str]:
    """Hashes of what a stage and those before it made."""
    kept = tuple(f"small/{s.name}/" for s in STAGES[: STAGES.index(stage) + 1])
    return {
        name: value for name, value in contents(folder / "results").items() if name.startswith(kept)
    }


def records(stage: Stage, folder: Path) -> dict[Path, Record]:
    """What a stage's records and journals say now."""
    found = {path: read_record(path) for path in stage.record_files(folder)}
    return {path: record for path, record in found.items() if record is not None}


def noted(stage: Stage, folder: Path) -> list[tuple[Path, Entry]]:
    """Blocks that are done and noted, with the records that note them."""
    return [
        (path, entry)
        for path, record in records(stage, folder).items()
        for entry in record.entries.values()
        if entry.error is None
    ]


def shards(record: Path, entry: Entry) -> list[Path]:
    """Files that a block wrote."""
    return [record.parent.parent / n for n, known in entry.shards.items() if known != ABSENT]
