"""Why a part failed, from what the tools print."""

from __future__ import annotations

import pytest

from tests.runner import reasons
from tests.runner.outcomes import LONGEST_REASON, Failure

LINT = """\
.venv/bin/ruff check --output-format concise .
slipway/cli/parser.py:3:8: F401 [*] `os` imported but unused
Found 1 error.
slipway/base/files.py:3:1: unformatted: File would be reformatted
app/main.py:12: error: Incompatible return value type (got "int", expected "str")  [return-value]
app/main.py:12: note: See the manual
./site.yml:3:121: [error] line too long (130 > 120 characters) (line-length)
roles/app/tasks/main.yml:1: name[play]: All plays should be named.
make: *** [Makefile:40: lint] Error 1
"""


def test_every_finding_of_the_linters_is_named() -> None:
    assert [failure.test for failure in reasons.failures("lint", LINT)] == [
        "slipway/cli/parser.py:3:8",
        "slipway/base/files.py:3:1",
        "app/main.py:12",
        "./site.yml:3:121",
        "roles/app/tasks/main.yml:1",
    ]
    assert reasons.failures("lint", LINT)[0].reason == "F401 [*] `os` imported but unused"


def test_a_file_full_of_mistakes_is_cut_short_and_says_so() -> None:
    found = reasons.failures("lint", "".join(f"a.py:{line}:1: E501 Line too long\n" for line in range(80)))
    assert len(found) == reasons.MOST + 1
    assert found[-1] == Failure("lint", "30 more; `make lint` lists them")


# As ansible-playbook prints it, with results as YAML.
PLAYBOOKS = """
PLAY [First] *******************************************************************

TASK [Is expected to fail] *****************************************************
[ERROR]: Task failed: Module failed: The command exited with a non-zero return code.
fatal: [blue]: FAILED! =>
    changed: true
    msg: The command exited with a non-zero return code.
    stderr: expected
...ignoring

TASK [release : Deploy] ********************************************************
ok: [green]
fatal: [blue]: FAILED! =>
    changed: false
    cmd:
    - slipway
    msg: |-
        The release is never ready:
        HTTP 500

TASK [Ask each] ****************************************************************
failed: [green] (item=a) => {"changed": false, "msg": "No answer.", "stderr": "usage\\ncurl: (7) refused"}
failed: [green] (item=b) =>
    msg: Not found.

PLAY RECAP *********************************************************************
blue                       : ok=1    changed=0    unreachable=0    failed=1    skipped=0    rescued=0    ignored=1
green                      : ok=1    changed=0    unreachable=0    failed=1    skipped=0    rescued=0    ignored=0
"""


def test_the_tasks_that_failed_are_named_with_their_host_and_what_their_command_said() -> None:
    assert reasons.failures("molecule", PLAYBOOKS) == [
        Failure("blue: release : Deploy", "The release is never ready: HTTP 500"),
        Failure("green: Ask each", "No answer. curl: (7) refused"),
        Failure("green: Ask each", "Not found."),
    ]


def test_tasks_of_a_playbook_that_succeeded_are_not_failures() -> None:
    rescued = PLAYBOOKS.replace("failed=1", "failed=0").replace("rescued=0", "rescued=1")
    found = reasons.failures("molecule", rescued + "CRITICAL Instances missing\n")
    assert found[-1] == Failure("molecule", "Instances missing")
    assert {failure.test for failure in found} == {"molecule"}


def test_a_task_that_changes_something_again_is_named() -> None:
    printed = "CRITICAL Idempotence test failed because of the following tasks:\n* [blue] => host : Set the time zone\n"
    assert reasons.failures("molecule", printed) == [
        Failure("blue: host : Set the time zone", "changed something when it was run again")
    ]


@pytest.mark.parametrize(
    ("part", "printed", "reason"),
    [
        ("molecule", "CRITICAL Ansible return code was 2\nmore\n", "Ansible return code was 2"),
        ("unit", "9 passed\nFAIL Required test coverage of 95% not reached.\nmake: *** [unit] Error 1\n",
         "Required test coverage of 95% not reached."),
        ("unit", "ERROR: file or directory not found: tests/nowhere\n", "file or directory not found: tests/nowhere"),
        ("prepare", "installing nginx\napt-get update failed: no network\nmake: *** [prepare] Error 1\n",
         "apt-get update failed: no network"),
        ("prepare", "make: *** [prepare] Error 1\n", "it printed nothing"),
        ("unit", "x" * 1000, "x" * (LONGEST_REASON - 1) + "…"),
    ],
)  # fmt: skip
def test_a_part_that_named_no_test_still_has_a_reason(part: str, printed: str, reason: str) -> None:
    assert [failure.reason for failure in reasons.failures(part, printed)] == [reason]
