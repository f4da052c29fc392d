"""How long one waits for the first word: `tessera --help`, and a dry run of the demo.

    python benchmarks/start.py

The best of five, wall and user seconds, in results/start.json.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from common import keep, tessera, timed

REPO = Path(__file__).resolve().parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dry = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "2"]
        dry += ["--snakefile", str(REPO / "Snakefile"), "--directory", folder]
        dry += ["--configfile", str(REPO / "config.yaml")]
        plan = tessera("plan", str(REPO / "config.yaml"))
        found = {}
        for name, line, runs in (
            ("tessera --help", tessera("--help"), 5),
            ("snakemake -n, demo", dry, 5),
            ("tessera plan, demo", plan, 2),
        ):
            took = [timed(line, Path(folder)) for _ in range(runs)]
            found[name] = {
                "wall_s": round(min(wall for wall, _ in took), 3),
                "user_s": round(min(user for _, user in took), 3),
            }
    found["tessera --help"]["bar_s"] = 0.4
    found["snakemake -n, demo"]["bar_s"] = 5.0
    keep("start", found)


if __name__ == "__main__":
    main()
