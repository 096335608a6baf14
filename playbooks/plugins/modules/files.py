"""Ansible module `files`: everything that a role has in the file system, in one round trip."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: files
short_description: Have files, directories and links
description:
  - Does for a list what M(ansible.builtin.template), M(ansible.builtin.copy) and M(ansible.builtin.file) do for one
    entry. Each of those costs two round trips and two starts of Python; this costs one.
  - What C(validate) refuses fails the task before anything of the list is written.
  - A file is written beside its place, given its owner and mode, and renamed, so nobody ever sees half of it, or more
    of a secret than they may.
options:
  files:
    description: The entries, in the order in which they are made.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      state:
        description: What it is. Only a file or a link is made absent.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: Of a file. A template is rendered with C(lookup('ansible.builtin.template', ...)).
        type: str
      target:
        description: Where a link leads; it must exist, or be one of the entries before it.
        type: path
      owner:
        description: Name of a user. In check mode there need not be one yet, nor a group.
        type: str
        default: root
      group:
        description: Name of a group.
        type: str
        default: root
      mode:
        description: Permissions in octal digits; by default 0644 for a file and 0755 for a directory.
        type: str
      validate:
        description: A command that accepts the content, with C(%s) for a file that holds it. Not run in check mode.
        type: str
author: Slipway
"""

EXAMPLES = r"""
- name: Write the settings
  files:
    files:
      - {path: /etc/logbook, state: directory}
      - {path: /etc/logbook/env, content: "{{ lookup('ansible.builtin.template', 'env.j2') }}", mode: "0640"}
"""

RETURN = r"""
paths:
  description: What has changed, or would.
  returned: success
  type: list
  elements: str
"""

OPTIONS = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
    "content": {"type": "str"},
    "target": {"type": "path"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str"},
    "validate": {"type": "str"},
}
REQUIRED_IF = [("state", "file", ["content"]), ("state", "link", ["target"])]
MODES = {"file": "0644", "directory": "0755"}

Entry = Mapping[str, Any]


class Refused(Exception):  # noqa: N818  # said to a person
    """Why an entry cannot be had, in one sentence."""


def is_wanted(entry: Entry) -> bool:
    """Whether an entry is already as it should be."""
    path, state = Path(entry["path"]), entry["state"]
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return bool(state == "absent")
    if state == "absent":
        return False
    if state == "link":
        return path.is_symlink() and str(path.readlink()) == entry["target"]
    if state == "directory":
        # As ansible.builtin.file does: a link to a directory is one.
        found = path.stat() if path.is_dir() else found
        return stat.S_ISDIR(found.st_mode) and _attributes(found) == _wanted_attributes(entry)
    return (
        stat.S_ISREG(found.st_mode)
        and _attributes(found) == _wanted_attributes(entry)
        and path.read_bytes() == entry["content"].encode()
    )


def difference(entry: Entry) -> dict[str, str]:
    """What Ansible shows with --diff of an entry that is not as it should be."""
    path, state = Path(entry["path"]), entry["state"]
    before = after = ""
    if path.is_file() and not path.is_symlink():
        before = path.read_text(errors="replace")
    if state == "file":
        after = entry["content"]
    headers = {"before_header": f"{path} ({_describe(path)})", "after_header": f"{path} ({_describe_wanted(entry)})"}
    if before == after:  # the same, but for its owner or mode; or no file
        before, after = f"{_describe(path)}\n", f"{_describe_wanted(entry)}\n"
    return {**headers, "before": before, "after": after}


def refuse_impossible(entry: Entry) -> None:
    """Raise Refused where something that is no such thing stands in the entry's place."""
    path, state = Path(entry["path"]), entry["state"]
    if path.is_dir() and not path.is_symlink() and state != "directory":
        raise Refused(f"{path} is a directory, and is to be {_name(state)}. Move it away.")
    if state == "directory" and os.path.lexists(path) and not path.is_dir():
        raise Refused(f"{path} is no directory, and is to be one. Move it away.")


