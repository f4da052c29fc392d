"""Boundaries of neurons in FIB-25 (Takemura 2015, doi:10.1073/pnas.1509820112): learn from 80
planes, be scored on the 25 that training never saw, as ``examples/fib25_boundaries.yaml`` says
(with ``--whole``; else a seventh of its training, and smaller blocks).

Peer, same planes and score: MONAI's U-Net after 7 minutes of two cores, 0.839 average precision.
"""

import json
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SLAB = REPO.parent / "shared/data/em/fib25_training2_z000-110.h5"

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not SLAB.exists(), reason="the FIB-25 slab is not in ../shared/data"),
]


def test_boundaries_are_found_where_training_never_was(run_example, record_property, request):
    whole = request.config.getoption("--whole")
    # Blocks are so small that there are faces to look at; the default has one in this slab.
    blocks = {} if whole else {"memory_gib": 0.2}
    root = run_example("fib25_boundaries", "evaluate/metrics.json", steps=140, **blocks)
    metrics = json.loads((root / "evaluate/metrics.json").read_text())
    found = metrics["boundary.average_precision"]["value"]
    last = json.loads((root / "train/membranes/curves.jsonl").read_text().splitlines()[-1])
    record_property("fib25_boundaries.average_precision", found)
    record_property("fib25_boundaries.training_minutes", last["seconds"] / 60)
    seam = metrics["predict.seam_score"]
    for name in ("value", "low", "high"):
        record_property(f"fib25_boundaries.seam_score.{name}", seam[name])
    # Floors against regressions; docs/train.md has what the whole reached.
    assert found >= (0.84 if whole else 0.65)
    # One face says so little that its score may be above 1.05 by chance; not its interval.
    assert seam["low"] <= 1.0 and (whole or seam["value"] <= 1.05)
