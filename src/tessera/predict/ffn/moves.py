"""The network at work: fields of view in, logits out, from many fills at once.

On a CPU one field of view at a time is fastest. On a GPU one field of view leaves most of it
idle, so the moves of many fills (subvolumes, pairs of fragments) are looked at together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from tessera.compute.device import Device
from tessera.nets import winograd_ffn
from tessera.nets.ffn import FFN
from tessera.predict.ffn.fill import Moves


class Mover:
    """A flood-filling network made ready for inference.

    Args:
        net: the network, fp32; it is not changed.
        device: where and how precisely to compute; the sum with the seed stays fp32.
        at_once: fields of view that are looked at together.
        compiled: compile and freeze the network; worth its ten seconds for long fills. Nothing
            changes for fp32 on a CPU, which has code of its own (:mod:`tessera.nets.winograd_ffn`).

    Attributes:
        seconds: time spent in the network so far, transfers included.
        moves: fields of view looked at so far.
    """

    def __init__(self, net: FFN, device: Device, at_once: int = 1, compiled: bool = False) -> None:
        self.at_once = at_once
        self.seconds, self.moves = 0.0, 0
        self._device = device
        own = FFN(
            depth=len(net.blocks) + 1,
            features=net.last.in_channels,
            fov=net.fov,
            deltas=net.deltas,
        )
        own.load_state_dict(net.state_dict())
        own = own.to(device.device, device.dtype, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        own.last.float().load_state_dict(net.last.state_dict())  # not rounded: fp32 as it was
        own.eval().requires_grad_(False)
        self.deltas, self.fov = net.deltas, net.fov
        # Sizes are the same at each call: the input is one buffer, filled anew.
        host = torch.empty((at_once, 2, *net.fov), pin_memory=device.is_gpu)
        self._host = host.to(memory_format=torch.channels_last_3d)
        self._views = self._host.numpy()
        self._call: Callable[[torch.Tensor], torch.Tensor] = own
        if device.device.type == "cpu" and device.precision == "fp32" and winograd_ffn.fits(own):
            self._call = winograd_ffn.Winograd(own, torch.get_num_threads())
        elif compiled:
            self._call = _compiled(own, self._host.to(device.device))

    def __call__(self, fields: list[np.ndarray]) -> list[np.ndarray]:
        """Look at up to ``at_once`` fields (2, z, y, x); return logits (z, y, x) of each."""
        began = time.perf_counter()
        for view, field in zip(self._views, fields, strict=False):
            view[...] = field
        # no_grad belongs to the thread: whoever calls needs it here.
        with torch.inference_mode():
            given = self._host if len(fields) == self.at_once else self._host[: len(fields)]
            logits = self._call(given.to(self._device.device, non_blocking=True))
            found = logits[:, 0].to("cpu").numpy()
        self.seconds += time.perf_counter() - began
        self.moves += len(fields)
        return list(found)


def _compiled(net: FFN, example: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compile with the weights frozen in, so that they are laid out for the processor once."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    call: Callable[[torch.Tensor], torch.Tensor] = torch.compile(net)
    with torch.inference_mode():
        call(example)
    return call


def drive(
    fills: Iterable[Moves],
    network: Callable[[list[np.ndarray]], list[np.ndarray]],
    at_once: int = 1,
    after: Callable[[], None] | None = None,
) -> None:
    """Run fills to their ends, ``at_once`` of them side by side.

    What a fill sees never depends on the others, only on its own answers.

    Args:
        fills: taken one by one, as places become free.
        network: fields of view -> logits.
        at_once: the most fields that are handed to the network together.
        after: called after each round, e.g. to look for a scheduler's signal.
    """
    waiting: Iterator[Moves] = iter(fills)
    running: list[tuple[Moves, np.ndarray]] = []
    while True:
        while len(running) < at_once:
            fill = next(waiting, None)
            if fill is None:
                break
            wanted = next(fill, None)
            if wanted is not None:
                running.append((fill, wanted))
        if not running:
            return
        answers = network([wanted for _, wanted in running])
        following = []
        for (fill, _), logits in zip(running, answers, strict=True):
            try:
                following.append((fill, fill.send(logits)))
            except StopIteration:
                continue
        running = following
        if after is not None:
            after()
