"""What one host of a run does for all of them."""

from __future__ import annotations

import yaml

from tests.templates import render


def test_the_first_host_that_deploys_is_the_one_that_runs_commands_for_all() -> None:
    tasks = yaml.safe_load((render.ROLES / "release/tasks/cut_over_together.yml").read_text())
    migrate = next(task for task in tasks if task["slipway"]["command"] == "migrate")
    assert migrate["throttle"] == 1, "the others wait for it"
    hosts = {
        "a": {"inventory_hostname": "a", "__release_done": {"open": False}},  # it has the release already
        "b": {"inventory_hostname": "b", "__release_done": {"open": True}},
        "c": {"inventory_hostname": "c", "__release_done": {"open": True}},
        "d": {"inventory_hostname": "d"},  # it has gone
    }
    known = {"release_hosts": list(hosts), "hostvars": hosts}
    first = render.evaluate(migrate["vars"]["__first"], **known).strip()
    later = {
        name: render.evaluate(migrate["slipway"]["options"]["later"], inventory_hostname=name, __first=first)
        for name in "bc"
    }
    assert later == {"b": False, "c": True}
