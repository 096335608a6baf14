"""`processes` and `schedule`: their forms, what is refused, and times that systemd understands as cron does."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins import apps
from roles.app.filter_plugins import app_settings
from roles.app.module_utils import background_forms, calendar_times
from tests.templates import judges, render


def whole(**settings: Any) -> dict[str, Any]:
    return app_settings.complete({"domains": ["a.example.com"], **settings})


def test_a_command_alone_is_a_process_of_which_there_is_one() -> None:
    found = whole(processes={"worker": "arq worker.Settings", "many": {"run": "x", "count": 3}})["processes"]
    assert found["worker"] == {"run": "arq worker.Settings", "count": 1, "stop_seconds": 30, "on": ""}
    assert found["many"]["count"] == 3


def test_the_whole_form_is_the_same_when_it_is_completed_again() -> None:
    once = whole(processes={"w": "x"}, schedule={"report": {"run": "x", "at": "5 4 * * 1-5"}})
    assert once["schedule"]["report"]["at"] == ["Mon,Tue,Wed,Thu,Fri *-*-* 4:5:00"]
    assert app_settings.complete(once) == once


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"processes": {"Worker": "x"}}, "processes.Worker cannot be a name: use 1 to 31 of a-z"),
        ({"processes": {"worker-2": "x"}}, "without '-' and a number at its end"),
        ({"processes": {"worker": {"run": "x", "count": "two"}}}, "processes.worker.count is 'two', but must be"),
        ({"processes": {"worker": {"run": "x", "counts": 2}}}, "processes.worker.counts is no setting. The nearest"),
        ({"processes": {"worker": {"count": 2}}}, "processes.worker.run is '', but must be a command"),
        ({"processes": {"worker": "python 'x"}}, "in which a quote is not closed"),
        ({"processes": {"worker": "celery worker && celery beat"}}, "but no shell runs it, which '&&' needs"),
        ({"schedule": {"report": {"run": "''", "at": "daily"}}}, "schedule.report.run has an empty command"),
        ({"processes": {"worker": "python\nx"}}, "Write the command in one line"),
        ({"processes": {"worker": 5}}, "processes.worker is 5, but must be a command"),
        ({"schedule": {"report": "x"}}, "schedule.report is 'x', but must have `run` and `at`"),
        ({"schedule": {"report": {"run": "x"}}}, "schedule.report.at is missing"),
        ({"schedule": {"report": {"run": "x", "at": "61 * * * *"}}}, "which has '61' as its minute"),
        ({"schedule": {"report": {"run": "x", "at": "sometimes"}}}, "is neither five fields as in cron nor"),
        ({"schedule": {"report": {"run": "x", "at": "@reboot"}}}, "schedule.report.at is '@reboot', which is none of"),
        ({"schedule": {"a": {"run": "x", "at": "daily", "catch_up": 1}}}, "schedule.a.catch_up is 1, but must be"),
        ({"schedule": {"a": {"run": "x", "at": "daily"}}, "processes": {"a": "x"}}, "has the name of one of the"),
        ({"overlap": "nothing"}, "overlap is 'nothing', but must be one of slots, none"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(sentence)):
        whole(**settings)


def test_the_sentence_has_the_name_of_the_app() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^apps\.shop\.processes\.worker is 5"):
        apps.settings({"shop": {"domains": ["a.example.com"], "processes": {"worker": 5}}})


TIMES = {
    "*/15 * * * *": "2026-11-27 10:15:00",
    "0 3 * * *": "2026-11-28 03:00:00",
    "30 2 * * sun": "2026-11-29 02:30:00",
    "0 0 1 */3 *": "2027-01-01 00:00:00",
    "0 9-17/4 * * 1-5": "2026-11-27 13:00:00",
    "5,50 10 27 nov *": "2026-11-27 10:05:00",
    "0 12 * * 7": "2026-11-29 12:00:00",
    "Mon..Fri 03:00": "2026-11-30 03:00:00",
    "*-*-1 04:05": "2026-12-01 04:05:00",
    "hourly": "2026-11-27 11:00:00",
    "@weekly": "2026-11-30 00:00:00",
    "Sun 2:30 UTC": "2026-11-29 02:30:00",
    "*:0/5": "2026-11-27 10:05:00",
}


@pytest.mark.parametrize("text", TIMES)
def test_systemd_understands_a_time_as_it_is_meant(text: str) -> None:
    times, problem = calendar_times.read(text)
    assert problem == ""
    program = judges.product("systemd-analyze")
    said = judges.run(program, "calendar", "--base-time=2026-11-27 10:00:00 UTC", *times, TZ="UTC")
    assert f"Next elapse: {TIMES[text]}" in re.sub(r"(elapse:) \w+ ", r"\1 ", said)


def test_a_day_of_the_month_and_one_of_the_week_are_either_as_in_cron() -> None:
    assert calendar_times.read("0 0 13 * 5")[0] == ["*-*-13 0:0:00", "Fri *-*-* 0:0:00"]


def test_a_host_has_the_units_of_what_runs_there() -> None:
    settings = whole(
        processes={"worker": {"run": "x", "count": 2}, "beat": {"run": "x", "on": "web1"}},
        schedule={"report": {"run": "x", "at": "daily"}},
    )
    names = [item["dest"].rpartition("/")[2] for item in background_forms.units(settings, "shop", "web2")]
    assert names == [
        *("shop.worker@.service", "shop.worker-2@.service"),
        *("shop.report@.service", "shop.report.service", "shop.report.timer"),
    ]
    assert len(background_forms.units(settings, "shop", "web1")) == 6
    assert background_forms.most_at_once(settings) == 4 + 1 + 1


def test_a_command_reaches_its_program_word_for_word() -> None:
    assert background_forms.command_line(r"""sh -c 'echo "$HOME" 100% \n'""") == (
        r'''"sh" "-c" "echo \"$HOME\" 100%% \\n"'''
    )


def test_a_process_runs_as_the_web_process_does() -> None:
    settings = {"processes": {"worker": {"run": "arq w", "stop_seconds": 90}}}
    process = render.declared(**settings)["logbook"]["processes"]["worker"]
    lines = render.render("app", "background@.service.j2", item={"name": "worker", "process": process}).splitlines()
    web = render.render("app", "app@.service.j2").splitlines()
    start = next(number for number, line in enumerate(web) if line.startswith("# Sandbox"))
    assert {line for line in web[start:] if not line.startswith("#")} <= set(lines)
    assert {"User=logbook", "KillMode=mixed", "TimeoutStopSec=90", "Restart=always", "Type=exec"} <= set(lines)
    assert 'ExecStart=:/usr/bin/env "arq" "w"' in lines


def test_what_would_run_on_no_host_is_refused() -> None:
    settings = whole(processes={"beat": {"run": "x", "on": "web3"}, "worker": "x"})
    (sentence,) = background_forms.host_faults("apps.shop", settings, ["web1", "web2"])
    assert sentence.startswith("apps.shop.processes.beat.on is 'web3', so it would run nowhere. Write one of web1, ")
    assert list(background_forms.host_faults("apps.shop", settings, ["web3"])) == []
