"""The programs that tests need on this machine: finds them, or installs their Debian packages."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hosts import chromium, container_runtime, postgresql, scratch


@dataclass(frozen=True)
class Product:
    """A program that tests need: its Debian packages, and how to find it."""

    packages: tuple[str, ...]
    find: Callable[[], Path | None]
    unpacked: bool = False  # taken out of its package, not installed: it would serve on this machine


def program(name: str) -> Callable[[], Path | None]:
    """A function that finds a program in PATH, or in /usr/sbin and /sbin, which users may not have in PATH."""

    def find() -> Path | None:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        return Path(found) if found else None

    return find


def _locales() -> Path | None:
    """The program that builds locales. It also needs their source files."""
    return program("localedef")() if Path("/usr/share/i18n/SUPPORTED").exists() else None


UNPACKED = scratch.PROJECT / ".cache/products"


def _sshd() -> Path | None:
    """An SSH server, which nobody starts."""
    here = UNPACKED / "usr/sbin/sshd"
    return program("sshd")() or (here if here.exists() else None)


def redis_server() -> Path | None:
    """The program of Redis: called redis-server it is the server, as which the package of tools does not start it."""
    return program("redis-server")() or program("redis-check-rdb")()


def _unpack(*packages: str) -> None:
    """Take the files of Debian packages."""
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        download = ["apt-get", "--quiet", "download", *packages]
        done = subprocess.run(download, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise container_runtime.HostError(f"apt-get download failed: {done.stderr.strip().splitlines()[-1:]}")
        for package in Path(directory).glob("*.deb"):
            container_runtime.run("dpkg-deb", "--extract", package, UNPACKED)


PRODUCTS = {
    "apt-config": Product(("apt",), program("apt-config")),
    "chromium": Product(("chromium", "fonts-inter"), chromium.program),  # the font that the page asks for first
    "localedef": Product(("locales",), _locales),
    "mariadbd": Product(("mariadb-server-core",), program("mariadbd")),  # the program alone, which nobody starts
    "nginx": Product(("nginx",), program("nginx")),
    "modprobe": Product(("kmod",), program("modprobe")),
    "nft": Product(("nftables",), program("nft")),
    "openssl": Product(("openssl",), program("openssl")),
    "perl": Product(("perl",), program("perl")),
    "pgbackrest": Product(("pgbackrest",), program("pgbackrest")),
    "postgresql": Product(("postgresql",), postgresql.programs),
    "redis-server": Product(("redis-tools",), redis_server),
    "ssh-keygen": Product(("openssh-client",), program("ssh-keygen")),
    "sshd": Product(("openssh-server", "libwrap0"), _sshd, unpacked=True),
    "sysctl": Product(("procps",), program("sysctl")),
    "systemd-analyze": Product(("systemd",), program("systemd-analyze")),
    "systemd-sysusers": Product(("systemd",), program("systemd-sysusers")),
    "systemd-tmpfiles": Product(("systemd",), program("systemd-tmpfiles")),
}


def ensure(*names: str) -> None:
    """Install the missing ones of these products (default: all); HostError if that is not possible."""
    if unknown := set(names) - set(PRODUCTS):
        raise container_runtime.HostError(f"{unknown.pop()} is not one of {', '.join(PRODUCTS)}.")
    if absent := [PRODUCTS[name] for name in names or PRODUCTS if PRODUCTS[name].find() is None]:
        installed = dict.fromkeys(name for product in absent if not product.unpacked for name in product.packages)
        if installed:
            container_runtime.install(*installed)
        for product in (product for product in absent if product.unpacked):
            _unpack(*product.packages)
