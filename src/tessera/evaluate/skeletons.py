"""Scores along skeletons: what a person who follows a neurite would meet.

An edge of a true skeleton is

- *omitted* if an end of it lies in background,
- *merged* if an end lies in an object that covers more than one true skeleton,
- *split* if its ends lie in different objects,
- *correct* otherwise.

The expected run length is the mean length of the correctly followed piece that a random point of
the skeletons lies on: sum over pieces of length^2 / sum over all of length (Januszewski 2018,
doi:10.1038/s41592-018-0049-4). Omission goes before merge, merge before split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tessera.errors import TesseraError


@dataclass(frozen=True)
class Skeleton:
    """One true neurite.

    Attributes:
        nodes_um: float (node, 3) z, y, x in micrometres of the volume's frame.
        edges: int (edge, 2) numbers of nodes.
    """

    nodes_um: np.ndarray
    edges: np.ndarray

    def lengths_um(self) -> np.ndarray:
        """Return the length of each edge."""
        a, b = self.nodes_um[self.edges[:, 0]], self.nodes_um[self.edges[:, 1]]
        return np.asarray(np.linalg.norm(a - b, axis=1))


def label_nodes(
    skeleton: Skeleton,
    labels: np.ndarray,
    voxel_um: tuple[float, float, float],
    origin_um: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Return the label at each node; 0 outside of the volume.

    Args:
        skeleton: in the frame of ``origin_um``.
        labels: (z, y, x) ids.
        voxel_um: voxel size; ``origin_um`` is the centre of voxel (0, 0, 0).
    """
    at = np.rint((skeleton.nodes_um - np.array(origin_um)) / np.array(voxel_um)).astype(np.int64)
    inside = ((at >= 0) & (at < np.array(labels.shape))).all(1)
    found = np.zeros(len(at), np.int64)
    found[inside] = labels[tuple(at[inside].T)]
    return found


def skeleton_scores(
    skeletons: list[Skeleton], labels: list[np.ndarray], merge_nodes: int = 1
) -> dict[str, float]:
    """Score the labels found at the nodes of the true skeletons.

    Args:
        skeletons: the truth, one a neurite.
        labels: the label of each node (:func:`label_nodes`), one array a skeleton.
        merge_nodes: an object covers a skeleton if it holds at least this many of its nodes.

    Returns:
        ``edges_correct``, ``edges_omitted``, ``edges_merged``, ``edges_split`` as shares of all
        length; ``erl_um``, the expected run length; ``erl_most_um``, that of a perfect result.

    Raises:
        TesseraError: if the skeletons have no length.
    """
    covered: dict[int, int] = {}
    for found in labels:
        ids, counts = np.unique(found, return_counts=True)
        for one in ids[counts >= merge_nodes].tolist():
            covered[one] = covered.get(one, 0) + 1
    merged_ids = np.array([i for i, n in covered.items() if i and n > 1], np.int64)
    sums = {"correct": 0.0, "omitted": 0.0, "merged": 0.0, "split": 0.0}
    squares, best, total = 0.0, 0.0, 0.0
    for skeleton, found in zip(skeletons, labels, strict=True):
        length = skeleton.lengths_um()
        a, b = found[skeleton.edges[:, 0]], found[skeleton.edges[:, 1]]
        omitted = (a == 0) | (b == 0)
        merged = ~omitted & (np.isin(a, merged_ids) | np.isin(b, merged_ids))
        split = ~omitted & ~merged & (a != b)
        correct = ~omitted & ~merged & ~split
        for name, which in (
            ("correct", correct),
            ("omitted", omitted),
            ("merged", merged),
            ("split", split),
        ):
            sums[name] += float(length[which].sum())
        squares += float(np.sum(_runs(skeleton, correct, length) ** 2))
        best += float(length.sum()) ** 2
        total += float(length.sum())
    if total == 0:
        raise TesseraError("the true skeletons have no length; give nodes that are joined by edges")
    shares = {f"edges_{name}": value / total for name, value in sums.items()}
    return {**shares, "erl_um": squares / total, "erl_most_um": best / total}


def _runs(skeleton: Skeleton, keep: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Lengths of the pieces of a skeleton that its kept edges join."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = skeleton.edges[keep].T
    n = len(skeleton.nodes_um)
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(n, n))
    _, piece = connected_components(graph, directed=False)
    return np.bincount(piece[a], weights=length[keep], minlength=1)
