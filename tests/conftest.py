"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.workflow.small import SMALL, snakemake, write_config

# No test asserts a time, and a busy machine is no failure.
settings.register_profile("tessera", deadline=None)
settings.load_profile("tessera")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small specimen has gone the whole way, undisturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = snakemake(folder, write_config(folder, SMALL))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder
