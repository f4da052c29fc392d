"""How well a segmentation agrees with the truth, where objects have no names.

- Variation of information (Meilă 2007, doi:10.1016/j.jmva.2006.11.013), in bits: *split* is
  H(labels | truth), what too many cuts cost; *merge* is H(truth | labels), what missing cuts cost.
- Adapted Rand error (Arganda-Carreras 2015, doi:10.3389/fnana.2015.00142): one minus the harmonic
  mean of *precision* (of the pairs of voxels that the labels join, how many the truth joins) and
  *recall* (the reverse).

Both follow from the table of how many voxels each pair (truth, label) shares. Two variants: *whole*
takes background as one more label; *both* counts only voxels that are labelled in both. *Both* can
be gamed by labelling little, so *coverage*, the labelled part of the true foreground, goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tessera.errors import TesseraError


@dataclass(frozen=True)
class Overlaps:
    """The voxels that each pair of objects shares.

    Attributes:
        truth: id of each pair's object in the truth; 0 is background.
        labels: id of each pair's object in the labels; 0 is background.
        voxels: int64, how many voxels the pair shares.
    """

    truth: np.ndarray
    labels: np.ndarray
    voxels: np.ndarray

    def only_both(self) -> Overlaps:
        """Return the pairs without background in either."""
        keep = (self.truth > 0) & (self.labels > 0)
        return Overlaps(self.truth[keep], self.labels[keep], self.voxels[keep])


def count_overlaps(labels: np.ndarray, truth: np.ndarray) -> Overlaps:
    """Count the pairs of ids (unsigned or positive integers) of two arrays of one shape.

    Raises:
        TesseraError: if the shapes differ.
    """
    if labels.shape != truth.shape:
        raise TesseraError(
            f"labels of shape {labels.shape} cannot be scored against truth of shape {truth.shape};"
            " give both for the same box"
        )
    own, own_index = np.unique(labels, return_inverse=True)
    true, true_index = np.unique(truth, return_inverse=True)
    pair = true_index.ravel().astype(np.int64) * len(own) + own_index.ravel()
    which, voxels = np.unique(pair, return_counts=True)
    return Overlaps(true[which // max(len(own), 1)], own[which % max(len(own), 1)], voxels)


def sum_overlaps(parts: Iterable[Overlaps]) -> Overlaps:
    """Add up the tables of several boxes: a volume is scored block by block, in any order."""
    kept = list(parts)
    if not kept:
        return Overlaps(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))
    truth = np.concatenate([p.truth.astype(np.int64) for p in kept])
    labels = np.concatenate([p.labels.astype(np.int64) for p in kept])
    voxels = np.concatenate([p.voxels for p in kept])
    pairs, index = np.unique(np.stack([truth, labels]), axis=1, return_inverse=True)
    total = np.zeros(pairs.shape[1], np.int64)
    np.add.at(total, index.ravel(), voxels)
    return Overlaps(pairs[0], pairs[1], total)


def _marginal(ids: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Voxels of each pair's object, pair by pair (float64)."""
    _, index = np.unique(ids, return_inverse=True)
    return np.bincount(index.ravel(), weights=voxels)[index.ravel()]


def variation_of_information(table: Overlaps) -> tuple[float, float]:
    """Return (split, merge) in bits; (nan, nan) of nothing.

    ``split`` is H(labels | truth) and ``merge`` is H(truth | labels).
    """
    shared = table.voxels.astype(float)
    total = shared.sum()
    if total == 0:
        return float("nan"), float("nan")
    split = -np.sum(shared * np.log2(shared / _marginal(table.truth, shared))) / total
    merge = -np.sum(shared * np.log2(shared / _marginal(table.labels, shared))) / total
    return abs(float(split)), abs(float(merge))


