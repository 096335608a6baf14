"""Which of a host's PostgreSQL clusters serves the apps: the one of their port, and never a retired one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ansible.errors import AnsibleFilterError


@dataclass(frozen=True)
class Cluster:
    """One line of pg_lsclusters, with how the cluster starts at boot: auto, manual or disabled."""

    version: str
    name: str
    port: int
    status: str  # online or down, and more after a comma
    data: str
    start: str
    is_enabled: bool = False

    @property
    def is_online(self) -> bool:
        return "online" in self.status.split(",")

    @property
    def is_retired(self) -> bool:
        """Whether somebody took it out of service, as pg_upgradecluster does with the old one."""
        return not self.is_online and self.start != "auto"

    def __str__(self) -> str:
        how = f", starts: {self.start}" if self.start != "auto" else ""
        state = self.status.replace(",", ", ")
        return f"{self.version} {self.name} (port {self.port}, {state}{how}, data in {self.data})"


class ClusterError(Exception):
    """None of the clusters can be used; the message is one sentence."""


def read(lines: Iterable[str]) -> list[Cluster]:
    """The clusters of lines like `cluster 17 main 5432 online postgres /data /log auto [enabled]`, and no others."""
    found = []
    for line in lines:
        words = line.split()
        if words[:1] == ["cluster"] and len(words) >= 9 and words[3].isdigit():
            _, version, name, port, status, _, data, _, start = words[:9]
            found.append(Cluster(version, name, int(port), status, data, start, "enabled" in words[9:]))
    return found


def serving(clusters: list[Cluster], port: int) -> Cluster | None:
    """The cluster that serves a port, None on a host without clusters; ClusterError when it cannot be told which."""
    if not clusters:
        return None
    there = [cluster for cluster in clusters if cluster.port == port]
    usable = [cluster for cluster in there if cluster.is_online] or [c for c in there if not c.is_retired]
    if len(usable) != 1:
        raise ClusterError(_undecided(clusters, there, usable, port))
    (chosen,) = usable
    if "binaries_missing" in chosen.status:
        raise ClusterError(
            f"the PostgreSQL cluster {chosen} has no programs: type `apt-get install postgresql-{chosen.version}` there"
        )
    if "recovery" in chosen.status.split(","):
        raise ClusterError(
            f"the PostgreSQL cluster {chosen} is the standby of another server, and apps have to write: "
            f"type `pg_ctlcluster {chosen.version} {chosen.name} promote` there, or take another host"
        )
    return chosen


def _undecided(clusters: list[Cluster], there: list[Cluster], usable: list[Cluster], port: int) -> str:
    listed = "; ".join(map(str, clusters))
    if usable:
        why = f"{len(usable)} PostgreSQL clusters have port {port}, which apps use"
    elif there:
        why = f"the PostgreSQL cluster of port {port}, which apps use, is retired"
    else:
        why = f"no PostgreSQL cluster has port {port}, which apps use"
    chosen = next((cluster for cluster in usable or clusters if cluster.is_online), clusters[-1])
    others = [cluster for cluster in there if cluster != chosen]
    free = max(cluster.port for cluster in clusters) + 1
    commands = [f"pg_conftool {other.version} {other.name} set port {free + n}" for n, other in enumerate(others)]
    commands.append(f"pg_conftool {chosen.version} {chosen.name} set port {port}")
    commands.append(f"systemctl restart postgresql@{chosen.version}-{chosen.name}")
    return (
        f"{why}. There are: {listed}. If they shall use {chosen.version} {chosen.name}, type there as root: "
        f"`{' && '.join(commands)}`"
    )


def postgresql_cluster(lines: Iterable[str], port: int) -> dict[str, Any]:
    """The cluster of a port as {version, name, runs}; empty on a host without clusters."""
    try:
        chosen = serving(read(lines), port)
    except ClusterError as error:
        raise AnsibleFilterError(f"{error}.") from error
    if chosen is None:
        return {}
    return {"version": chosen.version, "name": chosen.name, "runs": chosen.is_online and chosen.is_enabled}


class FilterModule:
    """Makes it known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"postgresql_cluster": postgresql_cluster}
