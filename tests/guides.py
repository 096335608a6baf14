"""What the guides in docs/ tell people to type, and the files that they tell them to write."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hosts import scratch

PAGES = ("your-app", "migrating")


@dataclass(frozen=True)
class Block:
    """An indented block of a page: a file, where the sentence before it ends with a path, and commands elsewhere."""

    heading: str
    file: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands, without their comments; none of a file."""
        if self.file:
            return []
        lines = self.text.replace("\\\n", "").splitlines()
        return [re.sub(r"\s+# .*$", "", line).strip() for line in lines if line.strip()]


def blocks(page: str) -> list[Block]:
    """The blocks of docs/PAGE.md, in their order."""
    text = (scratch.PROJECT / f"docs/{page}.md").read_text()
    found, heading, before = [], "", ""
    for paragraph in re.split(r"\n\n(?=\S|    \S)", text):
        if paragraph.startswith("#"):
            heading = paragraph.lstrip("# ").strip()
        elif paragraph.startswith("    "):
            named = re.search(r"`([\w./-]+\.yml)`[^`]*:\Z", before)
            lines = [line[4:] for line in paragraph.rstrip().splitlines()]
            found.append(Block(heading, named[1] if named else "", "\n".join(lines) + "\n"))
        before = paragraph
    return found


def commands(page: str) -> list[str]:
    return [command for block in blocks(page) for command in block.commands]
