"""The release engine: moves the releases of an app through their phases on one host.

Standard library only, Python >= 3.11. Installed on a host as one file (see `slipway.zipapp`);
the controller runs the same package as `python -m slipway` to resolve versions and to bundle commits.
"""
