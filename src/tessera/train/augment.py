"""Variations of a sample, on the device that trains, drawn from the sample's own seed.

Geometry changes image and labels alike; the rest changes the image alone. A sample comes and goes
as (z, y, x): a float32 image of mean 0 and spread 1, and integer labels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tessera.config import Augment
from tessera.train.labels import UNLABELLED

# Of strength 1:
_MOST_TURN = math.radians(30)
_MOST_SCALE = 0.15
_ELASTIC = 0.03  # spread of the control points' shifts, as a part of the patch
_MOST_GAMMA = 0.3  # of its logarithm
_MOST_CONTRAST = 0.25
_MOST_BRIGHTNESS = 0.25
_MOST_SHADING = 0.4  # spread of the slow field's control points

_CONTROL = 5  # control points of the elastic deformation along each axis
_SLOW = 3  # and of the shading


class Dice:
    """A sample's random numbers: a torch generator on the CPU, the same for every device."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def chance(self, probability: float) -> bool:
        """True as often as asked; always draws, so one option does not shift the others."""
        return float(torch.rand((), generator=self.generator)) < probability

    def uniform(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def integer(self, below: int) -> int:
        """Return an integer in [0, below)."""
        return int(torch.randint(below, (), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, generator=self.generator)


def augment(
    image: Tensor, labels: Tensor, options: Augment, equal_axes: tuple[int, ...], seed: int
) -> tuple[Tensor, Tensor]:
    """Vary one sample.

    Args:
        image: (z, y, x).
        labels: (z, y, x).
        options: how often each kind of variation happens.
        equal_axes: axes of one length and voxel size, which may be exchanged (z not, where
            ``options`` keep to its planes).
        seed: of the sample.
    """
    dice, strength = Dice(seed), options.strength
    if options.in_plane:
        equal_axes = tuple(axis for axis in equal_axes if axis)
    if dice.chance(options.warp):
        image, labels = warp(image, labels, equal_axes, dice, strength)
    if options.symmetries:
        image, labels = symmetry(image, labels, equal_axes, dice)
    if dice.chance(options.contrast):
        image = contrast(image, dice, strength)
    if dice.chance(options.blur):
        image = blur(image, dice.uniform(0.4, 1.0))
    if dice.chance(options.sharpen):
        image = image + dice.uniform(0.3, 1.0) * (image - blur(image, 1.0))
    if dice.chance(options.noise):
        noise = torch.empty(image.shape).normal_(0, dice.uniform(0, 0.3), generator=dice.generator)
        image = image + noise.to(image.device)
    if dice.chance(options.missing):
        image = missing(image, dice)
    if dice.chance(options.shading):
        image = image + shading(image.shape, dice, strength).to(image.device)
    return image, labels


def symmetry(
    image: Tensor, labels: Tensor, equal_axes: tuple[int, ...], dice: Dice
) -> tuple[Tensor, Tensor]:
    """Reflect and permute axes: 48 ways for a cube, 8 where no axes are equal."""
    order = list(range(3))
    if len(equal_axes) > 1:
        shuffled = torch.randperm(len(equal_axes), generator=dice.generator).tolist()
        for axis, other in zip(equal_axes, (equal_axes[i] for i in shuffled), strict=True):
            order[axis] = other
    flips = [axis for axis in range(3) if dice.integer(2)]
    return image.permute(order).flip(flips), labels.permute(order).flip(flips)


def contrast(image: Tensor, dice: Dice, strength: float = 1.0) -> Tensor:
    """Change contrast, brightness and gamma; gamma acts between the sample's own extremes.

    Contrast and gamma are drawn by their logarithms, so that halves are as likely as doubles.
    """
    low, high = image.amin(), image.amax()
    spread = (high - low).clamp_min(1e-6)
    gamma = _factor(_MOST_GAMMA * strength, dice)
    bent = ((image - low) / spread).pow(gamma) * spread + low
    offset = _MOST_BRIGHTNESS * strength
    return bent * _factor(_MOST_CONTRAST * strength, dice) + dice.uniform(-offset, offset)


def _factor(most: float, dice: Dice) -> float:
    return math.exp(dice.uniform(-most, most))


def shading(shape: torch.Size, dice: Dice, strength: float = 1.0) -> Tensor:
    """Return a field (z, y, x) of slow changes, as uneven staining or local tomography make."""
    points = dice.normal(1, 1, _SLOW, _SLOW, _SLOW) * dice.uniform(0, _MOST_SHADING * strength)
    return functional.interpolate(points, size=shape, mode="trilinear", align_corners=True)[0, 0]


def blur(image: Tensor, sigma: float) -> Tensor:
    """Smooth by a Gaussian of ``sigma`` voxels."""
    radius = max(1, round(2.5 * sigma))
    at = torch.arange(-radius, radius + 1, dtype=torch.float32, device=image.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    out = image[None, None]
    for axis in range(3):
        size = [1, 1, 1]
        size[axis] = 2 * radius + 1
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius
        out = functional.conv3d(
            functional.pad(out, pad, mode="replicate"), kernel.view(1, 1, *size)
        )
    return out[0, 0]


def missing(image: Tensor, dice: Dice) -> Tensor:
    """Blank one to three neighbouring planes of z, as lost sections are."""
    image = image.clone()
    first = dice.integer(image.shape[0])
    image[first : first + 1 + dice.integer(3)] = image.amin()
    return image


def warp(
    image: Tensor,
    labels: Tensor,
    equal_axes: tuple[int, ...],
    dice: Dice,
    strength: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Turn, scale and bend; the image is interpolated, labels are those of the nearest voxel.

    Turns stay in planes of equal axes. What comes from outside the patch is mirrored in the image
    (once) and unlabelled in the labels.
    """
    matrix = torch.eye(3) * _factor(_MOST_SCALE * strength, dice)
    for i, a in enumerate(equal_axes):
        for b in equal_axes[i + 1 :]:
            angle = dice.uniform(-_MOST_TURN, _MOST_TURN) * strength
            turn = torch.eye(3)
            turn[a, a] = turn[b, b] = math.cos(angle)
            turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
            matrix = matrix @ turn
    half = torch.tensor([float(n - 1) / 2 for n in image.shape]).view(3, 1, 1, 1)
    # Where the control points go, in voxels from the middle. What lies between them goes where
    # linear interpolation says, which is exact for turns and scaling.
    even = torch.linspace(-1, 1, _CONTROL)
    points = torch.stack(torch.meshgrid(even, even, even, indexing="ij")) * half
    points = torch.einsum("ij,jzyx->izyx", matrix, points)
    bend = dice.normal(3, _CONTROL, _CONTROL, _CONTROL) * _ELASTIC * strength
    at = _between((points + bend * 2 * half).to(image.device), image.shape)
    half = half.to(image.device)
    found = _nearest(labels, (at + half).round_())
    # x, y, z in -1 .. 1, and what is beyond comes back: faster than the library's own mirror.
    steady = ((at / half.clamp_min(0.5) + 1).abs_() - 2).abs_().neg_() + 1
    xyz = steady.flip(0).movedim(0, -1)[None]
    moved = functional.grid_sample(image[None, None], xyz, "bilinear", "border", align_corners=True)
    return moved[0, 0], found


def _between(points: Tensor, shape: torch.Size) -> Tensor:
    """Interpolate a grid (channel, z, y, x) linearly, axis by axis; its corners stay corners."""
    for size in shape:
        at = torch.linspace(0, _CONTROL - 1, size, device=points.device)[:, None]
        weights = (1 - (at - torch.arange(_CONTROL, device=points.device)).abs()).clamp_min_(0)
        points = torch.tensordot(points, weights, ([1], [1]))  # the axes take turns
    return points


def _nearest(labels: Tensor, at: Tensor) -> Tensor:
    """Return the labels at whole coordinates (3, z, y, x), unlabelled where they are outside."""
    framed = functional.pad(labels, [1] * 6, value=UNLABELLED)
    index = torch.zeros(at.shape[1:], dtype=torch.int32, device=labels.device)
    for size, along in zip(framed.shape, at, strict=True):
        index.mul_(size).add_((along + 1).clamp_(0, size - 1).int())
    return framed.view(-1).index_select(0, index.view(-1)).view(at.shape[1:])
