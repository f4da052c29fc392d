"""All benchmarks, one after the other: ``make bench``, or ``make bench ARGS="recon label"``.

Each prints its ratios and writes ``benchmarks/results/<name>.json``. Run nothing else beside.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Not by itself: a peer that a benchmark runs.
NAMES = sorted(p.stem for p in HERE.glob("[a-z]*.py") if not p.stem.endswith(("_peer", "common")))


def main() -> int:
    chosen = sys.argv[1:] or NAMES
    if unknown := sorted(set(chosen) - set(NAMES)):
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    failed = []
    for name in chosen:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
