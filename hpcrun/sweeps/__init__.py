"""The maths of sweeps, without I/O: the space, sampling, policies."""
