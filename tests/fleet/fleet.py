"""Two hosts that are deployed to together, each with a database of its own, and their clients."""

from __future__ import annotations

import contextlib
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.site import CALLS, VARIANTS, Site, Version, wait_for
from tests.load import Load, Outcome

PAUSE = 0.1  # seconds between two requests of a client: enough to be watched by


@dataclass
class Fleet:
    """The hosts, as sites. Playbooks are run for all of them."""

    sites: list[Site]

    @property
    def first(self) -> Site:
        return self.sites[0]

    @property
    def second(self) -> Site:
        """The host that something happens to."""
        return self.sites[1]

    def live(self) -> Version:
        """What is live on all hosts; an AssertionError when that is not the same everywhere."""
        found = {site.live() for site in self.sites}
        assert len(found) == 1, f"a mixed fleet: {found}"
        return found.pop()

    def left_behind(self) -> list[str]:
        return [f"{site.host.name}: {item}" for site in self.sites for item in site.left_behind()]

    def converges(self, version: Version, *arguments: str) -> None:
        """The next run brings a version to all hosts, without a manual step, and leaves nothing behind."""
        self.first.deploy(version, *arguments)
        assert self.live() == version
        assert self.left_behind() == []

    def other(self) -> Version:
        """A version with nothing wrong with it that is not live."""
        return next(version for version in self.first.good if version != self.live())

    def version(self, on_second: str) -> Version:
        """The next version, which has a behaviour from variants/ on the second host alone."""
        text = textwrap.indent((VARIANTS / f"{on_second}.py").read_text(), "    ")
        here = f'import socket\n\nif socket.gethostname() == "{self.second.host.name}":\n{text}'
        return self.first.version(
            files={"app/behaviour.py": f"{here}else:\n    from app.normal import Normal as Behaviour\n"}
        )

    @contextlib.contextmanager
    def clients(self) -> Iterator[list[Outcome]]:
        """Two clients of each host, one reading and one writing; what they came to, in the order of the hosts."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(Load(site, CALLS, pause=PAUSE)) for site in self.sites]

    @contextlib.contextmanager
    def meanwhile(self, condition: str, then: str) -> Iterator[None]:
        """What happens on the second host as soon as its shell finds `condition`, while the block runs."""
        problems: list[BaseException] = []

        def wait() -> None:
            try:
                self.second.wait_there(condition, 90, then)
            except Exception as error:
                problems.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            yield
        finally:
            thread.join()
        assert problems == []


def state(name: str) -> str:
    """The condition for a shell that the open deployment is in that state."""
    return f"""grep -q '"state": "{name}"' /srv/logbook/deployment.json 2>/dev/null"""


def back(site: Site) -> None:
    """Start a host that was killed, and wait until it serves."""
    site.plug_in()
    site.host.wait_until_booted()
    wait_for(lambda: site.wait_until_ready(30) >= 0, 30)