def have(entry: Entry) -> None:
    """Make an entry what it should be; Refused where its owner, or what it links to, does not exist."""
    path, state = Path(entry["path"]), entry["state"]
    if state == "absent":
        path.unlink(missing_ok=True)
    elif state == "directory":
        path.mkdir(parents=True, exist_ok=True)
        _set_attributes(path, entry)
    elif state == "link":
        if not (path.parent / entry["target"]).exists():
            raise Refused(f"{path} is to be a link to {entry['target']}, which does not exist.")
        _replace(path, lambda made: made.symlink_to(entry["target"]))
    else:
        _replace(path, lambda made: _write(made, entry))


def _write(path: Path, entry: Entry) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(entry["content"].encode())
    _set_attributes(path, entry)


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    """Make it beside its place, and rename it: an entry is there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as directory:
        made = Path(directory) / "made"
        make(made)
        made.replace(path)


def _set_attributes(path: Path, entry: Entry) -> None:
    owner, group, mode = _wanted_attributes(entry)
    if owner is None or group is None:
        missing = f"user {entry['owner']}" if owner is None else f"group {entry['group']}"
        raise Refused(f"{entry['path']} is to belong to {missing}, which does not exist.")
    os.chown(path, owner, group)
    path.chmod(mode)  # after the owner, whose change takes bits away


def _attributes(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def _wanted_attributes(entry: Entry) -> tuple[int | None, int | None, int]:
    """Owner and group by number, None for one that there is not; and the mode."""
    try:
        owner = pwd.getpwnam(entry["owner"]).pw_uid
    except KeyError:
        owner = None
    try:
        group = grp.getgrnam(entry["group"]).gr_gid
    except KeyError:
        group = None
    return owner, group, int(_mode(entry), 8)


def _mode(entry: Entry) -> str:
    return str(entry["mode"] or MODES[entry["state"]])


def _describe(path: Path) -> str:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    if stat.S_ISLNK(found.st_mode):
        return f"link to {path.readlink()}"
    owner, group, mode = _attributes(found)
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    return f"{kind}, {mode:04o}, {_user_name(owner)}:{_group_name(group)}"


def _describe_wanted(entry: Entry) -> str:
    state = entry["state"]
    if state == "link":
        return f"link to {entry['target']}"
    return "absent" if state == "absent" else f"{state}, {_mode(entry)}, {entry['owner']}:{entry['group']}"


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _name(state: str) -> str:
    return state if state == "absent" else f"a {state}"


def _validate(module: AnsibleModule, entries: Iterable[Entry]) -> None:
    """Raise Refused with what the first command says that does not accept the content of its entry."""
    for entry in entries:
        if entry["validate"] and entry["state"] == "file":
            with tempfile.NamedTemporaryFile(dir=module.tmpdir) as file:
                file.write(entry["content"].encode())
                file.flush()
                code, output, errors = module.run_command(entry["validate"].replace("%s", file.name))
            if code != 0:
                reason = (errors or output).strip().replace(file.name, entry["path"])
                raise Refused(f"{entry['path']} was refused: {reason}")


def main() -> None:
    module = AnsibleModule(
        {"files": {"type": "list", "elements": "dict", "required": True, "options": OPTIONS,
                   "required_if": REQUIRED_IF}},
        supports_check_mode=True,
        no_log=True,  # the host's journal is no place for all these contents
    )  # fmt: skip
    entries: list[dict[str, Any]] = module.params["files"]
    # What was asked for, without the contents: they are long, and the difference shows what is new of them.
    invocation = {"module_args": {"files": [entry["path"] for entry in entries]}}
    try:
        due = [entry for entry in entries if not is_wanted(entry)]
        for entry in due:
            refuse_impossible(entry)
        differences = [difference(entry) for entry in due] if module._diff else []
        if not module.check_mode:
            _validate(module, due)
            for entry in due:
                have(entry)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error), invocation=invocation)
    paths = [entry["path"] for entry in due]
    module.exit_json(changed=bool(due), paths=paths, diff=differences, invocation=invocation)


if __name__ == "__main__":
    main()
