"""Documentation of the action `slipway`; what runs is action_plugins/slipway.py."""

DOCUMENTATION = r"""
module: slipway
short_description: Run a command of the release engine
description:
  - Runs C(slipway) on the host, or the same package on the controller, and returns the fields of its result.
  - A command that does not succeed fails the task with the engine's own sentence as C(msg).
  - Each command that belongs to a deployment is given with its owner, C(user@controller (pid N, ...)). When another
    run has the deployment and has ended, the command is given again to take over from it, as often as that takes.
  - Each command says which protocol the controller speaks; an engine that speaks another one refuses it.
  - In check mode only plans are made; O(command=rollback) and a command with O(source) return the host's plan.
options:
  command:
    description: The engine's command, as listed by C(slipway --help).
    type: str
    required: true
  app:
    description: The app, for commands that take one.
    type: str
  arguments:
    description: Further positional arguments; empty ones are left out.
    type: list
    elements: raw
  options:
    description: Options by their long names; true is a bare flag, a list repeats, empty and false are left out.
    type: dict
  source:
    description:
      - Which commit the command is for. It is found on the controller, the host is asked what it lacks of it, and the
        command is given with that; not at all when the host has nothing to do.
    type: dict
    suboptions:
      repository:
        description: A path on the controller, or a URL.
        type: str
        required: true
      version:
        description: A tag or a commit; empty is the newest stable tag.
        type: str
      accept:
        description: What may be deployed. Required unless C(commit) is given.
        type: str
        choices: [tags, signed-tags, commits]
      commit:
        description: The result of O(command=resolve), when several hosts are to get the same commit.
        type: dict
  where:
    description: Where to run it.
    type: str
    choices: [host, controller]
    default: host
author: Slipway
"""

EXAMPLES = r"""
- name: Start the new release in the idle slot
  slipway:
    command: start
    app: logbook

- name: Deploy the newest stable tag
  slipway:
    command: deploy
    app: logbook
    source:
      repository: /home/alice/logbook
      accept: tags
"""

RETURN = r"""
msg:
  description: One sentence, what was done or what is wrong.
  returned: always
  type: str
phases:
  description: The phases that ran, each with outcome, seconds and message.
  returned: always
  type: list
commit:
  description: What C(source) came to, with C(sha), C(tag) and C(subject).
  returned: with C(source)
  type: dict
unchanged:
  description: The task failed before it opened a deployment, so there is nothing to undo.
  returned: when that is so
  type: bool
"""
