"""Packages of Debian: those of the image that an app runs with, and those that its Python packages are built with."""

from __future__ import annotations

from slipway.inspect import python
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal

# Of the image's building, of people who look into it, or what every host of Slipway has.
_NOISE = {
    "gcc",
    "g++",
    "build-essential",
    "make",
    "curl",
    "wget",
    "git",
    "netcat",
    "netcat-traditional",
    "netcat-openbsd",
    "vim",
    "nano",
    "ca-certificates",
    "gnupg",
    "gnupg2",
    "postgresql",
    "postgresql-client",
    "libpq-dev",
    "libpq5",
    "python3-dev",
    "python-dev",
    "python3",
    "python3-pip",
    "apt-transport-https",
    "software-properties-common",
    "procps",
    "unzip",
    "zip",
    "less",
    "iputils-ping",
    "telnet",
    "dnsutils",
    "libc-dev",
    "libffi-dev",
    "libssl-dev",
    "openssl",
    "pkg-config",
    "locales",
    "tini",
    "dumb-init",
    "gosu",
    "supervisor",
    "nginx",
    "cron",
    "sudo",
    "bash",
    "musl-dev",
    "libc6-dev",
    "cargo",
    "rustc",
    "cmake",
    "redis-tools",
    "htop",
    "jq",
    "tzdata",
    "xz-utils",
    "python3-venv",
    "python3-distutils",
    "git-lfs",
    "automake",
    "autoconf",
    "libtool",
    "flex",
    "bison",
    "nodejs",
    "npm",
    "net-tools",
    "lsb-release",
    "default-mysql-client",
    "bc",
    "dos2unix",
    "file",
    "lsof",
    "strace",
    "time",
    "tree",
    "zsh",
    "openssh-client",
    "apt-utils",
    "inotify-tools",
}
_RENAMED = {"libgl1-mesa-glx": "libgl1", "libmysqlclient-dev": "default-libmysqlclient-dev"}
# Python packages without wheels, or that load a library of the system.
_NEEDED = {
    "psycopg2": ("libpq-dev", "gcc", "python3-dev"),
    "mysqlclient": ("default-libmysqlclient-dev", "pkg-config", "gcc", "python3-dev"),
    "python-ldap": ("libldap-dev", "libsasl2-dev", "gcc", "python3-dev"),
    "python-magic": ("libmagic1",),
    "weasyprint": ("libpango-1.0-0", "libpangoft2-1.0-0"),
    "pyzbar": ("libzbar0",),
    "opencv-python": ("libgl1", "libglib2.0-0"),
    "pyodbc": ("unixodbc",),
    "pytesseract": ("tesseract-ocr",),
    "pdf2image": ("poppler-utils",),
    "ffmpeg-python": ("ffmpeg",),
    "pycairo": ("libcairo2-dev", "pkg-config", "gcc", "python3-dev"),
    "graphviz": ("graphviz",),
}


def propose(facts: Facts, proposal: Proposal) -> None:
    for name, packages in _NEEDED.items():
        if name in facts.dependencies:
            proposal.say("packages", list(packages), f"for {name}")
    built = [name for name in facts.dependencies if "gcc" in _NEEDED.get(name, ())] + _without_wheels(facts, proposal)
    if built:
        names = ", ".join(dict.fromkeys(built))
        proposal.say("build_packages", list(dict.fromkeys(built)), f"{names}: there is no wheel")
        # What their builds need is pinned with hashes in hardly any repository.
        proposal.say("allow_unpinned", True, f"what builds {names} is not pinned")
    for image in facts.images:
        if not facts.near(image.name) and facts.tree.has_folder(image.folder) and image.folder:
            continue
        wanted = [_RENAMED.get(one, one) for one in image.packages if one not in _NOISE and "$" not in one]
        if wanted:
            proposal.say("packages", list(dict.fromkeys(wanted)), f"{image.name} installs them")


def _without_wheels(facts: Facts, proposal: Proposal) -> list[str]:
    """The packages of the lock that have files, and none that the proposed Python could take as it is."""
    chosen = str(proposal.lines.get("python", ""))
    version = (3, int(chosen.split(".")[1])) if chosen else python.HOST
    return sorted(name for name, files in facts.locked.items() if files and not python.has_wheel(files, version))
