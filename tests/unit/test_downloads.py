"""Downloads against a local server that misbehaves as told."""

from __future__ import annotations

import gzip
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from noisetransfer import downloads
from noisetransfer.downloads import RemoteFile, fetch, verify
from noisetransfer.errors import StudyError

DATA = random.Random(0).randbytes(300_000)
OTHER = DATA[::-1]
PAGE = b"\n<!DOCTYPE html><html><body>Please log in.</body></html>"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


FILE = RemoteFile("data.gz", (sha256(DATA),))

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        answer = self.server.answers.pop(0) if self.server.answers else status(500)
        answer(self)

    def reply(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.server.served += len(body)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str | None]] = []  # path, Range header
        self.served = 0  # bytes


def whole(data: bytes = DATA, **headers: str) -> Answer:
    """The whole file, whatever the Range."""
    return lambda handler: handler.reply(200, data, **headers)


def cut(length: int) -> Answer:
    """The first bytes, then a closed connection."""
    return lambda handler: handler.reply(200, DATA[:length], Content_Length=str(len(DATA)))


def status(code: int, **headers: str) -> Answer:
    return lambda handler: handler.reply(code, b"", **headers)


def resume(handler: Handler) -> None:
    start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    where = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    handler.reply(206, DATA[start:], Content_Range=where)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Client:
    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.waits: list[float] = []

    @property
    def part(self) -> Path:
        return self.folder / "data.gz.part"

    def get(self, *answers: Answer, file: RemoteFile = FILE, attempts: int = 3) -> Path:
        """Fetch from two mirrors of the server, which gives these answers, then only HTTP 500."""
        self.server.answers[:] = answers
        mirrors = [self.server.url + "first/", self.server.url + "second/"]
        return fetch(file, mirrors, self.folder, attempts=attempts, sleep=self.waits.append)

    def ranges(self) -> list[str | None]:
        return [header for _, header in self.server.asked]

    def paths(self) -> list[str]:
        return [path for path, _ in self.server.asked]

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Client:
    return Client(server, tmp_path)


def test_right_file_is_placed_and_nothing_else(client: Client) -> None:
    path = client.get(whole())
    assert path == client.folder / "data.gz"
    assert path.read_bytes() == DATA
    assert client.names() == ["data.gz"]
    assert client.server.asked == [("/first/data.gz", None)]


def test_folder_is_made(server: Server, tmp_path: Path) -> None:
    client = Client(server, tmp_path / "new" / "folder")
    assert client.get(whole()).read_bytes() == DATA


def test_known_recompression_is_accepted(client: Client) -> None:
    file = RemoteFile("data.gz", (sha256(DATA), sha256(OTHER)))
    assert client.get(whole(OTHER), file=file).read_bytes() == OTHER


def test_gz_labelled_as_gzip_encoded_is_kept_packed(client: Client) -> None:
    packed = gzip.compress(b"images")
    file = RemoteFile("data.gz", (sha256(packed),))
    path = client.get(whole(packed, Content_Encoding="gzip"), file=file)
    assert path.read_bytes() == packed


