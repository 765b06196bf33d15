"""Emoji as a folder of 32 x 32 pictures in colour, with their categories as classes.

    npm pack emoji-datasource-google@16.0.0
    python benchmarks/emoji.py emoji-datasource-google-16.0.0.tgz pictures

3,786 pictures of Google's emoji (Apache-2.0) in ten classes, cut from the package's sheet; no
other package of that size has labelled pictures in colour. The folder is for the task `images`:

    corelab train vae --task images --task.folder pictures
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

SIZE, BORDER = 32, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("package", type=Path, help="the .tgz that npm made")
    parser.add_argument("folder", type=Path, help="the folder to make")
    options = parser.parse_args()
    with tarfile.open(options.package) as package:

        def content(name: str) -> io.BytesIO:
            file = package.extractfile(f"package/{name}")
            assert file is not None
            return io.BytesIO(file.read())

        emoji: list[dict[str, Any]] = json.load(content("emoji.json"))
        sheet = Image.open(content(f"img/google/sheets/{SIZE}.png")).convert("RGBA")
    written = 0
    for one in emoji:
        category = one["category"].replace(" & ", "-").lower()
        folder = options.folder / category
        folder.mkdir(parents=True, exist_ok=True)
        for look in (one, *one.get("skin_variations", {}).values()):
            if look["has_img_google"]:
                x, y = (BORDER + look[f"sheet_{axis}"] * (SIZE + 2 * BORDER) for axis in "xy")
                sheet.crop((x, y, x + SIZE, y + SIZE)).save(folder / look["image"])
                written += 1
    print(f"{options.folder}: {written:,} pictures")


if __name__ == "__main__":
    main()
