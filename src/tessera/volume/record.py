"""Records: what is done, written last, and checked before it is believed.

A batch keeps one file. While it runs it is a *journal* ``<name>.jsonl``: a header and one line a
finished block, appended. When all its blocks are done it becomes the *record* ``<name>.json``,
by an atomic rename, and a rule declares only that as its output: Snakemake deletes the declared
outputs of a failed job, and what is done must outlive a failure.

An entry is valid if its batch's *key* (settings and content of the inputs) is the present one and
every shard it names is on disk with the hash it had when it was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import xxhash

from tessera.errors import TesseraError

ABSENT = "absent"  # the hash of a file that is not there


def file_hash(path: Path) -> str:
    """Return the xxh3-128 of a file's bytes as hex, or :data:`ABSENT`."""
    digest = xxhash.xxh3_128()
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    except FileNotFoundError:
        return ABSENT
    return digest.hexdigest()


def make_key(**parts: Any) -> str:
    """Return a short hash of whatever a result depends on: settings, digests of inputs."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One block that is done (or failed, where ``error`` says why)."""

    block: str
    seconds: float = 0.0
    peak_mib: float = 0.0
    shards: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the entry as it stands in a record; empty parts are left out."""
        out: dict[str, Any] = {"block": self.block, "seconds": round(self.seconds, 4)}
        out |= {"peak_mib": round(self.peak_mib, 1)}
        if self.shards:
            out["shards"] = self.shards
        if self.result:
            out["result"] = self.result
        if self.error is not None:
            out["error"] = self.error
        return out

    def valid(self, root: Path) -> bool:
        """True if the block is done and its shards below ``root`` are what they were."""
        return self.error is None and all(
            file_hash(root / name) == known for name, known in self.shards.items()
        )


@dataclass
class Record:
    """A batch's entries, under the key that they hold for.

    Attributes:
        key, total: what the entries hold for, and how many there will be.
        entries: by name of the block.
        complete: True for a record, False for a journal.
        began: when the job began that wrote last, in seconds since 1970; 0 where it is not known.
        kept: entries that it found done.
    """

    key: str
    total: int
    entries: dict[str, Entry] = field(default_factory=dict)
    complete: bool = False
    began: float = 0.0
    kept: int = 0

    def digest(self) -> str:
        """Return a hash of what the blocks wrote: equal content, equal digest."""
        content = {
            n: (e.shards, e.result) for n, e in sorted(self.entries.items()) if e.error is None
        }
        return make_key(content=content)


def journal_path(record: Path) -> Path:
    """Where a batch whose record is ``record`` keeps its journal."""
    return record.with_suffix(".jsonl")


def read_record(record: Path) -> Record | None:
    """Read a batch's journal if it runs, else its record; None if there is neither.

    A torn last line (a kill while it was written) is passed over.
    """
    for path in (journal_path(record), record):
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            continue
        found: Record | None = None
        for line in lines:
            try:
                data = json.loads(line)
            except json.JSONDecodeError:
                continue
            if not isinstance(data, dict):
                continue
            if "key" in data:
                found = Record(data["key"], data["total"], complete=path == record)
                found.began, found.kept = data.get("began", 0.0), data.get("kept", 0)
            elif found is not None and "block" in data:
                found.entries[data["block"]] = Entry(**data)
        if found is not None:
            return found
    return None


def write_record(record: Path, content: Record) -> None:
    """Write a complete record in place, atomically, and drop the journal."""
    _write_lines(record, content)
    journal_path(record).unlink(missing_ok=True)


def strike(record: Path, blocks: set[str]) -> None:
    """Take blocks out of a record, so that the next run makes them, and them alone, again."""
    content = read_record(record)
    if content is None:
        return
    content.entries = {n: e for n, e in content.entries.items() if n not in blocks}
    _write_lines(journal_path(record), content)
    record.unlink(missing_ok=True)


def _write_lines(path: Path, content: Record) -> None:
    head = {"key": content.key, "total": content.total}
    lines = [json.dumps(head | {"began": round(content.began, 3), "kept": content.kept})]
    lines += [json.dumps(e.as_json(), sort_keys=True) for _, e in sorted(content.entries.items())]
    atomic_write(path, "\n".join(lines) + "\n")


def atomic_write(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old one or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(partial, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class Journal:
    """The journal of a batch that runs: open, append a line a block, close into a record."""

    def __init__(self, record: Path, start: Record) -> None:
        self.record = record
        self.content = start
        start.began, start.kept = time.time(), len(start.entries)
        self.path = journal_path(record)
        _write_lines(self.path, start)
        self._file: IO[str] = open(self.path, "a")  # noqa: SIM115 - closed in close()

    def add(self, entry: Entry) -> None:
        """Append one line; it is in the kernel's hands when this returns."""
        self.content.entries[entry.block] = entry
        self._file.write(json.dumps(entry.as_json(), sort_keys=True) + "\n")
        self._file.flush()

    def close(self) -> None:
        """End the batch: a record if every block is done, else the journal as it is."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        done = sum(e.error is None for e in self.content.entries.values())
        if done == self.content.total:
            write_record(self.record, self.content)


def read_done(record: str | Path) -> Record:
    """Read the record of a batch that must be complete.

    Raises:
        TesseraError: if it is not there or not complete.
    """
    found = read_record(Path(record))
    if found is None or not found.complete:
        raise TesseraError(f"{record}: no complete record here; run the workflow again")
    return found
