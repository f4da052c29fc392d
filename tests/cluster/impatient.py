"""Snakemake as it is, but it asks a Slurm of this machine's own for states once a second.

The plugin waits ten seconds longer after each answer in which nothing has ended, which is right on
a login node and would make most of a test's time here; it has no option for it.
"""

from __future__ import annotations

import sys

import snakemake_executor_plugin_slurm as plugin
from snakemake.cli import main

_SECONDS = 1


class Impatient(plugin.Executor):  # type: ignore[misc]
    """The plugin's executor with a constant pause between two questions."""

    next_seconds_between_status_checks = property(lambda self: _SECONDS, lambda self, value: None)


if __name__ == "__main__":
    plugin.Executor = Impatient
    sys.exit(main(sys.argv[1:]))
