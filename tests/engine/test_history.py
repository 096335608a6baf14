"""A release's alembic history as its files say it: the same as alembic's own answer, or none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from slipway.records.manifest import Revision
from slipway.release import alembic_question, history, migrations

PYTHON = "{}.{}.{}".format(*sys.version_info)
INI = "[alembic]\nscript_location = %(here)s/migrations\npath_separator = os\n"
SCRIPT = """\"\"\"{message}

Revision ID: {name}
\"\"\"

from alembic import op

revision = "{name}"
down_revision = {down}
"""


def script(name: str, down: object = None, message: str = "", more: str = "") -> str:
    return SCRIPT.format(name=name, down=repr(down), message=message or f"Message of {name}") + more


def write(release: Path, files: dict[str, str | bytes], ini: str = INI) -> Path:
    """A release with these migrations."""
    (release / "migrations/versions").mkdir(parents=True, exist_ok=True)
    (release / "alembic.ini").write_text(ini)
    for name, content in files.items():
        path = release / "migrations/versions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return release


def of_alembic(release: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[Revision]]:
    """What alembic lists, asked as a fall-back asks it; in this process, as it would be started too often."""
    monkeypatch.chdir(release)
    monkeypatch.syspath_prepend(release)
    monkeypatch.setattr(alembic_question, "version_table", lambda *_: "")
    answer = alembic_question.look()
    return answer["heads"], migrations.listed(answer)


def chain(*names: str) -> dict[str, str | bytes]:
    return {f"{n}.py": script(n, d) for n, d in zip(names, (None, *names), strict=False)}


DIAMOND: dict[str, str | bytes] = {"a.py": script("a"), "b.py": script("b", "a"), "c.py": script("c", "a")}

# Read from the files.
USUAL: dict[str, dict[str, str | bytes]] = {
    "one": chain("a"),
    "names that are not in the order of the history": chain("c", "a", "b"),
    "a merge": {**DIAMOND, "d.py": script("d", ("b", "c"))},
    "the same merge the other way round": {**DIAMOND, "d.py": script("d", ("c", "b"))},
    "a merge of a long side and a short one": {
        **DIAMOND, "c2.py": script("c2", "c"), "c3.py": script("c3", "c2"), "d.py": script("d", ("b", "c3")),
    },
    "a merge with what it follows on": {**chain("a", "b"), "d.py": script("d", ("a", "b"))},
    "two beginnings": {"a.py": script("a"), "b.py": script("b"), "c.py": script("c", ["b", "a"])},
    "merges of merges": {
        **DIAMOND, "d.py": script("d", ("b", "c")), "e.py": script("e", ("c", "b")), "f.py": script("f", ("e", "d")),
        "g.py": script("g", "f"),
    },
    "annotations": {
        "a.py": '"""First."""\nfrom typing import Sequence, Union\nrevision: str = "a"\n'
        "down_revision: Union[str, Sequence[str], None] = None\nbranch_labels: Union[str, None] = None\n"
        "depends_on: tuple[str, ...] = ()\n"
    },
    "a declaration over several lines": {
        **DIAMOND, "d.py": 'revision = (\n  "d"\n)\ndown_revision = (\n "b",\n "c",\n)\n',
    },
    "no docstring": {"a.py": "revision = 'a'\ndown_revision = None\n"},
    "a message with quotes and other letters": {"a.py": script("a", message="Größe \\\"x\\\" \\u00e4 Ж")},
    "the oldest code that can run on it": {
        **chain("a"), "b.py": script("b", "a", more='oldest_compatible = "a"\n'),
    },
    "another encoding": {"a.py": b"# coding: latin-1\n" + script("a", message="Gr\xf6\xdfe").encode("latin-1")},
    "a byte order mark": {"a.py": b"\xef\xbb\xbf" + script("a").encode()},
    "lines that end as on Windows": {"a.py": script("a").replace("\n", "\r\n").encode()},
    "files that are no migrations": {
        **chain("a"), "__init__.py": "import nothing_of_that_name\n", "note.txt": "x", ".#a.py": "torn (", "b.pyc": b"",
        "below/b.py": script("b", "a"), "__pycache__/b.cpython.pyc": b"",
    },
    "functions that use the same names": {
        "a.py": script("a", more="def upgrade() -> None:\n    print(revision, down_revision)\n")
    },
    "modules of the release": {
        "a.py": "import sqlalchemy as sa\nfrom sqlalchemy.dialects import postgresql\nfrom migrations import helper\n"
        + script("a"),
        "../helper.py": "",
    },
    "revisions of digits": chain("0001", "0002", "0010"),
}  # fmt: skip


@pytest.mark.parametrize("files", USUAL.values(), ids=USUAL)
def test_a_usual_history_is_read_as_alembic_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str | bytes]
) -> None:
    release = with_packages(write(tmp_path, files))
    found = history.read(release, PYTHON)
    assert found
    assert of_alembic(release, monkeypatch) == ([found[-1].revision], found)


# Left to alembic, which may list it, or fail.
UNUSUAL: dict[str, dict[str, str | bytes]] = {
    "no migrations": {},
    "two heads": DIAMOND,
    "a computed revision": {"a.py": "revision = 'a' + ''\ndown_revision = None\n"},
    "a computed predecessor": {**chain("a"), "b.py": "revision = 'b'\ndown_revision = str('a')\n"},
    "no predecessor declared": {"a.py": "revision = 'a'\n"},
    "an annotation without a value": {"a.py": "revision: str\ndown_revision = None\n"},
    "a revision from the file's name": {"0a.py": "down_revision = None\n"},
    "assigned twice": {"a.py": script("a", more='revision = "b"\n')},
    "assigned together": {"a.py": 'revision = name = "a"\ndown_revision = None\n'},
    "assigned in a condition": {"a.py": script("a", more='if True:\n    revision = "b"\n')},
    "assigned by a function": {
        "a.py": script("a", more='def f():\n    global revision\n    revision = "b"\n\nx = f()\n')
    },
    "assigned by a walrus": {"a.py": script("a", more='x = (revision := "b")\n')},
    "assigned in a loop": {"a.py": script("a", more="x = [0 for revision in (1,)]\n")},
    "imported": {"a.py": script("a", more="from os import name as revision\n")},
    "imported with everything else": {"a.py": "from os.path import *\n" + script("a")},
    "changed through globals": {"a.py": script("a", more='x = globals().update(revision="b")\n')},
    "removed": {"a.py": script("a", more="del revision\n")},
    "another docstring": {"a.py": script("a", more='__doc__ = "Other"\n')},
    "a message of several lines": {"a.py": script("a", message="One\n    two")},
    "labels": {"a.py": script("a", more='branch_labels = ("x",)\n')},
    "a dependency": {**chain("a", "b"), "c.py": script("c", "b", more='depends_on = "a"\n')},
    "a predecessor that is not there": {"b.py": script("b", "a")},
    "a circle": {
        "a.py": script("a", "c"),
        "b.py": script("b", "a"),
        "c.py": script("c", "b"),
        "d.py": script("d", "c"),
    },
    "itself as its predecessor": {**chain("a"), "b.py": script("b", ("a", "b"))},
    "the same predecessor twice": {**chain("a"), "b.py": script("b", ("a", "a"))},
    "an empty list of predecessors": {"a.py": script("a", ())},
    "the same revision twice": {"a.py": script("a"), "b.py": script("a")},
    "a revision with a sign": {"a.py": script("a-1")},
    "a revision that means another": {"a.py": script("head")},
    "no Python": {"a.py": "revision = \n"},
    "null bytes": {"a.py": b"\0" + script("a").encode()},
    "an unknown encoding": {"a.py": b"# coding: klingon\n" + script("a").encode()},
    "nested too deeply": {"a.py": "x = " + "(" * 5000 + ")" * 5000 + "\n" + script("a")},
    "a module that is not there": {"a.py": "import nothing_of_that_name\n" + script("a")},
    "a module of the release that is not there": {"a.py": "from migrations.helper import x\n" + script("a")},
    "code that runs": {"a.py": script("a", more="print('x')\n")},
    "the oldest code is no text": {"a.py": script("a", more="oldest_compatible = 1\n")},
}


@pytest.mark.parametrize("files", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_history_is_left_to_alembic(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    assert history.read(with_packages(write(tmp_path, files)), PYTHON) is None


@pytest.mark.parametrize(
    "ini",
    [
        "",
        "[other]\nscript_location = migrations\n",
        "[alembic]\nscript_location =\n",
        "[alembic]\nscript_location = package:migrations\n",
        "[alembic]\nscript_location = /elsewhere\n",
        "[alembic]\nscript_location = ../../elsewhere\n",
        "[alembic]\nscript_location = %(unknown)s/migrations\n",
        "[alembic]\nscript_location = migrations\nscript_location = migrations\n",
        "[alembic]\nscript_location = nowhere\n",
        INI + "version_locations = migrations/versions other\n",
        INI + "recursive_version_locations = true\n",
        INI + "sourceless = true\n",
        INI + "# é\n",
        "[DEFAULT]\nversion_locations = other\n" + INI,
    ],
)
def test_an_unusual_configuration_is_left_to_alembic(tmp_path: Path, ini: str) -> None:
    assert history.read(with_packages(write(tmp_path, chain("a", "b"), ini)), PYTHON) is None


@pytest.mark.parametrize(
    "ini",
    [
        "[alembic]\nscript_location = migrations\n",
        "[alembic]\nscript_location = ./migrations/\nfile_template = %%(rev)s_%%(slug)s\n",
        "[DEFAULT]\nwhere = migrations\n[alembic]\nscript_location = %(here)s/%(where)s\n",
    ],
)
def test_the_directory_of_the_migrations_is_found_as_alembic_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ini: str
) -> None:
    release = with_packages(write(tmp_path, chain("a", "b"), ini))
    found = history.read(release, PYTHON)
    assert found
    assert of_alembic(release, monkeypatch) == (["b"], found)


def test_links_and_another_version_of_python_are_left_to_alembic(tmp_path: Path) -> None:
    release = with_packages(write(tmp_path, chain("a", "b")))
    assert history.read(release, "3.2.1") is None
    assert history.read(release, "") is None
    assert history.read(release, PYTHON) is not None
    (release / "migrations/versions/c.py").symlink_to("b.py")
    assert history.read(release, PYTHON) is None


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, tuple[str, ...]]]:
    """Some ten revisions, each after up to three earlier ones; a last one follows on all heads."""
    count = draw(st.integers(1, 9))
    names = draw(st.permutations("abcdefghi"))[:count]
    made: list[tuple[str, tuple[str, ...]]] = []
    for number, name in enumerate(names):
        earlier = names[:number]
        follows = draw(st.lists(st.sampled_from(earlier), max_size=3, unique=True)) if earlier else []
        made.append((name, tuple(follows)))
    followed = {name for _, follows in made for name in follows}
    heads = draw(st.permutations([name for name, _ in made if name not in followed]))
    return [*made, ("z", tuple(heads))]


@given(made=histories())
@how(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_history_of_merges_has_alembics_order(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, tuple[str, ...]]]
) -> None:
    release = tmp_path_factory.mktemp("release")
    files = {f"{name}.py": script(name, follows or None) for name, follows in made}
    found = history.read(with_packages(write(release, dict(files))), PYTHON)
    assert found is not None
    directory = ScriptDirectory.from_config(Config(release / "alembic.ini"))
    assert [item.revision for item in found] == [item.revision for item in directory.walk_revisions()][::-1]


def with_packages(release: Path) -> Path:
    """The release with the packages of these tests as its own."""
    packages = release / ".venv/lib/python{}.{}/site-packages".format(*sys.version_info)
    packages.parent.mkdir(parents=True)
    packages.symlink_to(Path(pytest.__file__).parents[1])
    return release
