"""Checkpoints: all that the next step depends on, in one file that is there whole or not at all.

A checkpoint is a safetensors file; its header's metadata holds what are not tensors, as JSON. The
file is written beside its place and renamed, so a kill at any moment leaves the last one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from tessera.volume.store import write_errors


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and the rest."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors below ``name.``, without that prefix."""
        head = f"{name}."
        return {k.removeprefix(head): v for k, v in self.tensors.items() if k.startswith(head)}


def pack(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join named groups of tensors into one flat dict."""
    return {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name, part in parts.items()
        for key, tensor in part.items()
    }


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before, atomically."""
    data = save(checkpoint.tensors, {"tessera": json.dumps(checkpoint.meta, sort_keys=True)})
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def read(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None if there is none, or one that no version of this wrote."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})["tessera"])
            return Checkpoint({k: file.get_tensor(k) for k in file.keys()}, meta)  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError):
        return None


def optimiser_state(optimiser: optim.Optimizer, net: nn.Module) -> dict[str, Tensor]:
    """Return an optimiser's tensors by the names of the parameters they belong to."""
    out: dict[str, Tensor] = {}
    for name, parameter in net.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            out[f"{key}.{name}"] = value
    return out


def restore_optimiser(
    optimiser: optim.Optimizer, net: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what :func:`optimiser_state` gave."""
    for name, parameter in net.named_parameters():
        state: dict[str, Tensor] = {}
        for full, value in tensors.items():
            key, _, owner = full.partition(".")
            if owner == name:
                # Adam counts its steps on the CPU, whatever the device.
                state[key] = value.clone() if value.ndim == 0 else value.to(parameter.device)
        if state:
            optimiser.state[parameter] = state
