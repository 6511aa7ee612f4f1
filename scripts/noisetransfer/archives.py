"""Archives of originals, read within bounds of memory; nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

from noisetransfer.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
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
    with _reading(path), tarfile.open(fileobj=content, mode="r:") as archive:
        members = list(islice(archive, MOST_MEMBERS + 1))  # a negative size leads back
        if fault := next(_faults(members, sizes), None):
            raise damaged(path, fault)
        wanted = (member for member in members if member.name in sizes)
        return {member.name: _content(archive, member) for member in wanted}


@dataclass(frozen=True)
class MemberBounds:
    """What an archive that is streamed may hold at most.

    Attributes:
        members: their number.
        each: bytes of one.
        total: bytes of all that the archive unpacks to.
    """

    members: int
    each: int
    total: int


def list_members(path: Path, bounds: MemberBounds) -> list[str]:
    """Return the names of the plain files of a gzipped tar archive, in its order.

    Raises:
        StudyError: if the archive is damaged, exceeds a bound, holds two members of one name, or one that is
            no plain file or folder or whose name leads out of the archive.
    """
    with _streamed(path, bounds) as (_, members):
        names = [member.name for member in members if member.isreg()]
    if len(set(names)) < len(names):
        raise damaged(path, "two members of one name")
    return names


def stream_members(
    path: Path, names: Collection[str], bounds: MemberBounds
) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield files of a gzipped tar archive, one after the other, each with its content, in its order.

    Args:
        path: the archive.
        names: the files; those that it lacks are left out.
        bounds: what the archive may hold.

    Raises:
        StudyError: as `list_members`.
    """
    with _streamed(path, bounds) as (archive, members):
        for member in members:
            if member.name in names:
                yield member.name, io.BytesIO(_content(archive, member))


@contextmanager
def _streamed(
    path: Path, bounds: MemberBounds
) -> Iterator[tuple[tarfile.TarFile, Iterator[tarfile.TarInfo]]]:
    """Open a gzipped tar archive that is read once, from its start to its end."""
    with (
        _reading(path),
        _Bounded(path, bounds.total) as packed,
        tarfile.open(fileobj=packed, mode="r|") as archive,
    ):
        yield archive, _checked(path, archive, bounds)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what reading a damaged archive raises into a StudyError."""
    # tarfile lets some headers through to errors of its own: hostile numbers, nested long names
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


class _Bounded(gzip.GzipFile):
    """A gzip file that unpacks to no more than `most` bytes."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path, "rb")
        self.most, self.left = most, most

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes; no more than one too many is ever unpacked."""
        rest = self.left + 1
        content = super().read(rest if size is None or size < 0 else min(size, rest))
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"unpacks to more than {self.most:,} bytes")
        return content


def _checked(
    path: Path, archive: tarfile.TarFile, bounds: MemberBounds
) -> Iterator[tarfile.TarInfo]:
    for number, member in enumerate(archive):
        if number == bounds.members:
            raise damaged(path, f"more than {bounds.members:,} members")
        if fault := next(_faults_of(member), None):
            raise damaged(path, fault)
        if member.size > bounds.each:
            raise damaged(path, f"member {member.name[:200]!r} is of {member.size:,} bytes")
        yield member


def locate_member(path: Path, name: str) -> tuple[int, int] | None:
    """Return the offset and the size, in bytes, of a file in a tar archive that is not compressed.

    Args:
        path: the archive.
        name: of the file.

    Returns:
        None if the archive lacks it.

    Raises:
        StudyError: if the archive is damaged, or as `read_members` for its other members.
    """
    with _reading(path), tarfile.open(path, mode="r:") as archive:
        members = list(islice(archive, MOST_MEMBERS + 1))
        if fault := next(_faults(members, {}), None):
            raise damaged(path, fault)
        wanted = (m for m in members if m.name == name and m.isreg())
        return next(((m.offset_data, m.size) for m in wanted), None)


def _faults(members: Sequence[tarfile.TarInfo], sizes: Mapping[str, int]) -> Iterator[str]:
    if len(members) > MOST_MEMBERS:
        yield f"more than {MOST_MEMBERS} members"
    for member in members:
        yield from _faults_of(member)
    if len({member.name for member in members}) < len(members):
        yield "two members of one name"
    found = {member.name: member.size for member in members if member.isreg()}
    for wanted, size in sizes.items():
        if found.get(wanted) != size:
            has = f"of {found[wanted]:,} bytes" if wanted in found else "missing"
            yield f"member {wanted!r} is {has}, expected {size:,} bytes"


def _faults_of(member: tarfile.TarInfo) -> Iterator[str]:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        yield f"member {member.name[:200]!r} leads out of the archive"
    if member.type not in PLAIN or member.sparse is not None:
        yield f"member {member.name[:200]!r} is neither a plain file nor a folder"


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""
