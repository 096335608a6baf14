"""What a build is told: a request that goes over a pipe to the unit that it runs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """What to build, and with what. Paths are texts, as this comes over a pipe.

    `donor` is another release with the same packages, whose virtualenv is in this one already; "" without one.
    `record` is what was installed of packages that the commit does not pin; "" as long as nothing was. Without one they
    are found among what there was at the time `cutoff`.
    """

    app: str
    repository: str
    sha: str
    tag: str | None
    directory: str
    module: str
    user: str
    uv: str
    cache: str
    python: str
    donor: str = ""
    lock: str = ""
    extras: Sequence[str] = ()
    groups: Sequence[str] = ()
    allow_unpinned: bool = False
    record: str = ""
    cutoff: str = ""
    build_packages: Sequence[str] = ()
    build_env: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    artefacts: Sequence[Mapping[str, str]] = ()
