"""Compressed originals, read into memory within bounds; nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MOST_MEMBERS = 100
SPARE = 2**20  # bytes of an archive beyond the files that are wanted: headers, a README
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)


def damaged(path: Path, reason: object) -> StudyError:
    """Return the error for an original file that cannot be read."""
    return StudyError(f"{path}: damaged ({reason}); delete it and run again")


def gunzip(path: Path, most: int) -> bytes:
    """Decompress a gzip file; no more than `most` bytes, whatever it claims to hold.

    Raises:
        StudyError: if it is damaged or holds more.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from error
    if len(content) > most:
        raise damaged(path, f"unpacks to more than {most:,} bytes")
    return content


def read_members(path: Path, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Read files of a gzipped tar archive.

    Args:
        path: the archive.
        sizes: the files to read, by name: their sizes in bytes. Others are left alone.

    Raises:
        StudyError: if the archive is damaged, holds much more than these files, lacks one of this size, or
            has a member that is no plain file or folder or whose name leads out of the archive. Then no
            member is read.
    """
    content = io.BytesIO(gunzip(path, sum(sizes.values()) + SPARE))
    try:
        with tarfile.open(fileobj=content, mode="r:") as archive:
            members = list(islice(archive, MOST_MEMBERS + 1))  # a negative size leads back
            if fault := next(_faults(members, sizes), None):
                raise damaged(path, fault)
            wanted = (member for member in members if member.name in sizes)
            return {member.name: _content(archive, member) for member in wanted}
    # tarfile lets some headers through to errors of its own: hostile numbers, nested long names
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def _faults(members: Sequence[tarfile.TarInfo], sizes: Mapping[str, int]) -> Iterator[str]:
    if len(members) > MOST_MEMBERS:
        yield f"more than {MOST_MEMBERS} members"
    for member in members:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            yield f"member {member.name[:200]!r} leads out of the archive"
        if member.type not in PLAIN or member.sparse is not None:
            yield f"member {member.name[:200]!r} is neither a plain file nor a folder"
    if len({member.name for member in members}) < len(members):
        yield "two members of one name"
    found = {member.name: member.size for member in members if member.isreg()}
    for wanted, size in sizes.items():
        if found.get(wanted) != size:
            has = f"of {found[wanted]:,} bytes" if wanted in found else "missing"
            yield f"member {wanted!r} is {has}, expected {size:,} bytes"


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""
