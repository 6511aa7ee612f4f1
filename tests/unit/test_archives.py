"""Archives that attack or are damaged: one message that names the archive, in bounded memory."""

import gzip
import io
import random
import struct
import tarfile
import tracemalloc
from contextlib import suppress

import pytest

from noisetransfer.archives import (
    MOST_MEMBERS,
    SPARE,
    MemberBounds,
    gunzip,
    list_members,
    locate_member,
    read_members,
    stream_members,
)
from noisetransfer.errors import StudyError

CONTENT = {"data/one.bin": bytes(range(256)) * 5, "data/two.bin": b"two"}
SIZES = {name: len(content) for name, content in CONTENT.items()}


def member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


FILES = [member(name, content) for name, content in CONTENT.items()]


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.tar.gz"


def refusal(path, content: bytes) -> str:
    """Return the message that reading a tar archive of this content gives."""
    path.write_bytes(gzip.compress(content, 1))
    with pytest.raises(StudyError) as caught:
        read_members(path, SIZES)
    assert list(path.parent.iterdir()) == [path]
    head, tail = f"{path}: damaged (", "); delete it and run again"
    message = str(caught.value)
    assert message.startswith(head)
    assert message.endswith(tail)
    return message.removeprefix(head).removesuffix(tail)


def test_wanted_files_are_read_and_nothing_is_written(path):
    folder, readme = member("data", type=tarfile.DIRTYPE), member("data/readme.html", b"<html>")
    path.write_bytes(gzip.compress(tar(folder, FILES[1], readme, FILES[0])))
    assert read_members(path, SIZES) == CONTENT
    assert list(path.parent.iterdir()) == [path]


ESCAPES = ["/etc/passwd", "//etc/passwd", "../x", "data/../../x", "data/..", ".."]
TYPES = {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "sparse file": tarfile.GNUTYPE_SPARSE,
    "unknown": b"Z",
}


@pytest.fixture
def unread(monkeypatch):
    """Whatever reads a member fails."""
    monkeypatch.setattr(tarfile.TarFile, "extractfile", None)


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("name", ESCAPES)
def test_name_that_leads_out_of_the_archive(path, unread, name, position):
    members = list(FILES)
    members.insert(position, member(name, b"x"))
    assert refusal(path, tar(*members)) == f"member {name!r} leads out of the archive"


@pytest.mark.parametrize("name", ["data/more.bin", "data/one.bin"])
@pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)
def test_member_that_is_no_plain_file(path, unread, type, name):
    hostile = member(name, type=type, linkname="/etc/passwd")
    reason = f"member {name!r} is neither a plain file nor a folder"
    assert refusal(path, tar(*FILES, hostile)) == reason


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (FILES[:1], "'data/two.bin' is missing, expected 3 bytes"),
        (
            [FILES[0], member("data/two.bin", b"2")],
            "'data/two.bin' is of 1 bytes, expected 3 bytes",
        ),
        ([FILES[0], member("data/two.bin", b"four")], "is of 4 bytes, expected 3 bytes"),
        ([FILES[0], member("./data/two.bin", b"two")], "'data/two.bin' is missing"),
        ([FILES[0], member("data/two.bin", type=tarfile.DIRTYPE)], "'data/two.bin' is missing"),
    ],
    ids=["missing", "short", "long", "other name", "folder"],
)
def test_file_that_is_not_as_expected(path, unread, members, reason):
    assert reason in refusal(path, tar(*members))


def test_two_members_of_one_name(path, unread):
    assert refusal(path, tar(*FILES, FILES[0])) == "two members of one name"


def test_sparse_member_of_the_newer_kind(path, unread):
    """A plain file by its type, whose header claims 50 MB for three bytes."""
    sparse = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,3"}
    headers = {**sparse, "GNU.sparse.name": "data/more.bin", "GNU.sparse.size": str(50 * 10**6)}
    reason = refusal(path, tar(*FILES, member("x", b"abc", pax_headers=headers)))
    assert reason == "member 'data/more.bin' is neither a plain file nor a folder"


