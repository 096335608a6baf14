"""What the output of a failed build means: a sentence that says what to do, where that can be told.

Most packages come as wheels. One that is built from source may want a compiler, a program or a header, and each of them
has a package of Debian, which the role `host` installs when it is among `host_packages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_LONGEST_GIST = 300  # characters

# What nearly every build wants, of which it says only the first that it lacks.
_COMPILER = ("build-essential", "python3-dev")
# By a header, or the directory that it is in.
_HEADERS = {
    "Python.h": "python3-dev",
    "bluetooth": "libbluetooth-dev",
    "cairo.h": "libcairo2-dev",
    "curl": "libcurl4-openssl-dev",
    "ev.h": "libev-dev",
    "ffi.h": "libffi-dev",
    "gdal.h": "libgdal-dev",
    "geos_c.h": "libgeos-dev",
    "gmp.h": "libgmp-dev",
    "graphviz": "libgraphviz-dev",
    "gssapi": "libkrb5-dev",
    "hdf5.h": "libhdf5-dev",
    "jpeglib.h": "libjpeg-dev",
    "lber.h": "libldap-dev",
    "ldap.h": "libldap-dev",
    "libpq-fe.h": "libpq-dev",
    "libxml": "libxml2-dev",
    "libxslt": "libxslt1-dev",
    "lzma.h": "liblzma-dev",
    "magic.h": "libmagic-dev",
    "mysql.h": "default-libmysqlclient-dev",
    "openssl": "libssl-dev",
    "sasl": "libsasl2-dev",
    "snappy-c.h": "libsnappy-dev",
    "sodium.h": "libsodium-dev",
    "sql.h": "unixodbc-dev",
    "sqlite3.h": "libsqlite3-dev",
    "xmlsec": "libxmlsec1-dev",
    "yaml.h": "libyaml-dev",
    "zlib.h": "zlib1g-dev",
    "zmq.h": "libzmq3-dev",
}
_PROGRAMS = {
    "cargo": "cargo",
    "cmake": "cmake",
    "curl-config": "libcurl4-openssl-dev",
    "dot": "graphviz",
    "gdal-config": "libgdal-dev",
    "geos-config": "libgeos-dev",
    "gfortran": "gfortran",
    "git": "git",
    "krb5-config": "libkrb5-dev",
    "mysql_config": "default-libmysqlclient-dev",
    "ninja": "ninja-build",
    "pg_config": "libpq-dev",
    "pkg-config": "pkg-config",
    "rustc": "rustc",
    "swig": "swig",
    "xml2-config": "libxml2-dev",
    "xslt-config": "libxslt1-dev",
    **dict.fromkeys(("c++", "cc", "clang", "clang++", "cpp", "g++", "gcc", "ld", "make"), "build-essential"),
}
# What builds say in words of their own.
_SAYINGS = {
    r"Unknown compiler\(s\): \[\['(?:cc|c\+\+)'": "gcc",
    r"CMAKE_C(?:XX)?_COMPILER not set|No CMAKE_C(?:XX)?_COMPILER could": "gcc",
    r"Unsupported compiler -- at least|'make' utility is missing|linker `cc` not found|gcc is not installed": "gcc",
    r"you need a C compiler": "gcc",  # of uWSGI
    r"gcc -E ended with return code": "openssl swig",  # of M2Crypto, which looks for a header by it
    r"Unknown compiler\(s\): \[\['gfortran'": "gfortran",
    r"pg_config is required|pg_config executable not found": "pg_config",
    r"libxml2 and libxslt development packages": "xml2-config xslt-config",
    r"[Uu]nable to invoke pkg-config|Did not find pkg-config|[Pp]kg-[Cc]onfig for machine \w+ machine not found"
    r"|pkg-config probably not installed": "pkg-config",
    r"Can not find valid pkg-config name": "mysql_config pkg-config",
    r"[Rr]ust(?: toolchain)? not found|can't find Rust compiler": "cargo",
    r"Cargo, the Rust package manager, is not installed": "cargo",
    r"Could not find gdal-config": "gdal-config",
    r"Graphviz must be installed": "dot",
    r"CMake must be installed": "cmake",
    r"could not be found for zlib|RequiredDependencyException: zlib": "zlib.h",
    r"could not be found for jpeg|RequiredDependencyException: jpeg": "jpeglib.h",
    r"[Gg]it executable (?:was )?not found|git: not found": "git",
    r"Could NOT find Python \(missing: [^)]*Development|Python dependency not found|Python header files are not"
    r"|requires python3 dependency|non-existent path\s+\"/usr/include/python": "Python.h",
}
# What well-known projects want beside a compiler, named at once, as each build says only the first thing that it lacks.
_PROJECTS = {
    "cffi": "ffi.h",
    "cryptography": "cargo openssl pkg-config",
    "gssapi": "krb5-config",
    "h5py": "hdf5.h pkg-config",
    "lxml": "libxml libxslt",
    "m2crypto": "openssl swig",
    "mysqlclient": "mysql.h pkg-config",
    "pillow": "jpeglib.h zlib.h",
    "psycopg-c": "libpq-fe.h",
    "psycopg2": "libpq-fe.h",
    "pycairo": "cairo.h pkg-config",
    "pycurl": "curl openssl",
    "pygraphviz": "dot graphviz",
    "pyodbc": "sql.h",
    "pysqlite3": "sqlite3.h",
    "python-ldap": "ldap.h sasl",
    "scipy": "gfortran pkg-config",
    "shapely": "geos_c.h",
    "xmlsec": "xmlsec pkg-config",
}

_NO_HEADER = re.compile(r"fatal error: ['\"<]?([\w./+-]+\.h(?:pp)?)['\">]?(?::|\s*file not found| not found)")
_NO_PROGRAM = re.compile(
    r"No such file or directory: '([\w./+-]+)'|(?:sh: (?:\d+: )?|line \d+: )([\w./+-]+): (?:command )?not found"
    r"|command '([\w./+-]+)' failed: No such file"
)
_NO_GIT = re.compile(
    r"setuptools-scm was unable to detect version|unable to detect version for"
    r"|Error getting the version from source `vcs`"
    r"|does not appear to be a Git project|Unable to detect version control system"
    r"|Versioning for this project requires either an sdist"
    r"|Failed to (?:determine|get) .{0,40}version from (?:git|SCM|VCS)"
    r"|This is not a Git repository|versioningit.*(?:NotVCSError|NotSdistError)|NotVCSError|NotSdistError"
    r"|Cannot find (?:the )?(?:SCM|VCS|version from)"
    r"|Command '(?:\['git', '|git )describe\b.* returned non-zero exit status 128"  # of a project's own setup.py
)
_NO_WHEEL = re.compile(r"Distribution `([A-Za-z0-9._-]+)[^`]*` can't be installed because it is marked as `--no-build")
_NO_SOURCE = re.compile(
    r"Failed to (?:build|download and build) `([A-Za-z0-9._-]+)[^`]*`(?:\n[^\n]*){1,3}"
    r"Building source distributions(?: for `[^`]*`)? is disabled"
)
_NO_USABLE_WHEEL = re.compile(r"Wheels are required for `([A-Za-z0-9._-]+)` because building from source is disabled")
_NOT_PINNED = re.compile(r"Hash-checking is required, but no (?:trusted )?hash\w* \w+ provided for: `([A-Za-z0-9._-]+)")
_PROJECT = re.compile(r"Failed to (?:build|download and build|fetch|prepare)[^`\n]*`([A-Za-z0-9._-]+)")


def sentence(output: str) -> str:
    """Why a build has failed, and what to do; "" when its output says nothing that is known here."""
    named = _PROJECT.search(output)
    project = named[1] if named else "A package"
    if asks_git(output):
        return (
            f"{project} takes its version from git, and a release has no .git. Add a .git_archival.txt that git fills "
            "in (see docs/releases.md), or write the version into pyproject.toml."
        )
    if refused := _NO_WHEEL.search(output) or _NO_USABLE_WHEEL.search(output) or _NO_SOURCE.search(output):
        return (
            f"{refused[1]} has no wheel for this host, and building it would run code that nobody has approved. "
            f"Depend on a version that has a wheel, or add {refused[1]} to build_packages and run site.yml."
        )
    if absent := _NOT_PINNED.search(output):
        return (
            f"{project} is built here, and {absent[1]}, which that needs, is not pinned with a hash. Add "
            f'{{requirement = "{absent[1]}==VERSION", hashes = ["sha256:..."]}} to build-constraint-dependencies of '
            "[tool.uv] in pyproject.toml, type `uv lock`, and commit both."
        )
    wanted = list(dict.fromkeys(_wanted(output)))
    packages = _packages(wanted)
    unknown = [name for name in wanted if name.endswith((".h", ".hpp")) and not _package(name)]
    if packages or unknown:
        packages = list(dict.fromkeys([*_COMPILER, *packages, *_packages(_PROJECTS.get(project.lower(), "").split())]))
        more = [f"the package that has {unknown[0]} (`apt-file search {unknown[0]}`)"] if unknown else []
        return (
            f"{project} is built from source here, and this host lacks what that needs. Add {_and([*packages, *more])} "
            "to host_packages and run site.yml, or depend on a version that has a wheel."
        )
    return ""


def gist(output: str) -> str:
    """What a failed program says last of the reason, as the end of a sentence; "" when it says nothing."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith(("warning", "hint"))]
    errors = [line for line in lines if re.match(r"error:|\N{MULTIPLICATION SIGN}|╰─▶|├─▶|[A-Za-z]*Error: ", line)]
    deepest = [line for line in errors if line.startswith(("╰─▶", "├─▶"))]
    found = next(iter(deepest[-1:] or errors[-1:] or lines[-1:]), "")
    text = re.sub(r"^(error:|\N{MULTIPLICATION SIGN}|╰─▶|├─▶)\s*", "", found)[:_LONGEST_GIST].strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def asks_git(output: str) -> bool:
    """Whether a project has asked git for its version; the rest of the output says no more then."""
    return bool(_NO_GIT.search(output))


def _wanted(output: str) -> Iterator[str]:
    """Headers and programs that were not found."""
    yield from _NO_HEADER.findall(output)
    for match in _NO_PROGRAM.finditer(output):
        name = (match[1] or match[2] or match[3]).rpartition("/")[2]
        yield re.sub(r"^[a-z0-9_]+-linux-gnu-", "", name)
    for saying, names in _SAYINGS.items():
        if re.search(saying, output):
            yield from names.split()


def _packages(wanted: Iterable[str]) -> list[str]:
    """The packages of Debian that have these, for all that are known."""
    return [package for name in wanted if (package := _package(name))]


def _package(name: str) -> str:
    return _PROGRAMS.get(name) or _HEADERS.get(name) or _HEADERS.get(name.partition("/")[0], "")


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
