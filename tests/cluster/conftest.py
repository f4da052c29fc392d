"""A Slurm for the tests of this folder, and how the workflow is run on it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import onebox
from tests.workflow.small import REPO

# Snakemake asks for states seldom, so as not to burden a scheduler; these are all its own.
QUICK = (
    "--latency-wait",
    "10",
    "--slurm-init-seconds-before-status-checks",
    "1",
    "--max-status-checks-per-second",
    "20",
)
PBS_QUICK = (
    *("--latency-wait", "10", "--seconds-between-status-checks", "1"),
    *("--max-status-checks-per-second", "20"),
)


def edited(profile: str, folder: Path, replaced: dict[str, str] | None = None, **lines: str) -> str:
    """Copy a profile and edit it as a user does; returns its path.

    Args:
        profile: ``slurm`` or ``pbs``.
        folder: where the copy goes.
        replaced: texts of the profile and what stands in their place.
        lines: values of default resources.
    """
    mine = folder / f"my-{profile}"
    shutil.copytree(REPO / "profiles" / profile, mine)
    text = (mine / "config.yaml").read_text()
    for name, value in lines.items():
        text, found = re.subn(rf"- {name}=\S+", f"- {name}={json.dumps(value)}", text)
        assert found == 1, name
    for old, new in (replaced or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    (mine / "config.yaml").write_text(text)
    return str(mine)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what needs a Slurm where it is not installed; here, so that it is said in one line.

    In CI a Slurm of which only some commands are there is an error.
    """
    missing = onebox.missing() if item.get_closest_marker("cluster") else []
    if missing:
        said = f"no Slurm here ({', '.join(missing)} missing): the tests on a cluster are left out"
        if os.environ.get("CI") and len(missing) < len(onebox.COMMANDS):
            pytest.fail(said)
        pytest.skip(said)


@pytest.fixture(scope="session")
def slurm() -> Iterator[onebox.OneBox]:
    """A Slurm of four nodes."""
    with onebox.running() as box:
        yield box
