"""Where what runs of a release finds its programs and modules."""

from dataclasses import replace
from pathlib import Path

import pytest

from slipway.base import process
from slipway.base import settings as config
from slipway.records import manifest
from slipway.slot import surroundings


@pytest.fixture
def release(settings: config.Settings) -> Path:
    made = settings.release("v1-abc")
    (made / ".venv/lib/python3.13/site-packages").mkdir(parents=True)
    return made


def test_programs_and_modules_are_those_of_the_release_and_of_the_apps_directory(
    settings: config.Settings, release: Path
) -> None:
    assert surroundings.surroundings(replace(settings, directory="backend"), release) == {
        "PATH": f"{release}/.venv/bin:{process.PATH}",
        "VIRTUAL_ENV": f"{release}/.venv",
        "PYTHONPATH": f"{release}/backend",
    }


@pytest.mark.parametrize(
    ("there", "with_src"),
    [
        (["src/shop/main.py"], True),
        (["src/shop.py"], True),
        (["src/shop/main.py", "shop/main.py"], False),
        (["src/shop/main.py", ".venv/lib/python3.13/site-packages/shop/main.py"], False),
        (["src/other.py", "shop.py"], False),
        (["src/types.py"], False),
    ],
)
def test_src_is_among_the_places_of_modules_where_the_app_is_there_and_nowhere_else(
    settings: config.Settings, release: Path, there: list[str], with_src: bool
) -> None:
    for name in there:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text("")
    found = surroundings.surroundings(replace(settings, module="shop.main:app"), release)["PYTHONPATH"]
    assert found == (f"{release}:{release}/src" if with_src else str(release))


def test_a_module_that_was_found_at_the_build_counts_like_one_that_is_set(
    settings: config.Settings, release: Path
) -> None:
    (release / "src").mkdir()
    (release / "src/shop.py").write_text("")
    made = manifest.Manifest("v1-abc", "v1", "abc", "", "3.13.5", "", "", module="shop:app")
    (release / manifest.NAME).write_text(manifest.dump(made))
    (release / manifest.COMPLETE).write_text("")
    found = surroundings.surroundings(replace(settings, module=""), release)["PYTHONPATH"]
    assert found == f"{release}:{release}/src"


def test_variables_win_but_the_releases_programs_come_first_and_its_modules_stay(
    settings: config.Settings, release: Path
) -> None:
    own = {"PATH": "/opt/tools", "PYTHONPATH": "lib", "VIRTUAL_ENV": "/elsewhere", "A": "b"}
    assert surroundings.complete(settings, release, own, at=Path("/at")) == {
        "PATH": "/at/.venv/bin:/opt/tools",
        "PYTHONPATH": "lib:/at",
        "VIRTUAL_ENV": "/elsewhere",
        "A": "b",
    }
