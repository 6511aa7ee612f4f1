"""The code that a stage depends on: Snakemake does not see edits in imported modules."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).parent


def code(script: Path) -> list[str]:
    """Return a script and all library modules that it imports, directly or not, sorted.

    Imports inside functions count too; those for type checking alone do not.
    """
    found: set[Path] = set()
    pending = [script]
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += _imported(path)
    return sorted(str(path) for path in found)


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    tree = _without_type_checking(ast.parse(path.read_text()))
    froms = (node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    names = (name.split(".")[1] for name in froms if name and name.startswith("noisetransfer."))
    return tuple(LIBRARY.relative_to(Path.cwd()) / f"{name}.py" for name in names)


def _without_type_checking(tree: ast.Module) -> ast.Module:
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.Module(body, [])
