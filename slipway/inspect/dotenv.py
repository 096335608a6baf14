"""Files of variables: .env and its examples."""

from __future__ import annotations

import re

from slipway.inspect.tree import Tree

NAME = re.compile(
    r"^(\.env|env|\.?environment)([._-](example|sample|template|dist|defaults?|prod|production))?$"
    r"|^(example|sample|template|default|prod)[._-]?\.?env$|^\.env[._][\w-]+$"
)
EXAMPLE = re.compile(r"example|sample|template|dist|default", re.IGNORECASE)


def files(tree: Tree) -> list[str]:
    names = [name for name in tree.files if NAME.match(name.rpartition("/")[2]) and not name.endswith(".py")]
    names = [name for name in names if not re.search(r"frontend|client|(^|/)web/|node|docs/", name)]
    return sorted(names, key=lambda name: (name.count("/"), "test" in name, not EXAMPLE.search(name), name))


def committed(tree: Tree) -> list[str]:
    """Those that would be read as they are, as they are no examples."""
    return [name for name in files(tree) if not EXAMPLE.search(name.rpartition("/")[2])]


def find(tree: Tree) -> dict[str, tuple[str, str]]:
    """Name -> value and the file; the first file that has a name counts."""
    found: dict[str, tuple[str, str]] = {}
    for name in files(tree):
        for line in tree.text(name).splitlines():
            matched = re.match(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)$", line)
            if matched:
                found.setdefault(matched[1], (_value(matched[2]), name))
    return found


def _value(text: str) -> str:
    text = text.strip()
    if text[:1] in "\"'" and text[:1] and text[:1] in text[1:]:
        return text[1 : text.index(text[0], 1)]
    return re.sub(r"\s+#.*$", "", text).strip()
