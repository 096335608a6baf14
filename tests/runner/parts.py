"""The parts that `make test` runs, and which of them run side by side."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One part: a command, the seconds it may take, and the containers that it starts."""

    name: str
    command: tuple[str, ...]
    seconds: float
    hosts: tuple[str, ...] = ()


Lane = tuple[Part, ...]  # its parts run one after the other
Stage = tuple[Lane, ...]  # its lanes run side by side; the next stage begins when all of them have ended


def _make(target: str, seconds: float, *hosts: str) -> Part:
    return Part(target, ("make", "--no-print-directory", target), seconds, hosts)


# A part that hangs is ended after two to four times the seconds that it takes on two processors.
PREPARE = _make("prepare", 900)
LINT = _make("lint", 600)
UNIT = _make("unit", 900)
ACCEPTANCE = _make("acceptance", 1800, "slipway-acceptance")
FAULTS = _make("faults", 2400, "slipway-faults")
MOLECULE = _make("molecule", 1200, "slipway-molecule-12", "slipway-molecule-13")

# `prepare` waits for the network while `lint` computes. `unit` uses both processors by itself. The others wait for
# their hosts most of the time, each for its own.
STAGES: tuple[Stage, ...] = (
    ((LINT,), (PREPARE,)),
    ((UNIT,),),
    ((FAULTS,), (ACCEPTANCE, MOLECULE)),
)


def stages(names: tuple[str, ...] = ()) -> tuple[Stage, ...]:
    """All stages, or only the named parts of them; ValueError names a part that does not exist.

    `prepare` comes with every part that wants what it brings: two that install packages at once disturb each other.
    """
    known = [part.name for stage in STAGES for lane in stage for part in lane]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"There is no part '{unknown[0]}'. The parts are: {', '.join(known)}.")
    if not names:
        return STAGES
    wanted = {*names, *([] if set(names) <= {LINT.name} else [PREPARE.name])}
    kept = tuple(
        tuple(lane for every in stage if (lane := tuple(part for part in every if part.name in wanted)))
        for stage in STAGES
    )
    return tuple(stage for stage in kept if stage)
