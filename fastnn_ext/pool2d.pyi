IMAGES: str
POOL: str
MOST_TAPS: int
