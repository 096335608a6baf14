"""Install a certificate and its key on the host; module_utils/slipway_certificates.py does the work."""

from __future__ import annotations

import hashlib
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils import slipway_certificates as certificates
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: slipway_certificate
short_description: Install a certificate and its key
description:
  - Puts C(fullchain.pem) and C(privkey.pem) into a directory, as a pair, if the pair in place cannot stay.
  - One call returns all that a run has to know, so that a run with nothing to do is one round trip.
options:
  directory:
    description: Where the pair belongs; its name is that of the certificate.
    type: path
    required: true
  state:
    description: >-
      V(present) leaves a pair that Nginx can load. V(requested) has an ACME authority issue it by the unit that also
      renews it, and warns when it does not.
    type: str
    choices: [present, requested]
    default: present
  method:
    description: >-
      How the host comes by a certificate. V(self_signed) has the host's own authority issue it, V(files) takes
      O(chain) and O(key), V(acme) leaves what another authority has issued, and lets a self-signed one stand in.
    type: str
    choices: [self_signed, files, acme]
    default: self_signed
  domains:
    description: Host names and addresses that it is for.
    type: list
    elements: str
    default: []
  authority:
    description: Directory of the host's own authority.
    type: path
    default: ""
  host:
    description: Name of the host, for the name of that authority.
    type: str
    default: ""
  days:
    description: Days that a self-signed certificate is valid.
    type: int
    default: 365
  renew_days:
    description: Days before its end at which it is renewed.
    type: int
    default: 30
  chain:
    description: PEM of the certificate and those that it depends on, for O(method=files).
    type: str
    default: ""
  key:
    description: PEM of the key, for O(method=files).
    type: str
    default: ""
  files:
    description: What must be on the host for renewals, as paths with the SHA-256 of their content.
    type: dict
    default: {}
author: Slipway
"""

EXAMPLES = r"""
- name: Have a certificate
  slipway_certificate:
    directory: /etc/ssl/slipway/logbook
    domains: [logbook.example.com]
"""

RETURN = r"""
msg:
  description: One sentence, what was done or what is wrong.
  returned: always
  type: str
settled:
  description: Whether nothing has to be installed for renewals, nor removed.
  returned: with O(state=present)
  type: bool
authority:
  description: PEM of the host's own authority; empty when it has none.
  returned: with O(state=present)
  type: str
"""


def present(module: AnsibleModule) -> dict[str, Any]:
    """The result of state=present."""
    asked = module.params
    directory, authority = Path(asked["directory"]), Path(asked["authority"])
    before = certificates.load(directory)
    wanted = _from_files(module, before) if asked["method"] == "files" else None
    if asked["method"] == "files":
        changed = wanted is not None
    elif asked["method"] == "acme" and certificates.can_stay(directory, authority):
        changed = False
    else:
        wanted_for = asked["domains"], asked["renew_days"], asked["days"]
        changed = not certificates.is_settled(directory, authority, *wanted_for)
    if changed and not module.check_mode:
        after = wanted or certificates.self_sign(
            authority, asked["host"], asked["domains"], asked["days"], asked["renew_days"]
        )
        certificates.install(directory, after)
        said = certificates.describe(after)
    else:
        said = certificates.describe(wanted) if wanted else f"for: {', '.join(asked['domains'])}\nself-signed\n"
    issuer = authority / "ca.crt"
    return {
        "changed": changed,
        "msg": f"The certificate of {directory.name} {'is new' if changed else 'can stay'}.",
        "settled": _settled(module, directory),
        "authority": issuer.read_text() if issuer.exists() else "",
        "diff": {"before": certificates.describe(before), "after": said} if changed else {},
    }


def _from_files(module: AnsibleModule, before: certificates.Pair | None) -> certificates.Pair | None:
    """The user's own pair if it has to be installed; CertificateError if it must not be installed."""
    asked = module.params
    pair = certificates.Pair(asked["chain"].strip() + "\n", asked["key"].strip() + "\n", "files")
    in_place = before is not None and (before.chain, before.key) == (pair.chain, pair.key)
    found = certificates.judge(pair, asked["domains"])
    if found.ends <= datetime.now(UTC):
        if not in_place:
            raise certificates.CertificateError(f"it expired on {found.ends:%Y-%m-%d}")
        module.warn(
            f"The certificate of {Path(asked['directory']).name} has expired on {found.ends:%Y-%m-%d}: "
            "replace its files with those of a new one and run site.yml again."
        )
    return None if in_place else pair


