"""Write the small data files beside the shipped configs: a table, a folder of images and an archive of arrays."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tables import houses

FOLDER = Path(__file__).parents[2] / "configs" / "data"


def main(folder: Path) -> None:
    """Write all files into a folder."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    houses(rng, 400).to_csv(folder / "houses.csv", index=False, lineterminator="\n")
    for name in ("circle", "square", "triangle"):
        (folder / "shapes" / name).mkdir(parents=True, exist_ok=True)
        for number in range(60):
            shape(rng, name).save(folder / "shapes" / name / f"{number:02d}.png", optimize=True)
    x, y = waves(rng, 300)
    np.savez_compressed(folder / "waves.npz", x=x, y=y)


def shape(rng: np.random.Generator, name: str) -> Image.Image:
    """Return a gray image of 16 x 16 pixels: a shape at a random place, drawn larger and then reduced, and noise."""
    image = Image.new("L", (64, 64), int(rng.integers(150, 256)))
    radius = int(rng.integers(16, 28))
    x, y = (int(rng.integers(radius, 64 - radius)) for _ in range(2))
    draw, ink = ImageDraw.Draw(image), int(rng.integers(0, 90))
    if name == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    else:
        draw.regular_polygon((x, y, radius), 4 if name == "square" else 3, int(rng.integers(0, 90)), fill=ink)
    pixels = np.asarray(image.resize((16, 16), Image.Resampling.BOX)) + rng.normal(0, 5, (16, 16))
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def waves(rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return waves x (number, 24), sine, square or sawtooth, with random frequency, phase and noise; and their kind."""
    kind = rng.integers(0, 3, number)
    turns = np.linspace(0, 1, 24) * rng.uniform(1, 2, (number, 1)) + 0.3 * rng.random((number, 1))
    sine = np.sin(2 * np.pi * turns)
    x = np.choose(kind[:, None], [sine, np.sign(sine), 2 * (turns % 1) - 1])
    x = x * rng.uniform(0.5, 2, (number, 1)) + rng.normal(0, 0.1, x.shape)
    return x.astype(np.float32).round(3), np.array(["sine", "square", "sawtooth"])[kind]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
