"""What the hosts of one environment say of the release that is to go to another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def promoted(answers: Iterable[Mapping[str, Any]], app: str, environment: str) -> dict[str, str]:
    """The release that is live in `environment`: {sha, version}, where `version` is its tag, or the commit without one.

    `answers` are results of `slipway status`, each with the host as its `item`. AnsibleFilterError says in one sentence
    why nothing can be promoted: a deployment is open, nothing is live, or the hosts do not agree.
    """
    found: dict[str, dict[str, Any]] = {}
    for answer in answers:
        host = str(answer.get("item", "the host"))
        status = next((item for item in answer.get("apps") or [] if item.get("app") == app), None)
        if status is None:
            raise AnsibleFilterError(f"{host} of {environment} has no app '{app}', so there is nothing to promote.")
        if status.get("deployment"):
            raise AnsibleFilterError(
                f"A deployment of {app} is open on {host} of {environment}, so what is live there may still change. "
                "Try again when it has ended."
            )
        live = status.get("live")
        if not live or not live.get("sha"):
            raise AnsibleFilterError(f"Nothing of {app} is live on {host} of {environment}. Deploy it there first.")
        found[host] = live
    if not found:
        raise AnsibleFilterError(f"{environment} has no host to ask.")
    if len({live["sha"] for live in found.values()}) > 1:
        said = ", ".join(f"{live.get('tag') or live['sha'][:12]} on {host}" for host, live in found.items())
        raise AnsibleFilterError(
            f"The hosts of {environment} do not agree on what is live of {app}: {said}. Deploy one version there first."
        )
    first = next(iter(found.values()))
    return {"sha": str(first["sha"]), "version": str(first.get("tag") or first["sha"])}


def losses(differences: Iterable[Mapping[str, Any]], migrate: list[str]) -> list[str]:
    """Why a deploy asks first, from the results of `slipway compare`, one for each host on which something is live.

    `migrate` is how the app is migrated: ["alembic"], by commands, or not at all.
    """
    found: dict[str, None] = {}
    for difference in differences:
        if "goes_back" not in difference:
            continue  # nothing is live on that host, or the version is live already
        if difference["goes_back"] is None:
            found["whether it is older than what is live cannot be told, as the repository has not got that commit"] = (
                None
            )
        elif difference["goes_back"]:
            found["it is older than what is live"] = None
        if migrate == ["alembic"]:
            found.update(dict.fromkeys(difference["losses"]))
        elif migrate:
            found[f"what '{', '.join(migrate)}' deletes cannot be told"] = None
    return list(found)


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"promotion": promoted, "deploy_losses": losses}