def _settled(module: AnsibleModule, directory: Path) -> bool:
    """With ACME, whether the files and the timer of renewals are in place; otherwise, whether there are none."""
    if module.params["method"] != "acme":
        return not (directory / "acme.json").exists()
    for name, digest in module.params["files"].items():
        path = Path(name)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return False
    properties = [f"--property={name}" for name in ("ActiveState", "UnitFileState", "NeedDaemonReload")]
    timer, service = (f"slipway-certificate@{directory.name}.{kind}" for kind in ("timer", "service"))
    shown = set(module.run_command(["systemctl", "show", timer, service, *properties])[1].split())
    runs = {"ActiveState=active", "UnitFileState=enabled"} <= shown  # the timer; the service is neither
    return runs and "NeedDaemonReload=yes" not in shown and module.get_bin_path("certbot") is not None


def requested(module: AnsibleModule) -> dict[str, Any]:
    """The result of state=requested."""
    directory = Path(module.params["directory"])
    name, unit = directory.name, f"slipway-certificate@{directory.name}.service"
    if not (directory / "acme.json").exists():
        return {
            "changed": module.check_mode,
            "msg": f"The certificate of {name} is requested once its settings are on the host.",
        }
    settings = certificates.acme_settings(directory)
    due = certificates.is_wanted(directory, settings)
    if module.check_mode or not (due or (directory / "unloaded").exists()):
        return {"changed": due, "msg": f"The certificate of {name} {'is due' if due else 'can stay'}."}
    if module.run_command(["systemctl", "start", unit])[0] == 0:
        return {"changed": True, "msg": f"The certificate of {name} was issued by {settings.directory}."}
    failure = directory / "failure"
    why = failure.read_text().strip() if failure.exists() else f"{unit} failed, see `journalctl -u {unit}`."
    pair = certificates.load(directory)
    serving = "A self-signed one" if pair and pair.source == certificates.SELF_SIGNED else "The one before"
    message = (
        f"The certificate of {name} is not there yet: {why} {serving} serves until then. The host tries again every "
        f"hour by itself; to try at once, run site.yml again, or `systemctl start {unit}` on the host."
    )
    module.warn(message)
    return {"changed": False, "msg": message}


def main() -> None:
    """Read the arguments, act, and say what was done."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "requested"], "default": "present"},
            "method": {"type": "str", "choices": ["self_signed", "files", "acme"], "default": "self_signed"},
            "domains": {"type": "list", "elements": "str", "default": []},
            "authority": {"type": "path", "default": ""},
            "host": {"type": "str", "default": ""},
            "days": {"type": "int", "default": 365},
            "renew_days": {"type": "int", "default": 30},
            "chain": {"type": "str", "default": ""},
            "key": {"type": "str", "default": "", "no_log": True},
            "files": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if module.check_mode and module.get_bin_path("openssl") is None:
        # A fresh host in check mode: a real run installs openssl before this.
        settled = module.params["method"] != "acme"
        module.exit_json(
            changed=True,
            msg="openssl is not installed yet, so the certificate cannot be checked.",
            settled=settled,
            authority="",
        )
    try:
        result = requested(module) if module.params["state"] == "requested" else present(module)
    except certificates.CertificateError as error:
        directory = Path(module.params["directory"])
        stays = " The one in place stays." if certificates.load(directory) else ""
        module.fail_json(msg=f"The certificate of {directory.name} is refused: {error}.{stays}")
    except Exception as error:  # its own message may show a part of the key
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        module.fail_json(msg=f"Slipway has a defect: {type(error).__name__} in {place}; please report it.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
