HYPER_NAMES: dict[str, tuple[str, ...]]
PIECE: int
