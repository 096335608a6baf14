"""Failed builds: which sentence is said for what uv and the tools that it calls have printed, and for which none is.

Rows 23 and 28 of `cases.md`. The outputs are excerpts of real ones, on a Debian 13 host without a compiler ("bare") or
with `build-essential` alone ("gcc"), of the packages as they were in November 2026.
"""

from __future__ import annotations

import re

import pytest

from slipway.release import explain

COMPILER = ["build-essential", "python3-dev"]
MESON = """\
../meson.build:1:0: ERROR: Unknown compiler(s): [['cc'], ['gcc'], ['clang'], ['nvc'], ['pgcc'], ['icc'], ['icx']]
The following exception(s) were encountered:
Running `cc --version` gave "[Errno 2] No such file or directory: 'cc'"
Running `nvc --version` gave "[Errno 2] No such file or directory: 'nvc'\""""

# What a build lacks: on which host, the package, what was printed, and the packages to add beside COMPILER.
LACKS = [
    ("bare", "cffi==2.1.1", "error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'", "libffi-dev"),
    (
        "bare",
        "cryptography==50.0.2",
        "Rust not found, installing into a temporary directory",
        "cargo libssl-dev pkg-config",
    ),
    ("bare", "dlib==20.0.1", "CMake Error: CMAKE_CXX_COMPILER not set, after EnableLanguage", ""),
    ("bare", "fasttext==0.9.3", "RuntimeError: Unsupported compiler -- at least C++17 support is needed!", ""),
    ("bare", "grpcio==1.85.3", "FileNotFoundError: [Errno 2] No such file or directory: 'c++'", ""),
    ("bare", "gssapi==1.12.0", "/bin/sh: 1: krb5-config: not found", "libkrb5-dev"),
    (
        "bare",
        "h5py==3.16.0",
        "error: pkg-config probably not installed: FileNotFoundError(2, 'No such file or directory')",
        "pkg-config libhdf5-dev",
    ),
    (
        "bare",
        "lxml==6.1.3",
        "Error: Please make sure the libxml2 and libxslt development packages are installed.",
        "libxml2-dev libxslt1-dev",
    ),
    ("bare", "m2crypto==0.51.0", "error: [Errno 2] No such file or directory: 'cpp'", "libssl-dev swig"),
    (
        "bare",
        "mysqlclient==2.3.2",
        "/bin/sh: 1: pkg-config: not found\nException: Can not find valid pkg-config name.",
        "pkg-config default-libmysqlclient-dev",
    ),
    ("bare", "numpy==2.5.5", MESON, ""),
    (
        "bare",
        "psutil==7.2.2",
        "psutil could not be compiled from sources. gcc is not installed. Python header files are not installed.",
        "",
    ),
    ("bare", "psycopg2==2.9.13", "Error: pg_config executable not found.", "libpq-dev"),
    ("bare", "pycairo==1.29.2", MESON, "libcairo2-dev pkg-config"),
    (
        "bare",
        "pycurl==7.49.0",
        "FileNotFoundError: [Errno 2] No such file or directory: 'curl-config'",
        "libcurl4-openssl-dev libssl-dev",
    ),
    (
        "bare",
        "pygraphviz==2.0.4",
        "Graphviz must be installed to build pygraphviz from source.",
        "graphviz libgraphviz-dev",
    ),
    ("bare", "pynacl==1.6.2", "Exception: ERROR: The 'make' utility is missing from PATH", ""),
    ("bare", "pyodbc==5.5.0", "error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-g++'", "unixodbc-dev"),
    ("bare", "ruamel-yaml-clib==0.2.15", "error: [Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'", ""),
    ("bare", "scipy==1.18.1", MESON, "gfortran pkg-config"),
    ("bare", "uwsgi==2.0.31", "Exception: you need a C compiler to build uWSGI", ""),
    ("bare", "xmlsec==1.3.17", "error: Unable to invoke pkg-config.", "pkg-config libxmlsec1-dev"),
    (
        "gcc",
        "dlib==20.0.1",
        'Imported target "pybind11::module" includes non-existent path\n\n           "/usr/include/python3.13"',
        "",
    ),
    (
        "gcc",
        "gdal==3.13.3",
        "Could not find gdal-config. Make sure you have installed the GDAL native library and development headers.",
        "libgdal-dev",
    ),
    ("gcc", "m2crypto==0.51.0", "RuntimeError: gcc -E ended with return code 1", "libssl-dev swig"),
    (
        "gcc",
        "numpy==2.5.5",
        "../meson.build:1:0: ERROR: Cython requires python3 dependency for link testing, but it could not be found",
        "",
    ),
    ("gcc", "pillow==13.0.0", "The headers or library files could not be found for zlib,", "zlib1g-dev libjpeg-dev"),
    (
        "gcc",
        "pycairo==1.29.2",
        "../cairo/meson.build:31:12: ERROR: Dependency lookup for cairo with method 'pkg-config' failed: Pkg-config "
        "for machine host machine not found. Giving up.",
        "pkg-config libcairo2-dev",
    ),
    (
        "gcc",
        "python-ldap==3.4.8",
        "Modules/common.h:9:10: fatal error: Python.h: No such file or directory",
        "libldap-dev libsasl2-dev",
    ),
    ("gcc", "pyzmq==27.3.0", "Could NOT find Python (missing: Interpreter Development.Module)", ""),
]

