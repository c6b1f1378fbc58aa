"""The machine: ranks and other processes, GPU kernels, locks, and what is installed."""
