"""What the role `app` says of an app that is to go: the engine's own sentence, also where the engine refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[2] / "roles/app/tasks/remove.yml"
GONE = {"message": "shop is gone.", "changed": True}
REFUSED = {"message": "shop is being deployed.", "detail": "Try again."}


@pytest.mark.parametrize(
    ("answer", "code", "said"), [(GONE, 0, "changed=1"), (REFUSED, 3, f"{REFUSED['message']} Try")]
)
@pytest.mark.parametrize("variables", [{"app_removed": ["shop"]}, {"app_purged": "shop"}], ids=str)
def test_what_the_engine_says_of_an_app_that_goes_is_said(
    tmp_path: Path, answer: dict[str, object], code: int, said: str, variables: dict[str, object]
) -> None:
    engine = tmp_path / "slipway"
    engine.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\nexit {code}\n")
    engine.chmod(0o755)
    (tmp_path / "remove.yml").write_text(TASKS.read_text().replace("/usr/local/bin/slipway", str(engine)))
    play = {"hosts": "all", "gather_facts": False, "vars": {"app_removed": [], "app_purged": ""} | variables}
    (tmp_path / "play.yml").write_text(
        json.dumps([play | {"tasks": [{"ansible.builtin.include_tasks": "remove.yml"}]}])
    )
    (tmp_path / "hosts").write_text(f"here ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    (tmp_path / "ansible.cfg").touch()
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", tmp_path / "hosts", tmp_path / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (code == 0), done.stdout
    assert said in done.stdout + done.stderr
