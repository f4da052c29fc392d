"""Samples made ahead in a thread, so that the network does not wait for the disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from tessera.train.sampling import Sampler

_AHEAD = 3

Made = TypeVar("Made")


@dataclass(frozen=True)
class Batch:
    """Samples as they were read: image (sample, z, y, x) float32, labels likewise as integers."""

    image: Tensor
    labels: Tensor
    numbers: tuple[int, ...]


def read_batch(sampler: Sampler, numbers: tuple[int, ...], pin: bool = False) -> Batch:
    """Read the samples with these numbers."""
    pairs = []
    for number in numbers:
        region, box = sampler.place(number)
        pairs.append(region.read(box))
    image = torch.from_numpy(np.stack([p[0] for p in pairs]))
    labels = torch.from_numpy(np.stack([p[1] for p in pairs]))
    if pin:
        image, labels = image.pin_memory(), labels.pin_memory()
    return Batch(image, labels, numbers)


class Feed(Generic[Made]):
    """Iterates over batches of which the numbers are known, made in the background.

    An error of the maker is raised where the batch is asked for.
    """

    def __init__(self, numbers: Iterator[tuple[int, ...]], make: Callable[..., Made]) -> None:
        self._queue: queue.Queue[Made | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(numbers, make), name="feed", daemon=True
        )

    def __enter__(self) -> Feed[Made]:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._stop.set()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._thread.join(timeout=10)

    def __iter__(self) -> Iterator[Made]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _run(self, numbers: Iterator[tuple[int, ...]], make: Callable[..., Made]) -> None:
        item: Made | BaseException | None
        try:
            for some in numbers:
                if not self._put(make(some)):
                    return
            item = None
        except Exception as error:  # raised again by the training, in its own thread
            item = error
        self._put(item)

    def _put(self, item: Made | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False