def test_members_without_number(path, unread):
    empty = [member(f"data/{i}") for i in range(MOST_MEMBERS - len(FILES) + 1)]
    path.write_bytes(gzip.compress(tar(*FILES, *empty)))
    assert refusal(path, tar(*FILES, *empty)) == f"more than {MOST_MEMBERS} members"


def resized(size: int, type: bytes = tarfile.REGTYPE) -> bytes:
    """Return the header of a member that claims any size, negative ones included."""
    header = bytearray(tarfile.TarInfo("data/one.bin").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[124] |= 0x80  # a binary number follows
    header[156:157] = type
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


HEADERS = {
    "10 GB": resized(10**10),
    "negative size": resized(-1024),
    "members in a circle": resized(0) * 2 + resized(-1024),
    "long names within long names": resized(0, tarfile.GNUTYPE_LONGNAME) * 2000,
    "10 GB of a long name": resized(10**10, tarfile.GNUTYPE_LONGNAME),
    "10 GB of attributes": resized(10**10, tarfile.XHDTYPE),
    "attributes that are no numbers": tar(member("x", pax_headers={"GNU.sparse.size": "much"})),
    "empty": b"",
    "no archive": b"<html>Please log in.</html>" * 100,
    "cut": tar(*FILES)[:1000],
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_hostile_header(path, unread, content):
    assert refusal(path, content)


def test_random_damage_gives_the_content_or_an_error(path):
    good, generator = tar(*FILES, member("x" * 200, pax_headers={"comment": "y"})), random.Random(0)
    assert read_back(path, good)
    refused = 0
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(generator.randrange(1, 20)):
            bad[generator.randrange(len(bad))] = generator.randrange(256)
        refused += not read_back(path, bytes(bad))
    assert refused > 50


def read_back(path, content: bytes) -> bool:
    path.write_bytes(gzip.compress(content, 1))
    try:
        found = read_members(path, SIZES)
    except StudyError:
        return False
    return {name: len(content) for name, content in found.items()} == SIZES


def peak(action) -> int:
    """Return the bytes that an action that is refused took at most."""
    tracemalloc.start()
    try:
        with pytest.raises(StudyError, match="more than"):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BOMB = gzip.compress(bytes(20_000_000)) * 10  # 200 kB that hold 200 MB


def test_gzip_bomb_is_not_unpacked(path):
    path.write_bytes(BOMB)
    assert peak(lambda: gunzip(path, 1_000_000)) < 4_000_000
    assert peak(lambda: read_members(path, SIZES)) < 4 * SPARE


def test_gzip_file_is_read_up_to_its_bound(path):
    path.write_bytes(gzip.compress(b"12345"))
    assert gunzip(path, 5) == b"12345"
    with pytest.raises(StudyError, match=r"data.tar.gz: damaged \(unpacks to more than 4 bytes\)"):
        gunzip(path, 4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-4],
        lambda packed: packed[:-8] + struct.pack("<II", 0, 5),
        lambda packed: packed[:12] + b"\xff" * 8,
        lambda packed: b"plain text",
    ],
    ids=["end missing", "wrong checksum", "rubbish", "no gzip"],
)
def test_damaged_gzip_file_is_named(path, damage):
    path.write_bytes(damage(gzip.compress(b"12345")))
    with pytest.raises(StudyError, match="delete it and run again") as caught:
        gunzip(path, 5)
    assert str(caught.value).startswith(f"{path}: damaged (")


def test_archive_that_is_not_there_is_named(path):
    with pytest.raises(StudyError, match=str(path)):
        read_members(path, SIZES)


# streamed


BOUNDS = MemberBounds(members=10, each=2000, total=20_000)


def packed_at(path, content: bytes):
    path.write_bytes(gzip.compress(content, 1))
    return path


def streamed(path) -> dict[str, bytes]:
    return {name: file.read() for name, file in stream_members(path, set(SIZES), BOUNDS)}


