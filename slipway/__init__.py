"""The release engine: deploys and rolls back the releases of an app on one host, phase by phase.

Standard library only, Python >= 3.11. Installed on a host as one file (see `slipway.controller.zipapp`);
the controller runs the same package as `python -m slipway` to resolve versions and to bundle commits.
"""

__version__ = "0.2.0"

# The protocol between controller and engine: commands, their options, the fields of their results. A change that an
# older controller or engine would misunderstand gets a new number.
PROTOCOL = 2
