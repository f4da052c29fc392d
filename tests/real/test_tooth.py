"""The tooth of the APS: a real scan, whose axis others have found too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tessera.config import Recon
from tessera.recon.command import reconstruct
from tessera.volume.box import Box
from tessera.volume.store import open_volume

RecordProperty = Callable[[str, object], None]
TOOTH = Path(__file__).resolve().parents[3] / "shared/data/tomo/tooth.h5"


@pytest.mark.real
@pytest.mark.skipif(not TOOTH.exists(), reason="shared/data/tomo/tooth.h5 is not at hand")
def test_the_tooth_is_reconstructed(tmp_path: Path, record_property: RecordProperty) -> None:
    reconstruct(TOOTH, tmp_path / "tooth", Recon(pixel_um=1.0))
    axis = json.loads((tmp_path / "tooth/axis.json").read_text())
    record_property("tooth.axis", axis["column"])
    record_property("tooth.axis_confidence", axis["confidence"])
    assert 295.0 <= axis["column"] <= 296.5
    volume = open_volume(tmp_path / "tooth/tile.zarr")
    tile = volume.read(Box.whole(volume.shape))
    y, x = np.mgrid[: tile.shape[1], : tile.shape[2]] - (tile.shape[1] - 1) / 2
    r = np.hypot(y, x)
    # The tooth lies in the middle; the air around it absorbs nothing.
    assert np.median(tile[0][r < 60]) > 10 * abs(np.median(tile[0][(r > 270) & (r < 285)]))
