"""`python -m hosts`: local systemd hosts from the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hosts import container_runtime, demo, images, products, scratch
from hosts.host import Host


def main() -> int:
    """Run one command; the exit code is 1, after a sentence with the reason, when it fails."""
    parser = argparse.ArgumentParser(prog="python -m hosts", description="Local systemd hosts in containers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("images", help="make sure that a container engine runs and the images are built")
    wanted = commands.add_parser("products", help="install the programs that tests need on this machine")
    wanted.add_argument("names", nargs="*", metavar="NAME", help=f"default: all ({', '.join(products.PRODUCTS)})")
    up = commands.add_parser("up", help="start a host")
    up.add_argument("name")
    up.add_argument("--debian", choices=images.SUITES, default="13")
    up.add_argument(
        "--publish", action="append", default=[], metavar="OUTER:INNER", help="publish a port of the host on 127.0.0.1"
    )
    commands.add_parser("down", help="remove a host").add_argument("name")
    tagged = commands.add_parser("tag", help="commit the work tree to a scratch repository, and tag it")
    tagged.add_argument("repository", type=Path)
    tagged.add_argument("tag")
    tagged.add_argument("--overlay", type=Path, action="append", default=[], help="a directory to copy over it")
    commands.add_parser("demo", help="start and provision the demo's host, and deploy to it")
    commands.add_parser("demo-release", help="tag the work tree as the demo's next version")
    commands.add_parser("demo-down", help="remove the demo")
    options = parser.parse_args()
    try:
        if options.command == "images":
            container_runtime.ensure()
            for release in images.SUITES:
                print(images.ensure(release))
        elif options.command == "products":
            products.ensure(*options.names)
        elif options.command == "up":
            ports = {int(outer): int(inner) for outer, inner in (item.split(":") for item in options.publish)}
            Host(options.name, options.debian, ports).up()
        elif options.command == "tag":
            print(scratch.tag(options.repository, options.tag, *options.overlay))
        elif options.command == "down":
            Host(options.name).down()
        else:
            {"demo": demo.up, "demo-release": demo.release, "demo-down": demo.down}[options.command]()
    except container_runtime.HostError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


sys.exit(main())
