"""The device that a process computes on, its precision and its threads."""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from tessera.errors import TesseraError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
_MATRIX_FLAG = "amx_bf16"


@dataclass(frozen=True)
class Device:
    """Where tensors live and in which type networks compute.

    Attributes:
        device: torch device.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    device: torch.device
    precision: str

    @property
    def is_gpu(self) -> bool:
        """True on a CUDA (or ROCm) device."""
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Type in which networks compute."""
        return _DTYPES[self.precision]

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which convolutions run in the chosen precision; nothing for fp32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.precision != "fp32")


@functools.cache
def cpu_flags() -> frozenset[str]:
    """What the processor says that it can do; nothing where that cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(flags.split())


def cpu_has_bf16() -> bool:
    """True if the processor multiplies bf16 numbers itself; emulation would be slower."""
    return bool(_BF16_FLAGS & cpu_flags())


def choose(precision: str = "auto", local_rank: int = 0) -> Device:
    """Return this process's device: a GPU of its own if there is one, else the CPU.

    Args:
        precision: ``auto`` takes bf16 on a GPU that has it and on a processor with bf16 matrix
            units, else fp32. On a processor whose vectors alone multiply bf16, minimal filtering
            in fp32 predicts as fast (``benchmarks/ffn.py``), with less rounding.
        local_rank: this process's place on its node, which chooses the GPU.

    Raises:
        TesseraError: if fp16 is asked of a CPU.
    """
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        device = torch.device("cpu")
        native = _MATRIX_FLAG in cpu_flags()
        if precision == "fp16":
            raise TesseraError("precision fp16 needs a GPU, and there is none; take auto or fp32")
    if precision == "auto":
        precision = "bf16" if native else "fp32"
    return Device(device, precision)


def set_threads(local_ranks: int = 1) -> int:
    """Give this process its share of the node's cores and return how many threads that is.

    Cores that the launcher bound the process to are its own already. ``OMP_NUM_THREADS`` may ask
    for fewer, never for more: workflow managers set it to the job's cores, and as many threads in
    each rank would wait for each other most of the time.
    """
    mine, all_cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    count = mine if mine < all_cores else max(1, mine // local_ranks)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        count = min(count, int(asked))
    torch.set_num_threads(count)
    return count


def memory_bytes() -> int:
    """Return how much memory the device of one process has: a GPU's, else the machine's."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
