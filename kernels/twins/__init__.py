"""The CUDA C++ twins: what a good compiler makes of the same algorithm."""