def test_progress_goes_to_stderr(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    client.get(whole())
    shown = capfd.readouterr()
    assert "data.gz: 100%" in shown.err
    assert shown.out == ""


def test_wrong_checksum_is_not_kept_nor_asked_again(client: Client) -> None:
    with pytest.raises(StudyError) as caught:
        client.get(whole(OTHER), whole(OTHER))
    message = f"wrong sha256: expected {sha256(DATA)}, found {sha256(OTHER)}"
    assert str(caught.value).count(message) == 2
    assert client.names() == []
    assert client.paths() == ["/first/data.gz", "/second/data.gz"]


def test_after_a_wrong_file_the_next_mirror_starts_clean(client: Client) -> None:
    assert client.get(whole(OTHER), whole()).read_bytes() == DATA
    assert client.ranges() == [None, None]


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_html_page_is_named_as_such(client: Client, kind: str) -> None:
    page = whole(PAGE, Content_Type=kind)
    with pytest.raises(StudyError) as caught:
        client.get(page, page)
    assert str(caught.value).count("got an HTML page, not the file") == 2
    assert client.names() == []
    assert len(client.server.asked) == 2


def test_html_page_does_not_cost_the_part(client: Client) -> None:
    client.part.write_bytes(DATA[:1000])
    path = client.get(whole(PAGE, Content_Type="text/html"), resume)
    assert path.read_bytes() == DATA
    assert client.ranges() == ["bytes=1000-", "bytes=1000-"]


def test_cut_connection_is_resumed(client: Client) -> None:
    assert client.get(cut(200_000), resume).read_bytes() == DATA
    assert client.ranges() == [None, "bytes=200000-"]
    assert client.server.served == len(DATA)
    assert client.paths() == ["/first/data.gz"] * 2
    assert client.names() == ["data.gz"]


def test_cut_connection_is_resumed_by_the_next_mirror(client: Client) -> None:
    assert client.get(cut(200_000), resume, attempts=1).read_bytes() == DATA
    assert client.server.asked[1] == ("/second/data.gz", "bytes=200000-")


def test_failed_download_leaves_only_a_part_that_the_next_run_resumes(client: Client) -> None:
    with pytest.raises(StudyError, match="HTTP 500"):
        client.get(cut(200_000))
    assert client.names() == ["data.gz.part"]
    assert client.get(resume).read_bytes() == DATA
    assert client.ranges()[-1] == "bytes=200000-"


def test_interrupted_download_leaves_no_final_file(client: Client) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    client.server.answers[:] = [cut(200_000)]
    with pytest.raises(KeyboardInterrupt):
        fetch(FILE, [client.server.url], client.folder, sleep=stop)
    assert client.names() == ["data.gz.part"]


def test_server_that_ignores_range_starts_again(client: Client) -> None:
    client.part.write_bytes(DATA[:1000])
    assert client.get(whole()).read_bytes() == DATA
    assert client.ranges() == ["bytes=1000-"]


@pytest.mark.parametrize("start", ["bytes 0", "bytes 1", "bytes 10000", "pages 1000", ""])
def test_server_that_resumes_at_the_wrong_place_is_not_believed(client: Client, start: str) -> None:
    client.part.write_bytes(DATA[:1000])
    misplaced = status(206, Content_Range=f"{start}-{len(DATA) - 1}/{len(DATA)}")
    with pytest.raises(StudyError, match="first/: could not resume"):
        client.get(misplaced, status(404), attempts=1)
    assert client.ranges() == ["bytes=1000-", None]


def test_server_that_sends_less_than_the_rest_is_asked_for_the_whole(client: Client) -> None:
    client.part.write_bytes(DATA[:1000])
    some = {"Content_Range": f"bytes 1000-1999/{len(DATA)}"}
    less: Answer = lambda handler: handler.reply(206, DATA[1000:2000], **some)  # noqa: E731
    assert client.get(less, whole()).read_bytes() == DATA
    assert client.paths() == ["/first/data.gz"] * 2
    assert client.ranges() == ["bytes=1000-", None]


def test_download_cut_twice_goes_on_where_it_was(client: Client) -> None:
    def cut_again(handler: Handler) -> None:
        where = {"Content_Range": f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"}
        handler.reply(206, DATA[1000:5000], Content_Length=str(len(DATA) - 1000), **where)

    assert client.get(cut(1000), cut_again, resume).read_bytes() == DATA
    assert client.ranges() == [None, "bytes=1000-", "bytes=5000-"]


def test_416_drops_the_part(client: Client) -> None:
    client.part.write_bytes(DATA + b"too long")
    assert client.get(status(416), whole()).read_bytes() == DATA
    assert client.ranges() == [f"bytes={len(DATA) + 8}-", None]


def test_resumed_file_with_a_wrong_hash_is_dropped(client: Client) -> None:
    client.part.write_bytes(OTHER[:1000])
    assert client.get(resume, whole()).read_bytes() == DATA
    assert client.server.asked == [("/first/data.gz", "bytes=1000-"), ("/first/data.gz", None)]


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("3600", 60), ("soon", 1), ("-7", 1)])
def test_busy_server_is_given_the_time_it_asks_for(
    client: Client, code: int, asked: str, waited: float
) -> None:
    assert client.get(status(code, Retry_After=asked), whole()).read_bytes() == DATA
    assert client.waits == [waited]
    assert client.paths() == ["/first/data.gz"] * 2


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("ahead", "least", "most"), [(20, 10, 20), (3600, 60, 60), (-20, 0, 0)])
def test_retry_after_may_be_a_date(
    client: Client, code: int, ahead: int, least: float, most: float
) -> None:
    date = formatdate(time.time() + ahead, usegmt=True)
    assert client.get(status(code, Retry_After=date), whole()).read_bytes() == DATA
    assert least <= client.waits[0] <= most


