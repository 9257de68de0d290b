PIECES: int
REDUCTIONS: tuple[str, ...]
