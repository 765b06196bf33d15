"""CIFAR-10 as a folder of pictures, one subfolder for each class, for the task `images`.

    python benchmarks/cifar10.py cifar-10-binary.tar.gz cifar10

The archive is the "binary version" of https://www.cs.toronto.edu/~kriz/cifar.html, which is
downloaded by hand: six files of 10,000 records, a byte for the class and 3 x 32 x 32 bytes for the
picture, and a list of the classes. All 60,000 pictures are written, as PNG files.
"""

from __future__ import annotations

import argparse
import math
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SHAPE = (3, 32, 32)


def unpack(archive: Path, folder: Path) -> int:
    """Write the pictures of ARCHIVE into FOLDER; return how many there are."""
    with tarfile.open(archive) as tar:
        files = {Path(m.name).name: f.read() for m in tar if (f := tar.extractfile(m))}
    classes = files["batches.meta.txt"].decode().split()
    count = 0
    for name in sorted(name for name in files if name.endswith(".bin")):
        records = np.frombuffer(files[name], np.uint8).reshape(-1, 1 + math.prod(SHAPE))
        for i, record in enumerate(records):
            place = folder / classes[record[0]] / f"{Path(name).stem}-{i:05}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(record[1:].reshape(SHAPE).transpose(1, 2, 0)).save(place)
        count += len(records)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("archive", type=Path, help="cifar-10-binary.tar.gz")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    options = parser.parse_args()
    try:
        print(f"{unpack(options.archive, options.folder):,} pictures in {options.folder}")
    except (OSError, tarfile.TarError, KeyError, ValueError, IndexError) as error:
        sys.exit(f"{options.archive}: it is not the binary version of CIFAR-10 ({error})")


if __name__ == "__main__":
    main()