@pytest.mark.parametrize(
    "asked",
    ["Fri, 31 Dec 99999 23:59:59 GMT", f"Fri, 31 Dec {'9' * 20} 23:59:59 GMT", "9" * 5000],
    ids=["year 99999", "year of 20 digits", "5000 digits"],
)
def test_retry_after_out_of_range_is_ignored(client: Client, asked: str) -> None:
    assert client.get(status(503, Retry_After=asked), whole()).read_bytes() == DATA
    assert client.waits == [1]


@pytest.mark.parametrize("sent", [0, downloads.CHUNK])
@pytest.mark.parametrize(("attempts", "then"), [(2, "first"), (1, "second")])
def test_silent_server_is_left(
    client: Client, monkeypatch: pytest.MonkeyPatch, sent: int, attempts: int, then: str
) -> None:
    left, waited = threading.Event(), []

    def stall(handler: Handler) -> None:
        if sent:
            cut(sent)(handler)
        waited.append(left.wait(5))

    monkeypatch.setattr(downloads, "TIMEOUT", 0.3)
    path = client.get(stall, resume if sent else whole(), attempts=attempts)
    assert waited == []  # the first connection is still open
    left.set()
    assert path.read_bytes() == DATA
    assert client.ranges() == [None, f"bytes={sent}-" if sent else None]
    assert client.paths() == ["/first/data.gz", f"/{then}/data.gz"]


def test_missing_file_sends_to_the_next_mirror_at_once(client: Client) -> None:
    assert client.get(status(404), whole()).read_bytes() == DATA
    assert client.paths() == ["/first/data.gz", "/second/data.gz"]
    assert client.waits == []


