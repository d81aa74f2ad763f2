"""GTSRB as the archives that the harness reads: 43 classes of 32×32 pixels, cut to their signs.

    python -m benchmarks.zoo.gtsrb GT-final_test.csv --images Final_Test/Images --out DIR/gtsrb-test.zip
    python -m benchmarks.zoo.gtsrb Final_Training/Images/*/GT-*.csv --out DIR/gtsrb-train.zip

Stallkamp et al., Man vs. computer, Neural Networks 2012: 12,630 photographs to test and 39,209 to train, a line each
with the corners of the sign and its class. Corners count the pixels of the original; a photograph that was resized is
cut in proportion.
"""

import argparse
import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

SIDE = 32
DELIMITER = ";"


def sign(photograph: Image.Image, row: dict[str, str]) -> Image.Image:
    """What is inside the corners that the line names, at 32×32 pixels."""
    x, y = photograph.width / int(row["Width"]), photograph.height / int(row["Height"])
    left, upper, right, lower = (float(row[f"Roi.{corner}"]) for corner in ("X1", "Y1", "X2", "Y2"))
    box = (left * x, upper * y, right * x, lower * y)
    return photograph.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)


def pack(truths: Sequence[Path], images: Path | None, out: Path) -> int:
    """Write the archive, a folder for each class; how many images it holds.

    Photographs lie beside their table, or in the folder `images`.
    """
    count = 0
    with zipfile.ZipFile(out, "w") as archive:
        for truth in truths:
            with truth.open(newline="") as file:
                rows = list(csv.DictReader(file, delimiter=DELIMITER))
            for row in rows:
                png = io.BytesIO()
                sign(Image.open((images or truth.parent) / row["Filename"]), row).save(png, "PNG")
                name = f"{int(row['ClassId']):02}/{Path(row['Filename']).stem}.png"
                archive.writestr(zipfile.ZipInfo(name), png.getvalue())
            count += len(rows)
    return count


def main() -> None:
    """Pack what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("truths", type=Path, nargs="+", help="corners and classes, as CSV")
    parser.add_argument("--images", type=Path, help="folder of the photographs, where they lie elsewhere")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(pack(args.truths, args.images, args.out), "images")


if __name__ == "__main__":
    main()
