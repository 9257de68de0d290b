UNARY: tuple[str, ...]
BINARY: tuple[str, ...]
MAX_BINARY_NDIM: int
MAX_COPY_NDIM: int
