"""Starts Gunicorn for an app, with its Python: from the app's own packages, else from those beside this file.

Ours come last among the places of modules, so that whatever an app has pinned is what it gets.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # not where multiprocessing loads this file in a process of its own
    sys.path[0] = str(Path.cwd())  # as with `python -m`; it was the directory of this file
    sys.path.append(str(Path(__file__).resolve().parent / "packages"))
    from gunicorn.app.wsgiapp import run  # type: ignore[import-untyped]  # it has no types

    sys.argv[0] = "gunicorn"
    sys.exit(run())
