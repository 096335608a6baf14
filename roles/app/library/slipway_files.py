"""Writes several files with their owners and modes, each whole or not at all, in one call to the host."""

from __future__ import annotations

import grp
import json
import os
import pwd
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: slipway_files
short_description: Write several files at once
description:
  - A call to a host takes a third of a second, whatever it does. This one writes all files of an app.
  - The action of the same name renders the templates, and leaves out the files that the host has already.
options:
  files:
    description: >-
      The files, with C(dest), C(owner), C(group), C(mode) (octal digits), and C(content) or C(src). One whose C(wanted)
      is false is left as it is.
      The action hands them on as one text of JSON, which is never logged.
    type: raw
    required: true
  found:
    description: What the host has, as lines of C(find) and C(sha256sum); see C(__app_look) in vars/main.yml.
    type: list
    elements: str
author: Slipway
"""

EXAMPLES = r"""
- name: Write two files
  slipway_files:
    files:
      - {src: app@.service.j2, dest: /etc/systemd/system/shop@.service}
      - {content: "secret", dest: /etc/slipway/shop.token, mode: 600}
    found: "{{ __app_found.stdout_lines }}"
"""

RETURN = r"""
written:
  description: The paths of the files that were written.
  type: list
  returned: always
"""


def write(path: str, content: str, owner: str, group: str, mode: int) -> None:
    """Put a file in its place by a rename. It is nobody else's before it has its owner and mode."""
    descriptor, partial = tempfile.mkstemp(dir=Path(path).parent, prefix=".slipway-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode())
            os.fchown(descriptor, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink()
        raise


def main() -> None:
    # As one text: what is not logged is then this text, and not each path and mode in it, wherever that is said.
    options = {"files": {"type": "str", "required": True, "no_log": True}}
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    written: list[str] = []
    for item in json.loads(module.params["files"]):
        if not module.check_mode:
            try:
                write(item["dest"], item["content"], item["owner"], item["group"], int(str(item["mode"]), 8))
            except (OSError, KeyError) as error:
                reason = error.strerror if isinstance(error, OSError) else f"there is no {error}"
                module.fail_json(msg=f"{item['dest']} cannot be written: {reason}.", written=written)
        written.append(item["dest"])
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
