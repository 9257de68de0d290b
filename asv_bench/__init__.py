"""Benchmarks: the comparison with peers, and the airspeed-velocity suite."""
