"""The code that a stage depends on: Snakemake does not see edits in imported modules."""

from __future__ import annotations

import ast
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path

LIBRARY = Path(__file__).parent

NAMES_ONLY = {"modifications": {"attacks"}}
"""Modules of which another takes the names alone: who crafts no attack does not depend on how they work."""


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
def fingerprint(paths: tuple[str, ...]) -> str:
    """Return a SHA-256 over the content of files, in the order given; read once a process."""
    digest = sha256()
    for path in paths:
        digest.update(sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    names = chain.from_iterable(map(_names, ast.walk(_without_type_checking(path))))
    own = {name.split(".")[1] for name in names if name.startswith("noisetransfer.")}
    own -= NAMES_ONLY.get(path.stem, set())
    modules = (LIBRARY.relative_to(Path.cwd()) / f"{name}.py" for name in sorted(own))
    return tuple(module for module in modules if module.is_file())


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _without_type_checking(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text())
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.Module(body, [])
