"""Curves of a training: JSON lines for the report, TensorBoard for who watches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tessera.volume.record import atomic_write


class Curves:
    """Writes ``curves.jsonl`` and ``tensorboard/`` below a folder; what a killed run wrote beyond
    its last checkpoint is dropped, so that no step stands there twice.

    Args:
        folder: of the model.
        step: steps that are done.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path = folder / "curves.jsonl"
        kept = [line for line in self._lines() if json.loads(line)["step"] <= step] if step else []
        atomic_write(self._path, "".join(line + "\n" for line in kept))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, values: dict[str, Any]) -> None:
        """Append one step's values."""
        with open(self._path, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        self._board.close()

    def _lines(self) -> list[str]:
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return []
        # A kill may have torn the last line.
        return text[: text.rfind("\n") + 1].splitlines()
