"""How a host is asked by a script of sh, whatever its login shell prints beside the answer.

The script goes to `/bin/sh -s` on standard input: no other shell reads it, so any login shell will do. Its output
stands between two lines with a mark of this one question. A greeting of `.bashrc`, of sudo or of PAM is outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

COMMAND = "/bin/sh -s"

# Neither the PATH of the user, which may be without /usr/sbin, nor the language, the umask or the directory matter.
_FRAME = """\
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
export PATH LC_ALL
unset LANG LANGUAGE CDPATH
umask 022
cd /
printf '\\n%s begin\\n' '{mark}'
(
:
{script}
) </dev/null
printf '\\n%s end %s\\n' '{mark}' "$?"
"""


@dataclass(frozen=True)
class Framed:
    """What the script printed, and the code that it ended with.

    `greeting` is what the shell printed without a line break at its end, which Ansible takes for a part of its answers.
    """

    text: str
    code: int
    greeting: str = ""


def framed(script: str, mark: str) -> bytes:
    """What to send to COMMAND for a script; `mark` is a word that no output has by chance."""
    return _FRAME.format(script=script, mark=mark).encode()


def unframed(output: str, mark: str) -> Framed | None:
    """The answer in an output, or None when it has none."""
    frame = rf"^{re.escape(mark)} begin\r?\n(.*?)\r?\n{re.escape(mark)} end ([0-9]+)\r?$"
    found = re.search(frame, "\n" + output, re.DOTALL | re.MULTILINE)
    if not found:
        return None
    before = re.sub(
        r"BECOME-SUCCESS-\w+\r?\n$", "", output[: max(found.start() - 2, 0)]
    )  # the line break is the frame's
    return Framed(found[1].replace("\r\n", "\n"), int(found[2]), before.rpartition("\n")[2].strip())


def why_not(host: str, user: str, output: str) -> str:
    """One sentence for a host that gave no answer; `output` is all that it printed."""
    for pattern, sentence in _REASONS:
        if re.search(pattern, output, re.IGNORECASE):
            return sentence.format(host=host, user=user)
    lines = output.split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    printed = f"the last line that it printed is: {said[:200]}" if said else "it printed nothing"
    return f"{host} did not answer a script of /bin/sh as root; {printed}."


_REASONS = [
    (r"sudo: .*not found|sudo: no such file",
     "{host} has no sudo, and '{user}' is not root: install sudo there, or log in as root (ansible_user: root)."),
    (r"must have a tty|no tty present",
     "sudo on {host} demands a terminal: add `Defaults:{user} !requiretty` to a file in /etc/sudoers.d."),
    (r"not in the sudoers file|is not allowed to|may not run sudo",
     "'{user}' may not use sudo on {host}: add `{user} ALL=(ALL) NOPASSWD: ALL` to a file in /etc/sudoers.d."),
    (r"incorrect (sudo )?password|sorry, try again",
     "sudo on {host} refuses the password that was given for '{user}': give the right one (-K)."),
    (r"missing sudo password|password is required|terminal is required to read",
     "sudo on {host} demands a password for '{user}': add -K to the command, or `{user} ALL=(ALL) NOPASSWD: ALL` to a "
     "file in /etc/sudoers.d."),
    (r"sudoers.*(syntax|parse) error|no valid sudoers|unable to (open|stat) .*sudoers",
     "The settings of sudo on {host} are broken: run `visudo --check` there as root."),
    (r"this account is currently not available|nologin",
     "'{user}' may not log in to {host} with a shell: give it one with `usermod --shell /bin/bash {user}`."),
    (r"setuid|effective uid is not 0|nosuid",
     "sudo on {host} cannot become root (not setuid, or on a file system mounted nosuid): reinstall sudo there."),
]  # fmt: skip
