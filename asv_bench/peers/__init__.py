"""fastnn next to its peers, in one run on one machine: `python -m asv_bench.peers --help`.

Reading order: networks (what is computed), rows (the list), contenders/ (one file a library),
worker (one contender in a process of its own), referee (turns), report (text, JSON, picture).
"""
