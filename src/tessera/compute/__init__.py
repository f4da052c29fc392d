"""Where work runs: ranks, threads, devices, progress."""