# What a build says that has asked git for its version.
ASKS_GIT = {
    "setuptools-scm": "LookupError: setuptools-scm was unable to detect version for /srv/x.",
    "hatch-vcs": (
        "LookupError: Error getting the version from source `vcs`: setuptools-scm was unable to detect "
        "version for /srv/x."
    ),
    "uv-dynamic-versioning": (
        "RuntimeError: Error getting the version from source `uv-dynamic-versioning`: This does not appear to be a Git "
        "project"
    ),
    "dunamai": "RuntimeError: This does not appear to be a Git project",
    "versioningit": (
        "RuntimeError: Error getting the version from source `versioningit`: NotSdistError: /srv/x does not contain a "
        "PKG-INFO file"
    ),
    "pdm-backend": (
        "pdm.backend.exceptions.ConfigError: Cannot find the version from SCM or SCM isn't detected.\n"
        "You can still specify the version via environment variable `PDM_BUILD_SCM_VERSION`"
    ),
    "pbr": (
        "Exception: Versioning for this project requires either an sdist tarball, or access to an upstream "
        "git repository."
    ),
    "own setup.py, a list": (
        "subprocess.CalledProcessError: Command '['git', 'describe', '--tags']' returned non-zero exit status 128."
    ),
    "own setup.py, a text": (
        "subprocess.CalledProcessError: Command 'git describe --tags' returned non-zero exit status 128."
    ),
}

# What has another reason, of which the output itself is the best sentence.
OTHERWISE = {
    "nothing": "",
    "C that does not compile": (
        "fast.c:1:43: error: expected ';' before '}' token\nerror: Command '['x86_64-linux-gnu-gcc', '-c', 'fast.c', "
        "'-o', 'build/fast.o']' returned non-zero exit status 1."
    ),
    "a missing file of its own": "FileNotFoundError: [Errno 2] No such file or directory: 'requirements.txt'",
    "a missing program of its own": "FileNotFoundError: [Errno 2] No such file or directory: './tools/make-version'",
    "a program of another kind": (
        "subprocess.CalledProcessError: Command '['npm', 'ci']' returned non-zero exit status 1."
    ),
    "an undeclared module": "ModuleNotFoundError: No module named 'numpy'",
    "Python 2": (
        '    print "building"\n    ^^^^^^^^^^^^^^^^\n'
        "SyntaxError: Missing parentheses in call to 'print'. Did you mean print(...)?"
    ),
    "a missing readme": "OSError: Readme file does not exist: README.md",
    "a version in a file that is not there": (
        "OSError: Error getting the version from source `regex`: file does not exist: faults/about.py"
    ),
    "words about compilers": "Sorry, this project needs make and gcc documentation: see INSTALL",
    "git for something else": (
        "fatal: not a git repository (or any of the parent directories): .git\nSyntaxError: '(' was never closed"
    ),
}
NOT_BUILT = {
    "a hash": """\
error: Failed to download `idna==3.10`
  cause: Hash mismatch for `idna==3.10`

         Expected:
           sha256:0000000000000000000000000000000000000000000000000000000000000000

         Computed:
           sha256:946d195a0d259cbba61165e88e65941f16e9b36ea6ddb97f00452bae8b1287d3
""",
    "no network": """\
error: Failed to download `idna==3.10`
  cause: Failed to fetch: https://nosuch.example/idna-3.10-py3-none-any.whl
  cause: client error (Connect)
  cause: failed to lookup address information: Name or service not known
""",
    "another platform": (
        "error: Distribution `pywin32==311 @ registry+https://pypi.org/simple` can't be installed because it doesn't "
        "have a source distribution or wheel for the current platform\n"
    ),
    "another Python": (
        "error: The requested interpreter resolved to Python 3.11.2, which is incompatible with the project's Python "
        "requirement: `>=3.15` (from `project.requires-python`)\n"
    ),
    "a git dependency": """\
error: Failed to download and build `idna @ git+https://nosuch.example/idna.git@aaaaaaaaaaaa`
  cause: Git operation failed
  cause: process didn't exit successfully: `/usr/bin/git fetch --force --update-head-ok` (exit status: 128)
         --- stderr
         fatal: unable to access 'https://nosuch.example/idna.git/': Could not resolve host: nosuch.example
""",
    "a full disk": """\
error: Failed to download `fastapi==0.165.0`
  cause: Failed to extract archive: fastapi-0.165.0-py3-none-any.whl
  cause: failed to write to file `/var/cache/x/fastapi/applications.py`: No space left on device (os error 28)
""",
}


