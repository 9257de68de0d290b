"""Torch7's networks, from its .t7 files."""
