"""What tessera reaches on real data, named: runs tests/real and keeps what they measured.

    python benchmarks/real.py [-k s1_cortex]

Writes ``benchmarks/results/real.json``. The data (``../shared/data``) are not part of the
repository; what is not at hand is skipped, and keeps its earlier numbers.
"""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    options = ["--whole", "--record", str(HERE / "results/real.json")]
    sys.exit(pytest.main([*options, str(HERE.parent / "tests/real"), *sys.argv[1:]]))
