"""Records: what is believed, and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.errors import TesseraError
from tessera.volume.record import (
    ABSENT,
    Entry,
    Journal,
    Record,
    atomic_write,
    file_hash,
    journal_path,
    make_key,
    read_done,
    read_record,
    strike,
)


def write_journal(folder: Path, blocks: int = 4, done: int = 4) -> Path:
    record = folder / "records/0000.json"
    journal = Journal(record, Record("k", blocks))
    for i in range(done):
        (folder / f"{i}.bin").write_bytes(bytes([i]) * 10)
        journal.add(Entry(f"0.0.{i}", 0.5, 10.0, {f"{i}.bin": file_hash(folder / f"{i}.bin")}))
    journal.close()
    return record


def test_a_finished_journal_becomes_the_record(tmp_path: Path) -> None:
    record = write_journal(tmp_path)
    assert record.is_file() and not journal_path(record).exists()
    found = read_done(record)
    assert found.complete and sorted(found.entries) == [f"0.0.{i}" for i in range(4)]
    assert all(e.valid(tmp_path) for e in found.entries.values())


def test_an_unfinished_one_stays_a_journal(tmp_path: Path) -> None:
    record = write_journal(tmp_path, done=3)
    assert not record.exists()
    found = read_record(record)
    assert found is not None and len(found.entries) == 3 and not found.complete
    with pytest.raises(TesseraError, match="no complete record"):
        read_done(record)


@pytest.mark.parametrize("kept", range(0, 90, 7))
def test_a_torn_last_line_is_passed_over(tmp_path: Path, kept: int) -> None:
    record = write_journal(tmp_path, done=3)
    path = journal_path(record)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][: min(kept, len(lines[-1]) - 3)])
    found = read_record(record)
    assert found is not None and sorted(found.entries) == ["0.0.0", "0.0.1"]


def test_a_changed_or_missing_shard_is_not_believed(tmp_path: Path) -> None:
    found = read_done(write_journal(tmp_path))
    (tmp_path / "1.bin").write_bytes(b"other")
    (tmp_path / "2.bin").unlink()
    assert [found.entries[f"0.0.{i}"].valid(tmp_path) for i in range(4)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_shard_of_zeros_is_known_by_its_absence(tmp_path: Path) -> None:
    entry = Entry("0.0.0", shards={"none.bin": ABSENT})
    assert entry.valid(tmp_path)
    (tmp_path / "none.bin").write_bytes(b"x")
    assert not entry.valid(tmp_path)


def test_struck_blocks_are_to_be_made_again(tmp_path: Path) -> None:
    record = write_journal(tmp_path)
    strike(record, {"0.0.2"})
    assert not record.exists()
    found = read_record(record)
    assert found is not None and sorted(found.entries) == ["0.0.0", "0.0.1", "0.0.3"]
    strike(tmp_path / "records/none.json", {"0.0.0"})  # nothing there, nothing struck


def test_the_digest_is_of_content_alone() -> None:
    a = Record("k", 2, {"0": Entry("0", 1.0, 5.0, {"f": "h"}), "1": Entry("1", error="x")})
    b = Record("other", 1, {"0": Entry("0", 9.0, 7.0, {"f": "h"})})
    c = Record("k", 1, {"0": Entry("0", 1.0, 5.0, {"f": "other"})})
    assert a.digest() == b.digest() != c.digest()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_a_key_does_not_depend_on_order(parts: dict) -> None:
    assert make_key(p=parts) == make_key(p=dict(reversed(list(parts.items()))))


def test_keys_and_hashes_differ_with_content(tmp_path: Path) -> None:
    assert make_key(a=1) != make_key(a=2) and make_key(a=1) != make_key(b=1)
    (tmp_path / "f").write_bytes(b"a" * 10_000_000)
    first = file_hash(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"a" * 9_999_999 + b"b")
    assert file_hash(tmp_path / "f") != first
    assert file_hash(tmp_path / "none") == ABSENT


def test_an_atomic_write_leaves_nothing_behind(tmp_path: Path) -> None:
    atomic_write(tmp_path / "sub/x.json", "1")
    atomic_write(tmp_path / "sub/x.json", "2")
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "sub/x.json").read_text()) == 2
