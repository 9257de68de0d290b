"""The benchmarks' page: asv's history beside the comparison with peers, without a network.

`python -m asv_bench.dashboard --peers peers.json --serve` builds it and serves it.
"""
