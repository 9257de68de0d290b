IMAGES: str
POOL: str
