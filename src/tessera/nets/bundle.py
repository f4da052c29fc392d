"""Model bundles: ``model.safetensors`` (weights) beside ``model.json`` (all else).

Nothing is unpickled, and nothing that changes between two equal trainings (time, host) is in
either file. ``model.json`` holds the hash of the weights and of itself, so a bundle that was
changed by hand, cut short or mixed from two is refused. Its content::

    format          "tessera model 1"
    net             {name, channels, options}: what the registry builds
    classes         names of the output channels, in order
    activation      "softmax" or "sigmoid"
    normalisation   {mean, std}: the network sees (voxel - mean) / std; empty (0) if an integer 0
                   is a voxel that no tile saw
    voxel_um        voxel size (z, y, x) of what it was trained on
    halo_vox        receptive field's radius (z, y, x), a multiple of align_vox
    align_vox       block starts and read sizes must be multiples of this
    training        settings, steps, samples, scores
    data            digests of the volume and the labels
    extra           what only this kind of network needs
    weights, digest the hashes
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from tessera.errors import TesseraError
from tessera.nets.registry import build
from tessera.volume.record import atomic_write
from tessera.volume.store import write_errors

FORMAT = "tessera model 1"
WEIGHTS, FACTS = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Facts:
    """All that a bundle says beside its weights; the module's docstring names the parts."""

    net: dict[str, Any]
    classes: tuple[str, ...]
    activation: str
    normalisation: dict[str, float]
    voxel_um: tuple[float, float, float]
    halo_vox: tuple[int, int, int]
    align_vox: tuple[int, int, int]
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON types, without the hashes."""
        parts: dict[str, Any] = json.loads(json.dumps(vars(self)))
        return {"format": FORMAT, **parts}


@dataclass(frozen=True)
class Bundle:
    """A network ready for inference, and what it must be fed.

    Attributes:
        net: module in eval mode, batch norms folded; no gradient.
        facts: classes, normalisation, halo, training record.
        digest: hash of the whole bundle, for records and provenance.
    """

    net: nn.Module
    facts: Facts
    digest: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the output channels."""
        return self.facts.classes

    @property
    def halo(self) -> tuple[int, int, int]:
        """Voxels (z, y, x) of real context that an output voxel needs on each side."""
        return self.facts.halo_vox

    @property
    def align(self) -> tuple[int, int, int]:
        """What block starts and read sizes (z, y, x) must be multiples of."""
        return self.facts.align_vox

    def normalise(self, voxels: Tensor) -> Tensor:
        """Return what the network is fed, from raw voxels of any type.

        An empty voxel, which no tile saw, is fed as the mean, as the statistics leave it out: as a
        dark wall it would hide the objects beside it. Empty is the 0 of floats, and of integers
        where the normalisation says so.
        """
        mean, std = self.facts.normalisation["mean"], self.facts.normalisation["std"]
        fed = (voxels.float() - mean).div_(std)
        zero_is_empty = voxels.is_floating_point() or "empty" in self.facts.normalisation
        return fed.masked_fill_(voxels == 0, 0.0) if zero_is_empty else fed

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities from logits (sample, channel, z, y, x)."""
        if self.facts.activation == "softmax":
            return torch.softmax(logits.float(), 1)
        return torch.sigmoid(logits.float())


def _digest(facts: dict[str, Any]) -> str:
    text = json.dumps({k: v for k, v in facts.items() if k != "digest"}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def save(folder: str | Path, weights: Mapping[str, Tensor], facts: Facts) -> str:
    """Write a bundle, weights first, each file atomically; return its digest.

    Raises:
        TesseraError: if the folder cannot be written or the disk is full.
    """
    folder = Path(folder)
    # A sorted dict of contiguous tensors: equal weights give equal bytes.
    plain = {k: weights[k].detach().cpu().contiguous() for k in sorted(weights)}
    data = save_tensors(plain)
    content = facts.as_json()
    content["weights"] = {
        "file": WEIGHTS,
        "blake2b": hashlib.blake2b(data, digest_size=16).hexdigest(),
        "parameters": sum(t.numel() for t in plain.values()),
    }
    content["digest"] = _digest(content)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{WEIGHTS}.{os.getpid()}"
        try:
            with open(partial, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, folder / WEIGHTS)
        finally:
            partial.unlink(missing_ok=True)
        atomic_write(folder / FACTS, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return str(content["digest"])


def read_facts(folder: str | Path) -> tuple[Facts, dict[str, Any]]:
    """Read and check ``model.json`` alone: the facts, and the raw content.

    Raises:
        TesseraError: if it is missing, not a bundle's, or was changed.
    """
    path = Path(folder) / FACTS
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise TesseraError(
            f"{path}: cannot be read ({error.strerror}); give the folder of a model bundle"
        ) from None
    except ValueError:
        raise TesseraError(f"{path}: is not JSON; train or import the model again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TesseraError(f"{path}: is not a bundle of the format '{FORMAT}'; train it again")
    if content.get("digest") != _digest(content):
        raise TesseraError(
            f"{path}: was changed after it was written (its hash differs); restore it or train "
            "the model again"
        )
    triples = ("voxel_um", "halo_vox", "align_vox")
    parts = {name: content[name] for name in Facts.__dataclass_fields__}
    parts |= {name: tuple(content[name]) for name in (*triples, "classes")}
    return Facts(**parts), content


def load(folder: str | Path) -> Bundle:
    """Read a bundle for inference.

    Raises:
        TesseraError: if a file is missing, was changed, or the weights do not fit the network.
    """
    folder = Path(folder)
    facts, content = read_facts(folder)
    try:
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise TesseraError(
            f"{folder / WEIGHTS}: cannot be read ({error.strerror}); train the model again"
        ) from None
    if hashlib.blake2b(data, digest_size=16).hexdigest() != content["weights"]["blake2b"]:
        raise TesseraError(
            f"{folder / WEIGHTS}: is not the file that {FACTS} was written with (its hash "
            "differs); restore it or train the model again"
        )
    net = build(facts.net["name"], len(facts.classes), facts.net["channels"], facts.net["options"])
    fit(net, load_tensors(data), str(folder))
    same = tuple(getattr(net, "halo", facts.halo_vox)) == facts.halo_vox
    if not same or tuple(getattr(net, "align", facts.align_vox)) != facts.align_vox:
        raise TesseraError(
            f"{folder}: the network that this version builds has another receptive field than "
            f"the bundle says ({facts.halo_vox}); train the model again"
        )
    net.eval().requires_grad_(False)
    return Bundle(net, facts, str(content["digest"]))


def fit(net: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights into a network.

    Raises:
        TesseraError: if they are not this network's.
    """
    own = net.state_dict()
    wrong = sorted(set(own) ^ set(weights)) or sorted(
        k for k in own if own[k].shape != weights[k].shape
    )
    if wrong:
        raise TesseraError(
            f"{where}: the weights do not fit the network ('{wrong[0]}' and {len(wrong) - 1} more "
            "differ); the bundle was made for another architecture, train it again"
        )
    net.load_state_dict(dict(weights))
