"""How much of the wheel each part of the installed fastnn takes; fails above the limit.

python tests/sizes.py
"""

import importlib.util
import sys
import zlib
from pathlib import Path

LIMIT = 2_000_000


def compressed(path):
    """The bytes of a file in a wheel, which is a zip archive: deflated, with two entries of a directory."""
    packer = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -15)
    return len(packer.compress(path.read_bytes()) + packer.flush()) + 2 * len(str(path.name)) + 76


def parts():
    """Each part's name and bytes."""
    total = {}
    for package in ("fastnn", "fastnn_ext"):
        folder = Path(importlib.util.find_spec(package).origin).parent
        for path in folder.rglob("*"):
            if path.suffix in (".so", ".pyd", ".py", ".pyi", ".pxd", ".typed") or path.parent.name == "_digits":
                inside = path.relative_to(folder)
                stem = path.name.split(".")[0] if package == "fastnn_ext" else inside.parts[0].removesuffix(".py")
                name = f"{package}.{stem}"
                total[name] = total.get(name, 0) + compressed(path)
    return total


def main():
    sizes = parts()
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{name:24} {size:9,d}  {100 * size / sum(sizes.values()):4.1f}%")
    print(f"{'together':24} {sum(sizes.values()):9,d}  of {LIMIT:,} at most")
    return int(sum(sizes.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
