"""The programs that tests need on this machine: finds them, or installs their Debian packages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hosts import chromium, container_runtime, postgresql


@dataclass(frozen=True)
class Product:
    """A program that tests need: its Debian packages, and how to find it."""

    packages: tuple[str, ...]
    find: Callable[[], Path | None]


def program(name: str) -> Callable[[], Path | None]:
    """A function that finds a program in PATH, or in /usr/sbin and /sbin, which users may not have in PATH."""

    def find() -> Path | None:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        return Path(found) if found else None

    return find


def _locales() -> Path | None:
    """The program that builds locales. It also needs their source files."""
    return program("localedef")() if Path("/usr/share/i18n/SUPPORTED").exists() else None


PRODUCTS = {
    "apt-config": Product(("apt",), program("apt-config")),
    "chromium": Product(("chromium", "fonts-inter"), chromium.program),  # the font that the page asks for first
    "localedef": Product(("locales",), _locales),
    "nginx": Product(("nginx",), program("nginx")),
    "openssl": Product(("openssl",), program("openssl")),
    "postgresql": Product(("postgresql",), postgresql.programs),
    "ssh-keygen": Product(("openssh-client",), program("ssh-keygen")),
    "systemd-analyze": Product(("systemd",), program("systemd-analyze")),
    "systemd-sysusers": Product(("systemd",), program("systemd-sysusers")),
    "systemd-tmpfiles": Product(("systemd",), program("systemd-tmpfiles")),
}


def ensure(*names: str) -> None:
    """Install the missing ones of these products (default: all); HostError if that is not possible."""
    if unknown := set(names) - set(PRODUCTS):
        raise container_runtime.HostError(f"{unknown.pop()} is not one of {', '.join(PRODUCTS)}.")
    if absent := [PRODUCTS[name] for name in names or PRODUCTS if PRODUCTS[name].find() is None]:
        container_runtime.install(*dict.fromkeys(package for product in absent for package in product.packages))
