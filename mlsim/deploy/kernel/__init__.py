"""The kernel: a bound network and its molecular mechanics as compiled loops, and as a static program for GPUs."""