def failed(package: str, printed: str) -> str:
    """The output of uv for a build that has printed something."""
    return (
        f"error: Failed to build `{package}`\n  cause: The build backend returned an error\n"
        "  cause: Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)\n\n         [stderr]\n"
        + "".join(f"         {line}\n" for line in printed.splitlines())
        + "\nhint: Build failures usually indicate a problem with the package or the build environment\n"
    )


def packages(sentence: str) -> list[str]:
    """What a sentence wants in host_packages."""
    match = re.search(r" Add (.+) to host_packages and run site\.yml", sentence)
    assert match, sentence
    return re.split(r", | and ", match[1])


@pytest.mark.parametrize(
    ("package", "printed", "more"), [lack[1:] for lack in LACKS], ids=[f"{mode}-{name}" for mode, name, *_ in LACKS]
)
def test_what_a_build_lacks_is_named_by_its_packages(package: str, printed: str, more: str) -> None:
    sentence = explain.sentence(failed(package, printed))
    assert sentence.startswith(f"{package.partition('==')[0]} is built from source here, and this host lacks what")
    assert packages(sentence) == COMPILER + more.split()
    assert not explain.asks_git(failed(package, printed))


def test_a_header_that_is_not_known_is_looked_for_by_its_name() -> None:
    printed = "src/a.c:2:10: fatal error: nosuch/thing.h: No such file or directory"
    sentence = explain.sentence(failed("thing==1", printed))
    looked_for = "the package that has nosuch/thing.h (`apt-file search nosuch/thing.h`)"
    assert packages(sentence) == [*COMPILER, looked_for]


@pytest.mark.parametrize(
    ("header", "package"),
    [
        ("sqlite3.h", "libsqlite3-dev"),
        ("libpq-fe.h", "libpq-dev"),
        ("gmp.h", "libgmp-dev"),
        ("bluetooth/bluetooth.h", "libbluetooth-dev"),
        ("openssl/ssl.h", "libssl-dev"),
    ],
)
def test_a_header_has_a_package(header: str, package: str) -> None:
    printed = f"src/a.c:2:10: fatal error: {header}: No such file or directory"
    assert packages(explain.sentence(failed("thing==1", printed))) == [*COMPILER, package]


@pytest.mark.parametrize(
    ("printed", "package"),
    [
        ("../meson.build:9:0: ERROR: Unknown compiler(s): [['gfortran'], ['flang']]", "gfortran"),
        ("CMake must be installed to build the following extensions: thing", "cmake"),
        ("Cargo, the Rust package manager, is not installed or is not on PATH.", "cargo"),
        ("RequiredDependencyException: jpeg", "libjpeg-dev"),
        ("Git executable not found. Ensure that Git is installed and available.", "git"),
        ("sh: 1: xml2-config: not found", "libxml2-dev"),
        ("make.sh: line 3: swig: command not found", "swig"),
        ("error: command 'rustc' failed: No such file or directory", "rustc"),
    ],
)
def test_other_wordings_are_known(printed: str, package: str) -> None:
    assert packages(explain.sentence(failed("thing==1", printed))) == [*COMPILER, package]


def test_a_build_that_is_not_named_is_a_package() -> None:
    assert explain.sentence("error: pg_config executable not found.").startswith("A package is built from source here")


@pytest.mark.parametrize("printed", ASKS_GIT.values(), ids=ASKS_GIT)
def test_a_version_from_git_is_said_in_a_sentence_that_needs_no_detail(printed: str) -> None:
    output = failed("faults @ file:///srv/x", printed)
    assert explain.asks_git(output)
    assert explain.sentence(output) == (
        "faults takes its version from git, and a release has no .git. Add a .git_archival.txt that git fills in (see "
        "docs/releases.md), or write the version into pyproject.toml."
    )


@pytest.mark.parametrize(
    "output",
    [*(failed("faults==1", printed) for printed in OTHERWISE.values()), *NOT_BUILT.values(), ""],
    ids=[*OTHERWISE, *NOT_BUILT, "no output"],
)
def test_what_has_another_reason_is_not_explained(output: str) -> None:
    assert explain.sentence(output) == ""
    assert not explain.asks_git(output)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("warning: x\nerror: The lockfile needs to be updated\nhint: y", "The lockfile needs to be updated."),
        (
            "  \N{MULTIPLICATION SIGN} Failed to fetch\n  ├─▶ one\n  ╰─▶ Hash mismatch for `x==1`",
            "Hash mismatch for `x==1`.",
        ),
        ("some words\nthe last of them", "the last of them."),
        ("", ""),
    ],
)
def test_what_a_failed_program_says_last_is_the_reason(output: str, said: str) -> None:
    assert explain.gist(output) == said
