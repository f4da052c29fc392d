"""One trial: a stage runs, a fault comes at a random moment, the next run mends it.

1. A finished run is copied as it was before the stage.
2. Snakemake runs the stage; when a random number of its blocks is noted, and a random moment has
   passed, the fault comes.
3. What was done by then is noted; Snakemake is called again until it says that all is done.
4. Everything that the stage and those before it made must be what the undisturbed run made, byte
   for byte, and no block that was noted may have been done again.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.faults import places, stages
from tests.cluster.faults.stages import Stage
from tests.workflow.small import command

_LIMIT_S = 1200.0  # a run of one stage takes half a minute; on a busy machine many times that
_MOST_RUNS = 3


class TooLate(Exception):
    """The run was over before the fault could come."""


class NotMended(AssertionError):
    """What a run left after a fault is not what it should be."""


@dataclass
class Trial:
    """A stage that runs in a folder of its own.

    Attributes:
        stage: what runs.
        folder: where.
        place: on what.
        finished: folder of the undisturbed run.
        dice: all that is random.
        facts: what happened, for the table of results.
    """

    stage: Stage
    folder: Path
    place: places.Place
    finished: Path
    dice: random.Random
    facts: dict[str, object] = field(default_factory=dict)
    _run: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin the stage in the background."""
        line = command(
            self.folder,
            self.folder / "mine.yaml",
            *self.place.options,
            profile=self.place.profile,
        )
        goals = [f"{stages.ROOT}/{goal}" for goal in self._goals()]
        with open(self.folder / "snakemake.out", "ab") as out:
            self._run = subprocess.Popen(
                [*line, "--", *goals],
                cwd=self.folder,
                env=self.place.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _goals(self) -> list[str]:
        """The stage's, and all records up to it, as rule all asks: what verify struck is made."""
        up_to = stages.STAGES[: stages.STAGES.index(self.stage) + 1]
        needed = [
            str(p.relative_to(self.finished / stages.ROOT))
            for stage in up_to
            for p in stage.record_files(self.finished)
            if p.exists()
        ]
        return [*self.stage.goals, *needed]

    @property
    def is_running(self) -> bool:
        """True while Snakemake runs."""
        return self._run is not None and self._run.poll() is None

    @property
    def ended(self) -> str:
        """How the last run of Snakemake ended."""
        assert self._run is not None
        code = self._run.returncode
        return "done" if code == 0 else "failed" if code > 0 else "killed"

    @property
    def pid(self) -> int:
        """Snakemake's process, which leads a session of its own."""
        assert self._run is not None
        return self._run.pid

    def wait(self) -> int:
        """Wait for Snakemake to end; returns its exit status."""
        assert self._run is not None
        try:
            return self._run.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NotMended(
                f"Snakemake did not end within {_LIMIT_S:.0f} s: {self.folder}"
            ) from None

    def kill(self) -> None:
        """End Snakemake and all that it started, at once."""
        assert self._run is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._run.pid, signal.SIGKILL)
        self._run.wait()

    def until(self, ready: Callable[[], object], seconds: float = _LIMIT_S) -> None:
        """Wait for something while the stage runs. Raises: TooLate, when it is over."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.is_running or time.monotonic() > deadline:
                raise TooLate
            time.sleep(0.01)

    def random_moment(self) -> None:
        """Wait for a random moment of the work. Raises: TooLate."""
        if self.stage.records:
            count = self.dice.randrange(self.total())
            self.until(lambda: len(stages.noted(self.stage, self.folder)) >= count)
            time.sleep(self.dice.uniform(0, 0.1))
        else:
            log = self.folder / stages.ROOT / f"{self.stage.name}/logs/tissue.log"
            kept = (
                self.folder / stages.ROOT / f"{self.stage.name}/tissue/checkpoint/last.safetensors"
            )
            self.until(self.dice.choice([log, kept]).exists)
            time.sleep(self.dice.uniform(0, 3))
        if not self.is_running:
            raise TooLate
        self.facts["blocks_at_fault"] = len(stages.noted(self.stage, self.folder))

    def total(self) -> int:
        """Number of blocks that the stage does in all."""
        return len(stages.noted(self.stage, self.finished))

    def note_work(self) -> dict[tuple[Path, str], float]:
        """Blocks that are noted as done now, with the seconds that they took."""
        return {(p, e.block): e.seconds for p, e in stages.noted(self.stage, self.folder)}

    def begun(self) -> int:
        """Blocks of which something is on disk though they are not noted: those in flight."""
        known = set(self.note_work())
        found = 0
        for path, entry in stages.noted(self.stage, self.finished):
            mine = self.folder / path.relative_to(self.finished)
            if (mine, entry.block) not in known:
                found += any(file.exists() for file in stages.shards(mine, entry))
        return found

    def mend(self) -> None:
        """Run again until it is done, and compare. Raises: NotMended."""
        runs = 0
        while True:
            runs += 1
            self.start()
            if self.wait() == 0:
                break
            if runs == _MOST_RUNS:
                raise NotMended(f"{runs} more runs did not mend it: {self.said()[-3000:]}")
        self.facts["runs_to_mend"] = runs
        self.compare()

    def compare(self) -> None:
        """Compare with the undisturbed run. Raises: NotMended."""
        mine = stages.results(self.stage, self.folder)
        theirs = stages.results(self.stage, self.finished)
        wrong = sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
        if wrong:
            raise NotMended(f"{len(wrong)} files are not as in the undisturbed run: {wrong[:5]}")

    def said(self) -> str:
        """What Snakemake printed, in all runs."""
        return (self.folder / "snakemake.out").read_text(errors="replace")

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
