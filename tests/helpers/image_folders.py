"""A folder of small random images."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(root: Path) -> Path:
    """Eight images of each of two classes for training and for tests, wider than high.

    Args:
        root: Where `train` and `test` come to lie.

    Returns:
        The same folder.
    """
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for number in range(8):
                pixels = random.integers(0, 256, (9 + number % 3, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root
