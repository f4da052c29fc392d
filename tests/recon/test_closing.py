"""The window of the closing likelihood, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal.windows import tukey

from tessera.recon.closing import taper


@pytest.mark.parametrize("count", [1, 2, 5, 64, 301])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 1.0])
def test_taper_is_tukeys_window_without_its_zeros(count: int, share: float) -> None:
    np.testing.assert_allclose(taper(count, share), tukey(count + 2, share)[1:-1], atol=1e-14)
