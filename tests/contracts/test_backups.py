"""What `backups` in the inventory may say, and what role `backup` makes of it."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from typing import Any, get_type_hints

import pytest

from filter_plugins import backups
from roles.backup.filter_plugins import backup_files
from slipway.backup.settings import Settings
from tests.templates import render


def test_without_any_setting_there_are_backups_on_the_host_itself() -> None:
    found = backups.whole({})
    assert (found["repository"], found["at"], found["drill_at"]) == ("local", ["02:30"], ["Sun 04:30"])
    declared: list[Any] = [{}, None, True, False]
    assert [backups.is_enabled(item) for item in declared] == [True, True, True, False]


def test_times_are_written_as_in_a_schedule() -> None:
    found = backups.whole({"at": "0 3 * * *", "drill_at": ["Mon,Thu 04:00"]})
    assert (found["at"], found["drill_at"]) == (["*-*-* 3:0:00"], ["Mon,Thu 04:00"])


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ("local", "backups is 'local', but must be false, or a mapping"),
        ({"repository": "s3"}, "backups.repository is 's3', which this version of Slipway does not have yet"),
        ({"repository": "host"}, "backups.repository is 'host', which"),
        ({"repository": "disk"}, "backups.repository is 'disk', but must be one of local, host, s3"),
        ({"path": "backups"}, "backups.path is 'backups', but must be the absolute path"),
        ({"path": "/etc/backups"}, "none of the system's"),
        ({"path": "/mnt/../etc"}, "none of the system's"),
        ({"passphrase": "short"}, "backups.passphrase has 5 characters, and needs 12 or more"),
        ({"passphrase": "two\nlines and more"}, "must be one line of ASCII"),
        ({"at": "often"}, "backups.at is 'often', which is neither"),
        ({"at": []}, "backups.at is empty"),
        ({"keep": 2}, "backups.keep is no setting. The nearest is 'keep_full'"),
        ({"keep_full": 0}, "backups.keep_full is 0, but must be 1 or more"),
        ({"heartbeat_minutes": 5}, "backups.heartbeat_minutes is 5, but must be 7 or more"),
        ({"full_days": "seven"}, "backups.full_days is 'seven', but must be a whole number"),
    ],
)
def test_what_is_wrong_is_a_sentence_with_the_key(declared: Any, sentence: str) -> None:
    found = backups.faults(declared)
    assert len(found) == 1
    assert sentence in found[0]


def test_no_sentence_has_the_pass_phrase_in_it() -> None:
    for wrong in ("shOrt", "sEcret\nthing and more", ["sEcret"], {"a": "sEcret"}):
        assert not re.search("shOrt|sEcret", " ".join(backups.faults({"passphrase": wrong})))


def test_a_pass_phrase_is_compared_with_that_of_the_repository() -> None:
    known = backups.digest("a long pass phrase")
    assert not backups.other_passphrase(backups.whole({"passphrase": "a long pass phrase"}), known)
    assert backups.other_passphrase(backups.whole({"passphrase": "another pass phrase"}), known)
    assert not backups.other_passphrase(backups.whole({"passphrase": "another pass phrase"}), "")  # none is there yet
    assert not backups.other_passphrase(backups.whole({}), known)  # the host goes on with its own
    assert len(known) == 8


def test_apps_that_keep_files_are_known() -> None:
    assert not backups.have_files(render.declared())
    assert backups.have_files(render.declared(data=["media"]))
    assert backups.have_files(render.declared(writable_paths=["/mnt/uploads"]))
    assert backups.have_files(render.declared(database="mariadb"))


def test_the_engine_gets_all_that_it_reads() -> None:
    wanted = set(get_type_hints(Settings))
    assert set(render._load("backup", "vars/main.yml")["__backup_of_engine"]) == wanted


LINES = [
    "cluster 15 main 5432 down postgres /var/lib/postgresql/15/main /log manual enabled",
    "cluster 17 main 5432 online postgres /var/lib/postgresql/17/main /log auto enabled",
    "cluster 17 other 5433 online postgres /var/lib/postgresql/17/other /log auto enabled",
]


def test_the_cluster_that_serves_the_apps_is_backed_up() -> None:
    assert backup_files.cluster(LINES, 5432) == {"version": "17", "name": "main", "data": "/var/lib/postgresql/17/main"}
    assert backup_files.cluster(LINES[:1], 5432) == {}
    assert backup_files.cluster([], 5432) == {}


def test_only_what_differs_is_written() -> None:
    content = "x\n"
    wanted = {"dest": "/etc/x", "owner": "root", "group": "root", "mode": "644", "content": content}
    place = {"dest": "/srv/x", "owner": "root", "group": "root", "mode": "755"}
    total = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac"
    lines = ["f root:root 644 /etc/x", f"{total}  /etc/x", "d root:root 755 /srv/x"]
    assert backup_files.differing([wanted, place], lines) == []
    assert backup_files.differing([wanted, place], lines[1:]) == [wanted]
    assert backup_files.differing([wanted, place], [lines[0], lines[2]]) == [wanted]
    assert backup_files.differing([wanted, place], lines[:2]) == [place]


@pytest.mark.parametrize("name", ["prod-1", "10.0.0.1", "app_1"])
def test_a_host_is_called_in_the_repository_as_in_the_inventory(name: str) -> None:
    assert backups.stanza(name) == name
    assert backups.stanza("a:b/c") == "a-b-c"


def _variables() -> dict[str, Any]:
    return render.variables("backup", backup_apps=["shop", "blog"])


def test_the_look_is_a_script_of_sh_that_ends_well_on_a_host_that_has_nothing() -> None:
    script = render.evaluate(render._load("backup", "vars/main.yml")["__backup_look"], **_variables())
    assert "for directory in /var/lib/shop /var/lib/blog; do" in script
    done = subprocess.run(["sh", "-eu", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_that_is_written_is_looked_at_before() -> None:
    known = render._load("backup", "vars/main.yml")
    look = render.evaluate(known["__backup_look"], **_variables())
    patterns = re.search(r"set -- (.*)\n *find", look.replace("\\\n", ""), re.DOTALL)
    assert patterns
    written = [
        render.evaluate(item["dest"], **_variables())
        for name in ("__backup_common", "__backup_of_databases", "__backup_all_units")
        for item in known[name]
    ]
    written += ["/etc/postgresql/17/main/conf.d/slipway-backup.conf", "/etc/slipway/backup.passphrase"]
    written += [known["__backup_passphrase_of_databases"]]
    unseen = [path for path in written if not any(fnmatch.fnmatch(path, one) for one in patterns[1].split())]
    assert (len(written), unseen) == (18, [])
