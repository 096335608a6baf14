"""Documentation of the action `slipway`; what runs is action_plugins/slipway.py."""

DOCUMENTATION = r"""
module: slipway
short_description: Run a command of the release engine
description:
  - Runs C(slipway) on the host, or the same package on the controller, and returns the fields of its result.
  - A command that does not succeed fails the task with the engine's own sentence as C(msg).
  - Each phase is run as the owner C(user@controller (pid N)). When another run holds the lease and that run is a
    process of this controller that has ended, the command is given again to take over from it.
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
  send:
    description: A file on the controller that the command reads from its standard input; empty is none.
    type: path
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
    command: warm
    app: logbook
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
"""
