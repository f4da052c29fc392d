"""The `zarr.json` of a volume: the array that tessera lays out, and how it knows one again.

Every job opens volumes, and importing zarr-python takes longer than many a job's block. What
tessera wrote itself needs no library: shards of one layout (see :mod:`tessera.volume.shard`), whose
metadata is a page of JSON. Volumes of others are read through zarr-python.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tessera.volume.shard import ZSTD_LEVEL

FILE = "zarr.json"
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC32C = {"name": "crc32c"}
_KEYS = {"name": "default", "configuration": {"separator": "/"}}


@dataclass(frozen=True)
class ArrayInfo:
    """What an array is, as its metadata says. All sizes count the channel axis, if there is one.

    Attributes:
        shape: size along each axis.
        dtype: numpy type of the voxels.
        chunk, shard: size of a chunk, and of a shard.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]


def group(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a group."""
    return {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}


def array(info: ArrayInfo, axes: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of an array of sharded, zstd-packed chunks, each with its crc32c."""
    return {
        "shape": list(info.shape),
        "data_type": info.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(info.shard)}},
        "chunk_key_encoding": _KEYS,
        "fill_value": False if info.dtype == bool else 0,
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": list(info.chunk),
                    "codecs": _inner(info.dtype),
                    "index_codecs": [_LITTLE, _CRC32C],
                    "index_location": "end",
                },
            }
        ],
        "attributes": {},
        "dimension_names": list(axes),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _inner(dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    """How a chunk becomes bytes. A type of one byte has no order of bytes."""
    zstd = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
    return [_LITTLE if dtype.itemsize > 1 else {"name": "bytes"}, zstd, _CRC32C]


def recognise(found: Mapping[str, Any]) -> ArrayInfo | None:
    """Return what an array is if its metadata is just what :func:`array` makes, else None."""
    try:
        (sharding,) = found["codecs"]
        info = ArrayInfo(
            tuple(found["shape"]),
            np.dtype(found["data_type"]),
            tuple(sharding["configuration"]["chunk_shape"]),
            tuple(found["chunk_grid"]["configuration"]["chunk_shape"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    ours = array(info, found.get("dimension_names") or ())
    # Attributes and names of axes do not say how voxels are stored; other keys are not known here.
    if {**found, "attributes": {}, "dimension_names": ours["dimension_names"]} != ours:
        return None
    return info


def read(folder: Path) -> dict[str, Any]:
    """Read a node's metadata.

    Raises:
        OSError: if there is none; ValueError: if it is no JSON object.
    """
    found = json.loads((folder / FILE).read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{folder / FILE} holds no JSON object")
    return found


def write(folder: Path, document: Mapping[str, Any]) -> None:
    """Write a node's metadata; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(document, indent=2))
