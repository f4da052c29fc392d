"""Real files as they come: headers, sampled frames, and a config that `tessera new` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tessera.cli import main
from tessera.config import read_config
from tessera.formats import open_scan
from tessera.formats.sample import check_frames
from tessera.formats.scan import angles_of

DATA = Path(__file__).parents[3] / "shared" / "data"
TOOTH = DATA / "tomo" / "tooth.h5"
CORTEX = DATA / "xray" / "s1_cortex_V2_x000-115.h5"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not TOOTH.exists(), reason="tooth.h5 is not in ../shared/data"),
]


def test_tooth_is_a_sound_scan_without_a_pixel_size():
    with open_scan(TOOTH) as scan:
        header = scan.header
        assert (header.kind, header.angles, header.rows, header.columns) == (
            "Data Exchange", 181, 2, 640,
        )  # fmt: skip
        assert header.pixel_um is None and header.dtype == "float32"
        angles = angles_of(scan, None)
        np.testing.assert_allclose(angles[[0, -1]], [0.0, 179.0055], atol=1e-3)
        check_frames(scan)
        assert scan.flats(slice(0, 2)).mean() > scan.projections(slice(0, 2)).mean()


def test_cortex_config_is_written_and_sound(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = [
        "new",
        "cortex",
        "--volume",
        f"{CORTEX}::raw",
        "--labels",
        f"cell={CORTEX}::labels/cells",
    ]
    assert main([*line, "--labels", f"vessel={CORTEX}::labels/vessels"]) == 0
    config = read_config("cortex/config.yaml")
    assert config.volume is not None and config.volume.voxel_um == (0.65, 0.65, 0.65)
    model = config.models["tissue"]
    assert model.classes == ("background", "cell", "vessel")
    assert model.labels[0].instances_of == "cell"
    assert main(["check", "cortex/config.yaml"]) == 0
    assert "100 x 200 x 115 voxels" in capsys.readouterr().out
