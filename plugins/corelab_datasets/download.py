"""Files from the internet, checked before they are kept."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError, URLError

from corelab import DataError, StorageError
from corelab_datasets.progress import Progress


def download(url: str, target: Path, sha256: str) -> None:
    """Make TARGET the file at URL whose published checksum is SHA256.

    TARGET appears whole or not at all. `DataError` if the file cannot be had or is another one,
    `StorageError` if it cannot be written.
    """
    print(f"downloading {url}", file=sys.stderr, flush=True)
    content = _get(url)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{url}: the {len(content):,} bytes that came are not the published file "
            f"(SHA-256 {found} instead of {sha256})"
        )
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        raise StorageError(f"{target}: it cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _get(url: str) -> bytes:
    content = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            of = f" of {response.length / 1e6:.1f}" if response.length else ""
            progress = Progress(url.rpartition("/")[2])
            while chunk := response.read(1 << 16):
                content += chunk
                progress(f"{len(content) / 1e6:.1f}{of} MB")
    except HTTPError as error:
        error.close()  # it holds the connection
        raise DataError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if type(error) is URLError else error
        raise DataError(f"{url}: it cannot be downloaded ({reason})") from error
    return bytes(content)
