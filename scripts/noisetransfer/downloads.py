"""Downloads that resume: a file gets its name only after its sha256 has matched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pooch
import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from noisetransfer.errors import StudyError

CHUNK = 65536  # bytes
TIMEOUT = 30.0  # seconds of silence after which a connection counts as cut
PAUSE = 1.0  # seconds between attempts when the server asks for nothing
LARGEST = 2**30  # bytes: few originals are larger, whatever a server sends
LONGEST_PAUSE = 60.0  # seconds, whatever the server asks for
HTML = "got an HTML page, not the file"


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: its name at every mirror and on disk.
        sha256: accepted hashes, in lower case: the published original's first, then those of known
            recompressions of the same content.
        most: its size in bytes or more; a server that sends more is left.
    """

    name: str
    sha256: tuple[str, ...]
    most: int = LARGEST


class _MirrorError(Exception):
    """A mirror does not have the file: go on to the next."""


class _PassingError(_MirrorError):
    """One attempt failed; the same mirror may serve the file after `pause` seconds."""

    def __init__(self, reason: str, pause: float = PAUSE) -> None:
        super().__init__(reason)
        self.pause = pause


def verify(path: Path, file: RemoteFile) -> None:
    """Raise StudyError unless `path` is the file, with one of its accepted hashes."""
    if not path.is_file():
        raise StudyError(f"{path}: missing; run again to download it, or put the original there")
    if wrong := _mismatch(path, file):
        raise StudyError(f"{path}: {wrong}; delete it and run again, or get the original")


def fetch(
    file: RemoteFile,
    mirrors: Sequence[str],
    folder: Path,
    *,
    attempts: int = 3,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Download a file, unless the folder already holds a valid one, and return its path.

    What a cut connection leaves stays in `<name>.part`; the next attempt, mirror or run resumes it.

    Args:
        file: what to download.
        mirrors: addresses that the file's name is appended to, tried in order.
        folder: where to place it; made if missing. A damaged file of this name is deleted.
        attempts: tries at each mirror; a mirror that lacks the file gets only one.
        sleep: waits that many seconds between attempts.

    Raises:
        StudyError: no mirror delivered the file; names each with its reason.
    """
    target = folder / file.name
    if target.exists() and not _mismatch(target, file):
        return target
    target.unlink(missing_ok=True)
    download = partial(_download, file, folder / f"{file.name}.part")
    reasons = []
    for mirror in mirrors:
        # No hash for pooch, which takes one a file: _download checks before pooch places the file.
        store = pooch.create(path=folder, base_url=mirror, registry={file.name: None})
        try:
            _insist(partial(store.fetch, file.name, downloader=download), attempts, sleep)
            return target
        except _MirrorError as error:
            reasons.append(f"\n  {mirror}: {error}")
    advice = "check the connection and run again, or put the original there"
    raise StudyError(f"{target}: no mirror delivered it; {advice}{''.join(reasons)}")


def _insist(action: Callable[[], object], attempts: int, sleep: Callable[[float], None]) -> None:
    for _ in range(attempts - 1):
        try:
            action()
            return
        except _PassingError as error:
            sleep(error.pause)
    action()


def _download(file: RemoteFile, part: Path, url: str, output_file: str, _pooch: object) -> None:
    have = part.stat().st_size if part.exists() else 0
    with _request(url, have) as response:
        _check_answer(response, part, have)
        resumed = response.status_code == 206
        _save(response, part, have if resumed else 0, file.most)
    if wrong := _mismatch(part, file):
        part.unlink()
        # A whole wrong file will not change, but a resumed one may be two copies in one.
        raise _PassingError(wrong) if resumed else _MirrorError(wrong)
    part.replace(output_file)


def _request(url: str, have: int) -> requests.Response:
    headers = {"User-Agent": "noisetransfer", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except (requests.RequestException, ValueError) as error:  # ValueError: redirected to no address
        raise _PassingError(f"no connection ({type(error).__name__})") from error


def _check_answer(response: requests.Response, part: Path, have: int) -> None:
    code, headers = response.status_code, response.headers
    status = f"HTTP {code} {response.reason}"
    elsewhere = not headers.get("Content-Range", "").startswith(f"bytes {have}-")
    if code == 429 or code >= 500:
        raise _PassingError(status, _pause(headers.get("Retry-After", "")))
    if code == 416 or (code == 206 and elsewhere):
        part.unlink(missing_ok=True)
        raise _PassingError(f"could not resume ({status})")
    if code not in (200, 206):
        raise _MirrorError(status)
    if "text/html" in headers.get("Content-Type", ""):  # now, before it replaces a good part
        raise _MirrorError(HTML)


def _pause(retry_after: str) -> float:
    try:
        return min(Retry().parse_retry_after(retry_after), LONGEST_PAUSE)
    except (InvalidHeader, ValueError, OverflowError):  # no number, no date, or one out of range
        return PAUSE


def _save(response: requests.Response, part: Path, start: int, most: int) -> None:
    rest = response.raw.length_remaining
    total = None if rest is None else start + rest
    bar = tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True, mininterval=1)
    with bar, part.open("ab" if start else "wb") as out:
        try:
            # Undecoded: some servers label a .gz as gzip-encoded, and requests would unpack it.
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                out.write(chunk)
                bar.update(len(chunk))
                if out.tell() > most:
                    part.unlink()
                    raise _MirrorError(f"sends more than {most:,} bytes")
        except HTTPError as error:
            raise _PassingError(f"connection cut after {out.tell():,} bytes") from error


def _mismatch(path: Path, file: RemoteFile) -> str:
    found: str = pooch.file_hash(path)
    if found in file.sha256:
        return ""
    with path.open("rb") as start:
        if start.read(CHUNK).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            return HTML
    return f"wrong sha256: expected {' or '.join(file.sha256)}, found {found}"
