"""What the units say that no product judges."""

from __future__ import annotations

from tests.templates import render


def test_what_ends_a_paused_slot_runs_outside_of_the_sandbox_which_hides_the_main_process() -> None:
    lines = render.render("app", "app@.service.j2").splitlines()
    assert {"ProtectProc=invisible", "PrivateUsers=yes"} & set(lines)
    assert [line.split("/")[0] for line in lines if line.startswith("ExecStop=")] == ["ExecStop=-+"]
