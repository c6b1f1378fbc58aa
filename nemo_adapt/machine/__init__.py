"""The machine: devices, ranks and other processes, kernels, and what is installed."""
