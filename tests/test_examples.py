"""Each example is a config that this version reads; where its data are at hand, it is sound."""

from pathlib import Path

import pytest

from tessera.check import check_config
from tessera.config import read_config
from tessera.errors import TesseraError

REPO = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((REPO / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", [*EXAMPLES, REPO / "config.yaml"], ids=lambda path: path.stem)
def test_an_example_is_read_and_its_data_fit(path, tmp_path, monkeypatch):
    config = read_config(path)
    data = REPO.parent / "shared"
    if config.simulate is None and not data.exists():
        pytest.skip("the data are not in ../shared")
    (tmp_path / "shared").symlink_to(data)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    try:
        assert check_config(config).shape > (0, 0, 0)
    except TesseraError as error:
        pytest.fail(f"{path.name}: {error}")


def test_there_are_examples():
    assert EXAMPLES
