"""Local copies of what asv's page loads from content networks: pinned npm packages."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """An npm package, and which of its files stand for which address in asv's page."""

    name: str
    version: str
    sha256: str  # of the tarball
    files: dict[str, str]  # end of the address: file in the package
    others: tuple[str, ...] = ()  # files that those load


PACKAGES = (
    Package(
        "jquery",
        "3.3.1",
        "2c7c70a1e796c1568ff05d45a8cb2da2a0fc6e37426c65e4eef6ee55e217933e",
        {"/jquery-3.3.1.min.js": "dist/jquery.min.js"},
    ),
    Package(
        "flot",
        "0.8.3",
        "5e4cea78a9efa2d3dbba363ac76c688951e6c638ee916883c36e23516208b1ed",
        {
            "/jquery.flot.min.js": "jquery.flot.js",
            "/jquery.flot.time.min.js": "jquery.flot.time.js",
            "/jquery.flot.selection.min.js": "jquery.flot.selection.js",
            "/jquery.flot.categories.min.js": "jquery.flot.categories.js",
        },
    ),
    Package(
        "flot-orderbars",
        "1.0.0",
        "e5523ee7cca778f194b34fc31afb6dda40bf1557e6669fda4730c29f53e87101",
        {"/jquery.flot.orderBars.js": "js/jquery.flot.orderBars.js"},
    ),
    Package(
        "stupid-table-plugin",
        "1.1.3",
        "1186089584b7c2f7fec9ad4232e9aa1adbfea273eaa233b713beb8c2c916b4ac",
        {"/stupidtable.min.js": "stupidtable.min.js"},
    ),
    Package(
        "blueimp-md5",
        "2.19.0",
        "0fff5798c7733b21f3e4c0de69ccba12af266e0f01c3e3a41051c0e49a655512",
        {"/md5.min.js": "js/md5.min.js"},
    ),
    Package(
        "bootstrap",
        "3.1.1",
        "23b27da4dd80b8fbe8972ac4be87037627e007ad5dd1edb27435844f0a4646a0",
        {"/bootstrap.min.js": "dist/js/bootstrap.min.js", "/bootstrap.min.css": "dist/css/bootstrap.min.css"},
        ("dist/fonts/glyphicons-halflings-regular.woff", "dist/fonts/glyphicons-halflings-regular.ttf"),
    ),
)


def vendor(page: Path, cache: Path) -> None:
    """Put copies beside asv's `page` (the folder of its index.html) and make it load those.

    Raises
    ------
    OSError
        If a package is neither in `cache` nor to be had through npm.
    ValueError
        If a package's checksum is another, or the page still loads something from elsewhere.
    """
    index = page / "index.html"
    text = index.read_text()
    for package in PACKAGES:
        folder = page / "vendor" / package.name
        with tarfile.open(_tarball(package, cache)) as archive:
            for name in (*package.files.values(), *package.others):
                member = archive.extractfile(f"package/{name}")
                if member is None:
                    raise ValueError(f"{package.name} {package.version} holds no {name}")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(member.read())
        for address, name in package.files.items():
            text = re.sub(
                rf'(src|href)="https://[^"]*{re.escape(address)}"', rf'\1="vendor/{package.name}/{name}"', text
            )
    text = re.sub(r' (integrity|crossorigin|referrerpolicy)="[^"]*"', "", text)
    index.write_text(text)
    left = re.findall(r'<(?:script|link)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', text)
    if left:
        raise ValueError(f"asv's page loads files that have no local copy here: {left}; asv 0.6.6 is expected")


def _tarball(package: Package, cache: Path) -> Path:
    path = cache / f"{package.name}-{package.version}.tgz"
    if not path.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError(f"npm is needed once, to fetch {path.name} into {cache}")
        cache.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", "--silent", f"{package.name}@{package.version}"]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True)
        if done.returncode or not path.exists():
            raise OSError(f"npm could not fetch {path.name}: {done.stderr.strip()[-300:]}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        path.unlink()
        raise ValueError(f"{path.name} has the sha256 {found}, expected {package.sha256}; it was removed")
    return path
