"""Asks a host by a script, over the connection of an action plugin."""

from __future__ import annotations

import uuid

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from playbooks.look.frame import COMMAND, Framed, framed, unframed, why_not


def ask(action: ActionBase, script: str, host: str, *, becomes: bool = True) -> Framed:
    """Run a script on the host of an action; AnsibleActionFail with one sentence when there is no answer.

    Without `becomes` it is run as the user who logs in, also where the task says `become`.
    """
    mark = f"slipway-{uuid.uuid4().hex}"
    try:
        found = action._low_level_execute_command(COMMAND, sudoable=becomes, in_data=framed(script, mark))
    except AnsibleConnectionFailure:
        raise
    except AnsibleError as error:  # of the connection, when sudo wants a password that it has not
        found = {"stdout": "", "stderr": str(error)}
    answer = unframed(found["stdout"], mark)
    if answer is None:
        user = action._get_remote_user() or "the user"
        raise AnsibleActionFail(why_not(host, user, found["stdout"] + "\n" + found["stderr"]))
    return answer
