"""The oldest versions that the server of Slipway runs with: what tests/circumstances/test_server.py tries them with."""

# Of an app's own, with the worker of roles/app/templates/gunicorn.conf.py.j2.
SERVERS = {"gunicorn": (20, 0), "uvicorn": (0, 12)}
# The Python that the Uvicorn needs that Slipway brings (roles/app/vars/main.yml).
PYTHON = (3, 9)


def text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
