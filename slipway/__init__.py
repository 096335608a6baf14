"""The release engine: moves the releases of an app through their phases on one host.

Standard library only, Python >= 3.11. Installed on a host as one file (see `slipway.controller.zipapp`);
the controller runs the same package as `python -m slipway` to resolve versions and to bundle commits.
"""

__version__ = "0.2.0"

# What controller and engine say to one another: commands, their options, the fields of their results. A change that an
# older side would misunderstand gets a new number.
PROTOCOL = 2
