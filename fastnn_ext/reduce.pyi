REDUCE: tuple[str, ...]
PIECES: int
