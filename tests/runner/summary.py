"""The last lines of `make test`: each test that failed with its reason, and the seconds of each part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.runner.outcomes import one_line
from tests.runner.run import Result

LONGEST = 1800  # characters of all lines together: CI may keep no more than the end of what was printed
SHORTEST_REASON = 60


def lines(results: Sequence[Result], seconds: float) -> list[str]:
    """How many tests passed and failed, one line for each that failed, one for each part."""
    counts: Counter[str] = sum((result.found.counts for result in results), Counter())
    failures = [(result.part.name, failure) for result in results for failure in result.found.failures]
    width = max(len(result.part.name) for result in results)
    times = [
        *(f"{result.part.name:<{width}} {result.seconds:6.0f} s  {_words(result)}" for result in results),
        f"{'all':<{width}} {seconds:6.0f} s",
    ]
    head = f"{counts['passed']} passed, {len(failures)} failed"
    names = [f"FAILED {part}: {failure.test}: " for part, failure in failures]
    left = LONGEST - sum(len(line) + 1 for line in [head, *times, *names])
    longest = max(SHORTEST_REASON, left // max(1, len(failures)))
    failed = [name + one_line(failure.reason, longest) for name, (_, failure) in zip(names, failures, strict=True)]
    return [head, *failed, *times]


def code(results: Sequence[Result]) -> int:
    """0 when every part passed, 130 when the run was interrupted, else 1."""
    ends = {result.ended for result in results}
    if "interrupted" in ends:
        return 130
    return 0 if ends == {"passed"} else 1


def _words(result: Result) -> str:
    counted = [f"{result.found.counts[name]} {name}" for name in ("passed", "failed", "skipped")]
    told = [text for text in counted if not text.startswith("0 ")]
    return ", ".join([result.ended, *(["tests: " + ", ".join(told)] if told else [])])
