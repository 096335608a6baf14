"""Every template of every role, rendered and judged by the product that reads it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from hosts.products import PRODUCTS, Product
from slipway.base.errors import SlipwayError
from tests.templates import judges, render


def test_every_template_has_a_judge() -> None:
    assert sorted(judges.JUDGES) == render.templates()


@pytest.mark.parametrize("template", render.templates())
def test_the_product_accepts_what_the_template_renders(template: str, tmp_path: Path) -> None:
    role, _, name = template.partition("/")
    assert template in judges.JUDGES, f"{template} has no judge: add one to tests/templates/judges.py"
    judges.JUDGES[template](functools.partial(render.render, role, name), tmp_path)


# What a product has to refuse, where a line of nonsense is not enough of it: text to replace, and by what.
BROKEN = {
    "app/app.allowed_signers.j2": ("alice@example.com", "bob@example.com"),
    "app/app.toml.j2": ("workers = 4", "workers = [4"),
    "app/env.j2": ('\\"', '"'),
    "app/gunicorn.conf.py.j2": ("workers = 4", "workers = 'many'"),
    "host/20auto-upgrades.j2": (";", ""),
    "host/52slipway-upgrades.j2": (";", ""),
    "host/locale.j2": ("C.UTF-8", "xx_XX.UTF-8"),
    "host/slipway.crt.j2": ("-----END", "-----"),
}


@pytest.mark.parametrize("template", render.templates())
def test_the_judge_refuses_a_file_that_is_broken(template: str, tmp_path: Path) -> None:
    role, _, name = template.partition("/")

    def broken(**changes: Any) -> str:
        text = render.render(role, name, **changes)
        return text.replace(*BROKEN[template]) if template in BROKEN else f"{text}\nNonsense of = nobody {{\n"

    with pytest.raises((AssertionError, ValueError, SlipwayError)):
        judges.JUDGES[template](broken, tmp_path)


@pytest.mark.parametrize(("quick", "ends"), [("1", pytest.skip.Exception), ("", AssertionError)])
def test_a_missing_product_fails_a_test_and_only_the_quick_ones_are_skipped(
    monkeypatch: pytest.MonkeyPatch, quick: str, ends: type[BaseException]
) -> None:
    monkeypatch.setitem(PRODUCTS, "nginx", Product(("nginx",), lambda: None))
    monkeypatch.setenv("SLIPWAY_QUICK", quick)
    with pytest.raises(ends, match="nginx is not installed here"):
        judges.product("nginx")
