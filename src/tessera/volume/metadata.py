"""The `zarr.json` of an array that tessera laid out, and how it knows one again.

zarr-python lays volumes out, once, and reads those of others. But every job opens volumes, and
importing zarr takes longer than many a job's block: shards of the one layout that tessera gives
them (see :mod:`tessera.volume.shard`) are read and written without it, wherever an array's metadata
says that it is of this layout and nothing else.

Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def _layout(info: ArrayInfo) -> dict[str, Any]:
    """The metadata of an array of sharded, zstd-packed chunks, each with its crc32c."""
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
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _inner(dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    """How a chunk becomes bytes. A type of one byte has no order of bytes."""
    zstd = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
    return [_LITTLE if dtype.itemsize > 1 else {"name": "bytes"}, zstd, _CRC32C]


def recognise(found: Mapping[str, Any]) -> ArrayInfo | None:
    """Return what an array is if it is of tessera's own layout, else None."""
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
    # Attributes and names of axes do not say how voxels are stored.
    rest = {k: v for k, v in found.items() if k not in ("attributes", "dimension_names")}
    return info if rest == _layout(info) else None


def read(folder: Path) -> dict[str, Any]:
    """Read a node's metadata.

    Raises:
        OSError: if there is none; ValueError: if it is no JSON object.
    """
    found = json.loads((folder / FILE).read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{folder / FILE} holds no JSON object")
    return found