def adapted_rand(table: Overlaps) -> tuple[float, float, float]:
    """Return (error, precision, recall) over ordered pairs of different voxels; nan of nothing."""

    def pairs(voxels: np.ndarray) -> float:
        return float(np.sum(voxels * (voxels - 1.0)))

    shared = table.voxels.astype(float)
    _, true_index = np.unique(table.truth, return_inverse=True)
    _, own_index = np.unique(table.labels, return_inverse=True)
    both = pairs(shared)
    own = pairs(np.bincount(own_index.ravel(), weights=shared))
    true = pairs(np.bincount(true_index.ravel(), weights=shared))
    precision = both / own if own else float("nan")
    recall = both / true if true else float("nan")
    error = 1 - 2 * both / (own + true) if own + true else float("nan")
    return error, precision, recall


def scores_of(table: Overlaps) -> dict[str, float]:
    """Return all scores of a table of overlaps, by name; see :func:`scores`."""
    out: dict[str, float] = {}
    for variant, part in (("both", table.only_both()), ("whole", table)):
        split, merge = variation_of_information(part)
        error, precision, recall = adapted_rand(part)
        out |= {
            f"voi_split_{variant}": split,
            f"voi_merge_{variant}": merge,
            f"voi_sum_{variant}": split + merge,
            f"rand_error_{variant}": error,
            f"rand_precision_{variant}": precision,
            f"rand_recall_{variant}": recall,
        }
    there = table.truth > 0
    true = int(table.voxels[there].sum())
    filled = int(table.voxels[there & (table.labels > 0)].sum())
    out["coverage"] = filled / true if true else float("nan")
    return out


def scores(
    labels: np.ndarray, truth: np.ndarray, margin: int | Sequence[int] = 0
) -> dict[str, float]:
    """Score labels against truth.

    Args:
        labels: integer ids (z, y, x), 0 background.
        truth: the same, of the same box.
        margin: voxels (one number, or z, y, x) left out at each face: the interior.

    Returns:
        ``voi_split``, ``voi_merge``, ``voi_sum`` (bits), ``rand_error``, ``rand_precision`` and
        ``rand_recall``, each with ``_both`` and ``_whole``; and ``coverage``.

    Raises:
        TesseraError: if the shapes differ, or the margin leaves nothing.
    """
    margins = (margin,) * labels.ndim if isinstance(margin, int) else tuple(margin)
    if labels.shape != truth.shape:
        return scores_of(count_overlaps(labels, truth))  # which says what is wrong
    inner = tuple(slice(m, n - m) for m, n in zip(margins, labels.shape, strict=True))
    if any(2 * m >= n for m, n in zip(margins, labels.shape, strict=True)):
        raise TesseraError(
            f"a margin of {margins} voxels leaves nothing of a box of {labels.shape}; make it less"
        )
    return scores_of(count_overlaps(labels[inner], truth[inner]))


def threshold_curve(
    table: Overlaps, pairs: np.ndarray, joined: np.ndarray, thresholds: Sequence[float]
) -> list[dict[str, float]]:
    """Score agglomeration at each threshold, from one table of the fragments' overlaps.

    Args:
        table: overlaps of the fragments with the truth.
        pairs: int (pair, 2) ids of fragments in contact.
        joined: float (pair,) scores; pairs of at least the threshold become one object.
        thresholds: where to score; above all scores nothing is joined.

    Returns:
        for each threshold its scores, with ``threshold`` and the number of ``objects`` that
        overlap the truth's box.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(max(table.labels.max(initial=0), pairs.max(initial=0))) + 1
    out = []
    for threshold in thresholds:
        a, b = pairs[joined >= threshold].T if len(pairs) else (np.zeros(0, int),) * 2
        graph = coo_array((np.ones(len(a)), (a, b)), shape=(size, size))
        _, root = connected_components(graph, directed=False)
        # Background, id 0, is in no pair: it keeps a component of its own.
        ids = np.where(table.labels == 0, 0, root[table.labels] + 1)
        merged = sum_overlaps([Overlaps(table.truth, ids, table.voxels)])
        objects = float(len(np.unique(ids[ids > 0])))
        out.append({"threshold": float(threshold), "objects": objects, **scores_of(merged)})
    return out