@pytest.fixture
def closed() -> str:
    """The address of a port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return f"http://127.0.0.1:{unused.getsockname()[1]}/"


def test_mirror_that_refuses_connections_sends_to_the_next(client: Client, closed: str) -> None:
    client.server.answers[:] = [whole()]
    mirrors = [closed, client.server.url]
    path = fetch(FILE, mirrors, client.folder, sleep=client.waits.append)
    assert path.read_bytes() == DATA
    assert client.waits == [1, 1]


def test_mirror_without_an_address_sends_to_the_next(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, asked = socket.getaddrinfo, []

    def look_up(host: str, *options: Any, **more: Any) -> Any:
        asked.append(host)
        if host == "gone.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return find(host, *options, **more)

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    client.server.answers[:] = [whole(), status(404)]
    mirrors = ["http://gone.invalid/", client.server.url]
    assert fetch(FILE, mirrors, client.folder, attempts=1).read_bytes() == DATA
    assert asked == ["gone.invalid", "127.0.0.1"]
    with pytest.raises(StudyError, match=r"http://gone\.invalid/: no connection"):
        fetch(FILE, mirrors, client.folder / "other", attempts=1)


@pytest.mark.parametrize("address", ["http://[", "http://a..b/", "http://\x80/", "file:///data.gz"])
def test_mirror_that_redirects_to_no_address_sends_to_the_next(
    client: Client, address: str
) -> None:
    path = client.get(status(302, Location=address), whole(), attempts=1)
    assert path.read_bytes() == DATA
    assert client.paths() == ["/first/data.gz", "/second/data.gz"]


def test_empty_file_is_not_kept(client: Client) -> None:
    with pytest.raises(StudyError) as caught:
        client.get(whole(b""), whole(b""))
    assert str(caught.value).count(f"found {sha256(b'')}") == 2
    assert client.names() == []
    assert client.get(whole(b""), whole()).read_bytes() == DATA


@pytest.mark.parametrize("name", ["data.gz", "data.gz.part"])
def test_empty_file_on_disk_is_not_taken(client: Client, name: str) -> None:
    (client.folder / name).touch()
    assert client.get(whole()).read_bytes() == DATA
    assert client.ranges() == [None]


@pytest.mark.parametrize("data", [DATA, OTHER], ids=["right", "wrong"])
def test_file_has_no_name_before_its_hash_matches(
    client: Client, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    named = []

    def look(*_: object) -> None:
        named.append((client.folder / "data.gz").exists())

    def slowly(handler: Handler) -> None:
        handler.reply(200, data[:200_000], Content_Length=str(len(data)))
        for _ in range(500):
            if client.part.exists() and client.part.stat().st_size:
                break
            time.sleep(0.01)
        look()
        handler.wfile.write(data[200_000:])

    def hashed(path: Path) -> str:
        look()
        return sha256(path.read_bytes())

    monkeypatch.setattr(downloads.pooch, "file_hash", hashed)
    with nullcontext() if data == DATA else pytest.raises(StudyError):
        client.get(slowly, attempts=1)
    assert named[:2] == [False, False]
    assert not any(named)
    assert client.names() == (["data.gz"] if data == DATA else [])


def test_all_mirrors_dead_names_each_with_its_reason(
    server: Server, tmp_path: Path, closed: str
) -> None:
    server.answers[:] = [status(404), status(503), cut(2000)]
    mirrors = [closed, *(server.url + name for name in ("a/", "b/", "c/"))]
    with pytest.raises(StudyError) as caught:
        fetch(FILE, mirrors, tmp_path, attempts=1)
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'data.gz'}: no mirror delivered it; "
        "check the connection and run again, or put the original there",
        f"  {closed}: no connection (ConnectionError)",
        f"  {server.url}a/: HTTP 404 Not Found",
        f"  {server.url}b/: HTTP 503 Service Unavailable",
        f"  {server.url}c/: connection cut after 2,000 bytes",
    ]


def test_attempts_and_waits_are_counted(client: Client) -> None:
    with pytest.raises(StudyError):
        client.get(attempts=3)
    assert client.paths() == ["/first/data.gz"] * 3 + ["/second/data.gz"] * 3
    assert client.waits == [1] * 4


def test_valid_file_is_not_requested_again(client: Client) -> None:
    path = client.folder / "data.gz"
    path.write_bytes(DATA)
    assert client.get(whole()) == path
    assert client.server.asked == []


def test_damaged_file_is_replaced(client: Client) -> None:
    path = client.folder / "data.gz"
    path.write_bytes(DATA[:-1])
    assert client.get(whole()).read_bytes() == DATA


def test_damaged_file_does_not_outlive_a_failed_download(client: Client) -> None:
    (client.folder / "data.gz").write_bytes(DATA[:-1])
    with pytest.raises(StudyError):
        client.get(status(404), status(404))
    assert client.names() == []


def test_a_server_that_never_ends_is_left(client: Client) -> None:
    file = RemoteFile("data.gz", FILE.sha256, most=200_000)
    with pytest.raises(StudyError, match="sends more than 200,000 bytes"):
        client.get(whole(), whole(), file=file)
    assert client.paths() == ["/first/data.gz", "/second/data.gz"]
    assert client.names() == []


def test_the_bound_is_that_of_the_file(client: Client) -> None:
    exact = RemoteFile("data.gz", FILE.sha256, most=len(DATA))
    assert client.get(cut(200_000), resume, file=exact).read_bytes() == DATA
    assert FILE.most == downloads.LARGEST == 2**30


def test_verify_accepts_each_known_hash(tmp_path: Path) -> None:
    file = RemoteFile("data.gz", (sha256(DATA), sha256(OTHER)))
    for data in (DATA, OTHER):
        (tmp_path / "data.gz").write_bytes(data)
        verify(tmp_path / "data.gz", file)


def test_verify_names_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "data.gz"
    with pytest.raises(StudyError, match=f"^{path}: missing; run again"):
        verify(path, FILE)


def test_verify_shows_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "data.gz"
    path.write_bytes(OTHER)
    with pytest.raises(StudyError) as caught:
        verify(path, FILE)
    assert str(caught.value) == (
        f"{path}: wrong sha256: expected {sha256(DATA)}, found {sha256(OTHER)}; "
        "delete it and run again, or get the original"
    )


def test_verify_knows_an_html_page(tmp_path: Path) -> None:
    path = tmp_path / "data.gz"
    path.write_bytes(PAGE)
    with pytest.raises(StudyError, match="got an HTML page, not the file; delete it"):
        verify(path, FILE)
