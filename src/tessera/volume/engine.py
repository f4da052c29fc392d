"""The engine: does a batch's blocks, keeps their records, survives being killed.

1. What the batch's record says is done, under the same key, and is on disk as it was, is kept.
2. The rest is handed out to the ranks as they become free.
3. In each rank, reading the next block and writing the last one overlap the computing of one.
4. A block that fails is noted and does not stop its neighbours; at the end the batch fails and
   names it. The next run does that block alone.
5. When all blocks are done the journal becomes the record.

What a block writes is a function of the block alone, so the result does not depend on batches,
ranks, order or interruptions.
"""

from __future__ import annotations

import errno
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tessera.compute import ranks, signals
from tessera.compute.handout import HandOut
from tessera.compute.measure import peak_mib
from tessera.compute.progress import Progress
from tessera.errors import Requeue, TesseraError, WorkFailed
from tessera.volume.box import Block
from tessera.volume.record import Entry, Journal, Record, file_hash, read_record

_FATAL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Task:
    """What is done to each block.

    Attributes:
        read: fetches what the block needs (runs in a thread, one block ahead).
        compute: turns it into the block's result (runs in the main thread).
        write: stores the result, whole files only (runs in a thread); may return a small dict
            that is kept in the record, e.g. a count.
        files: the files that a block writes; their hashes go into the record. Files that do not
            exist afterwards are noted as absent.
        name: what the progress line says.
    """

    read: Callable[[Block], Any]
    compute: Callable[[Block, Any], Any]
    write: Callable[[Block, Any], dict[str, Any] | None]
    files: Callable[[Block], Sequence[Path]]
    name: str = "blocks"


def run_batch(
    task: Task,
    blocks: Sequence[Block],
    record: str | Path,
    key: str,
    comm: Any | None = None,
    progress: bool = True,
) -> Record:
    """Do the blocks of one batch that are not validly done.

    Args:
        task: what is done to a block.
        blocks: the batch's blocks, the same on each rank.
        record: the batch's record, e.g. ``predict/somas/records/0003.json``; names of files in
            it are relative to the folder above ``records``.
        key: hash of all that the result depends on; entries under another key are not believed.
        comm: mpi4py communicator whose ranks share the work, or None.
        progress: show a progress line (rank 0).

    Returns:
        the complete record.

    Raises:
        WorkFailed: some blocks failed; they are named, the others are done and kept.
        TesseraError: the disk is full; what is done is kept.
        Requeue: the scheduler's signal came; what is done is kept.
    """
    record = Path(record)
    root = record.parent.parent
    start = ranks.root_only(comm, _resume, record, root, key, blocks)
    todo = [b for b in blocks if b.name not in start.entries]
    journal = Journal(record, start) if ranks.rank_of(comm) == 0 else None
    bar = Progress(task.name, len(blocks), len(start.entries)) if journal and progress else None
    fatal: list[str] = []

    def note(entry: Entry) -> None:
        assert journal is not None
        journal.add(entry)
        if entry.error is not None and entry.error.startswith("fatal: "):
            fatal.append(entry.error.removeprefix("fatal: "))
            work.stop()
        if bar is not None:
            bar.step()

    with signals.listen() as warned, HandOut(todo, note, comm) as work:
        _drive(task, work, root, warned)
    if comm is not None:
        comm.Barrier()
    done = ranks.root_only(comm, lambda: _close(journal, fatal, bool(warned)))
    if bar is not None and todo:
        bar.finish()
    return done


def _resume(record: Path, root: Path, key: str, blocks: Sequence[Block]) -> Record:
    """Return what is validly done already, as the start of the journal."""
    known = read_record(record)
    fresh = Record(key, len(blocks))
    if known is not None and known.key == key:
        for block in blocks:
            entry = known.entries.get(block.name)
            if entry is not None and entry.valid(root):
                fresh.entries[block.name] = entry
    return fresh


def _close(journal: Journal | None, fatal: list[str], warned: bool) -> Record:
    assert journal is not None
    journal.close()
    content = journal.content
    failed = [e for e in content.entries.values() if e.error is not None]
    left = content.total - len(content.entries)
    if fatal:
        kept = len(content.entries) - len(failed)
        raise TesseraError(f"{fatal[0]} ({kept} of {content.total} blocks are done and kept)")
    if failed:
        named = "; ".join(f"block {e.block}: {e.error}" for e in failed[:5])
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        raise WorkFailed(
            f"{len(failed)} of {content.total} blocks failed ({named}{more}); the others are kept, "
            "and the next run does these alone"
        )
    if left and warned:
        raise Requeue(f"stopped on the scheduler's signal with {left} blocks left; run again")
    content.complete = True
    return content


def _drive(task: Task, work: HandOut, root: Path, warned: signals.Warned) -> None:
    """Read ahead, compute, write behind: one block in each at a time.

    What is written is noted by the writer at once: a kill costs no block that was on disk while
    the next one, which may take minutes, was computed.
    """
    items = iter(work)
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:

        def fetch() -> Fetched | None:
            # To be handed a block takes a moment too: rank 0 may be deep in its own.
            block = None if warned else next(items, None)
            if block is None:
                return None
            began = time.perf_counter()
            try:
                return Fetched(block, task.read(block), None, began)
            except Exception as problem:
                return Fetched(block, None, _said(problem), began)

        def store(block: Block, result: Any, error: str | None, began: float) -> None:
            work.report(_store(task, block, result, error, began, root))

        writing: Future[None] | None = None
        current = reader.submit(fetch).result()
        while current is not None:
            following = reader.submit(fetch)
            block, data, error, began = current
            del current
            result = None
            if error is None:
                try:
                    result = task.compute(block, data)
                except Exception as problem:
                    error = _said(problem)
            del data
            if writing is not None:
                writing.result()
            writing = writer.submit(store, block, result, error, began)
            del result
            current = following.result()
            del following
        if writing is not None:
            writing.result()


class Fetched(NamedTuple):
    """A block that was read, or could not be."""

    block: Block
    data: Any
    error: str | None
    began: float


def _store(
    task: Task, block: Block, result: Any, error: str | None, began: float, root: Path
) -> Entry:
    """Write one block and hash what was written; an error becomes the block's entry."""
    extra: dict[str, Any] = {}
    shards: dict[str, str] = {}
    if error is None:
        try:
            extra = task.write(block, result) or {}
            shards = {str(path.relative_to(root)): file_hash(path) for path in task.files(block)}
        except Exception as problem:
            error = _said(problem)
    seconds = time.perf_counter() - began
    return Entry(block.name, seconds, peak_mib(), shards, extra, error)


def _said(problem: Exception) -> str:
    """One line for the record; the traceback of an unexpected error goes to the log."""
    if isinstance(problem, OSError) and problem.errno in _FATAL:
        where = problem.filename or "the results folder"
        return f"fatal: {where}: the disk is full or over quota; free space and run again"
    if not isinstance(problem, TesseraError):
        traceback.print_exception(problem, file=sys.stderr)
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