def test_members_are_listed_and_streamed_in_their_order(path):
    folder, readme = member("data", type=tarfile.DIRTYPE), member("data/readme.html", b"<html>")
    packed_at(path, tar(folder, FILES[1], readme, FILES[0]))
    assert list_members(path, BOUNDS) == ["data/two.bin", "data/readme.html", "data/one.bin"]
    assert list(streamed(path)) == ["data/two.bin", "data/one.bin"]
    assert streamed(path) == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_stream_leaves_out_what_the_archive_lacks(path):
    packed_at(path, tar(FILES[0]))
    assert list(streamed(path)) == ["data/one.bin"]


HOSTILE = {
    "name": ([*FILES, member("../x", b"x")], "member '../x' leads out of the archive"),
    "link": (
        [*FILES, member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        "member 'x' is neither a plain file nor a folder",
    ),
    "large": ([*FILES, member("x", bytes(2001))], "member 'x' is of 2,001 bytes"),
    "many": ([*FILES, *(member(f"{i}") for i in range(9))], "more than 10 members"),
    "total": ([member(f"{i}", bytes(2000)) for i in range(9)], "unpacks to more than 20,000 bytes"),
}


@pytest.mark.parametrize("read", [lambda path: list_members(path, BOUNDS), streamed])
@pytest.mark.parametrize(("members", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archive_is_not_streamed(path, members, reason, read):
    packed_at(path, tar(*members))
    with pytest.raises(StudyError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: damaged ({reason}); delete it and run again"


def test_two_members_of_one_name_are_not_listed(path):
    packed_at(path, tar(*FILES, FILES[0]))
    with pytest.raises(StudyError, match="two members of one name"):
        list_members(path, BOUNDS)


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_hostile_header_is_not_listed(path, content):
    packed_at(path, content)
    with suppress(StudyError):  # it may also end before the damage
        assert len(list_members(path, BOUNDS)) <= 1


def test_bomb_is_not_streamed(path):
    path.write_bytes(gzip.compress(resized(10**10, tarfile.XHDTYPE) + bytes(20_000_000)) + BOMB)
    assert peak(lambda: list_members(path, MemberBounds(10, 1000, 1_000_000))) < 5_000_000


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_cut_archive_is_not_listed(path, keep):
    content = gzip.compress(tar(member("data/x", random.Random(0).randbytes(1500)), *FILES))
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(StudyError, match=f"{path}: damaged .*end-of-stream"):
        list_members(path, BOUNDS)


@pytest.mark.parametrize("read", [lambda path: list_members(path, BOUNDS), streamed])
def test_archive_that_is_not_there_is_not_streamed(path, read):
    with pytest.raises(StudyError, match=f"{path}: damaged .*No such file"):
        read(path)


# located


def test_member_of_a_plain_archive_is_located(path):
    content = tar(member("data", type=tarfile.DIRTYPE), *FILES)
    path.write_bytes(content)
    for name, expected in CONTENT.items():
        offset, size = locate_member(path, name)
        assert content[offset : offset + size] == expected
    assert locate_member(path, "data/three.bin") is None
    assert locate_member(path, "data") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tar(*FILES, member("../x", b"x")), "member '../x' leads out of the archive"),
        (tar(*FILES, FILES[0]), "two members of one name"),
        (tar(*(member(f"{i}") for i in range(MOST_MEMBERS + 1))), "more than 100 members"),
        (b"<html>Please log in.</html>" * 100, "invalid header"),
        (gzip.compress(tar(*FILES)), "truncated header"),
        (b"", "empty file"),
    ],
    ids=["name", "twice", "many", "HTML", "gzip", "empty"],
)
def test_member_of_a_damaged_archive_is_not_located(path, content, reason):
    path.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        locate_member(path, "data/one.bin")
    assert str(caught.value).startswith(f"{path}: damaged (")
    assert reason in str(caught.value)
