"""A host: a container that boots systemd, has an SSH server, and publishes its ports on 127.0.0.1 only."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from hosts import images
from hosts.container_runtime import HostError, ensure, run, say

BOOT_SECONDS = 60
USER = "ops"

# The rights that systemd needs in a container. Some machines do not allow all that --privileged asks for.
FLAGS = (
    *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp"),  # noqa: S108  # in the container
    *("--env", "container=docker"),
    # As on a machine: Docker lets everybody bind ports below 1024, which hides a unit that lacks the right to.
    *("--sysctl", "net.ipv4.ip_unprivileged_port_start=1024"),
)


# Of a command in a container, as `docker exec` gives it.
ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "container=docker")

_MAIN: dict[str, str] = {}  # the first process of each container, as it was found last


@dataclass(frozen=True)
class Host:
    """One host, by the name of its container. `ports` maps a port of 127.0.0.1 to a port of the host.

    Those are below 32768: above it the kernel may have given them to a connection of this machine.

    `image` is an image from `keep_as` to start from, in place of plain Debian; `flags` are more options of
    `docker run`.
    """

    name: str
    debian: str = "13"
    ports: dict[int, int] = field(default_factory=dict)
    image: str = ""
    flags: tuple[str, ...] = ()

    def exists(self) -> bool:
        return bool(self._inspect("{{.Id}}"))

    def is_running(self) -> bool:
        return self._inspect("{{.State.Running}}") == "true"

    def up(self) -> bool:
        """Make sure that the host is booted; True if it was created now, False if it existed."""
        ensure()
        made = not self.exists()
        if made:
            self._create()
        elif not self.is_running():
            run("docker", "start", self.name)
        self.wait_until_booted()
        return made

    def down(self) -> None:
        """Remove the host and its data, if it exists."""
        if self.exists():
            run("docker", "rm", "--force", "--volumes", self.name)

    def keep_as(self, image: str) -> None:
        """Stop the host, and save its disk as an image."""
        run("docker", "stop", "--time", "30", self.name)
        run("docker", "commit", self.name, image)

    def reboot(self) -> None:
        """Reboot: all processes end, and /run and /tmp are empty afterwards."""
        run("docker", "restart", "--time", "30", self.name)

    def wait_until_booted(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while (state := self.exec("systemctl", "is-system-running", check=False)) != "running":
            if state == "degraded":
                failed = self.exec("systemctl", "--failed", "--plain", "--no-legend", check=False)
                raise HostError(f"{self.name} booted, but with failed units: {failed}.")
            if time.monotonic() > deadline:
                raise HostError(f"{self.name} did not boot within {BOOT_SECONDS} s (systemd says '{state}').")
            time.sleep(0.2)

    def exec(self, *command: str, check: bool = True, stdin: str | None = None) -> str:
        """Run a command on the host as root; its standard output."""
        return run(*self._inside(interactive=bool(stdin)), *command, check=check, stdin=stdin)

    def allow(self, public_key: Path) -> None:
        """Allow a key to log in as `ops`."""
        target = f"/home/{USER}/.ssh/authorized_keys"
        self.exec("sh", "-c", f"umask 077; cat > {target}; chown {USER}:{USER} {target}", stdin=public_key.read_text())

    def known_host_line(self, port: int) -> str:
        """The line of known_hosts for the host, with the key as read on the host itself."""
        kind, key = self.exec("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
        return f"[127.0.0.1]:{port} {kind} {key}\n"

    def _inside(self, *, interactive: bool) -> list[str]:
        """What runs a command in the container: the kernel alone where that is possible, as Docker takes far longer."""
        if os.geteuid() == 0 and shutil.which("nsenter") and (main := self._main_process()):
            return ["nsenter", "--target", main, "--all", "env", "--ignore-environment", *ENVIRONMENT]
        return ["docker", "exec", *(["--interactive"] if interactive else []), self.name]

    def _main_process(self) -> str:
        """The number of the container's first process; "" where the engine runs on another machine, or it has ended."""
        if not self._is_here(_MAIN.get(self.name, "")):
            found = self._inspect("{{.State.Pid}}")
            _MAIN[self.name] = found if self._is_here(found) else ""
        return _MAIN[self.name]

    def _is_here(self, process: str) -> bool:
        try:
            return bool(process) and Path(f"/proc/{process}/root/etc/hostname").read_text().strip() == self.name
        except OSError:
            return False

    def _inspect(self, template: str) -> str:
        return run("docker", "container", "inspect", "--format", template, self.name, check=False)

    def _create(self) -> None:
        image = self.image or images.ensure(self.debian)
        say(f"  starting {self.name} ({self.image or f'Debian {self.debian}'})")
        published = [
            part for outer, inner in self.ports.items() for part in ("--publish", f"127.0.0.1:{outer}:{inner}")
        ]
        run("docker", "run", "--detach", "--name", self.name, "--hostname", self.name,
            *FLAGS, *self.flags, *cgroup_flags(), *published, image, "/sbin/init")  # fmt: skip


def cgroup_flags() -> list[str]:
    """Options to mount the whole cgroup hierarchy: with only a part of it systemd sees paths that do not match."""
    hybrid = Path("/sys/fs/cgroup/unified")
    if hybrid.is_dir():
        return ["--volume", f"{hybrid}:/sys/fs/cgroup:rw"]
    return ["--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]


def make_key(path: Path) -> Path:
    """Create an SSH key pair for logging in to hosts, once; the path of the public key."""
    public = path.with_suffix(".pub")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "slipway", "-f", str(path)], check=True)
    return public
