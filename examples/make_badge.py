"""Draws badge.svg and badge.png beside this file: a laurel wreath around an open book. Original work for this project.

And the same wreath around a star, which the verifier bakes credentials into that have no picture of their own.

python examples/make_badge.py
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

HERE = Path(__file__).parent
VERIFIER = HERE.parent / "services/verifier/laurel_verifier/assets"
SIZE = 400
INK, PAPER, GREEN, GOLD = "#163329", "#faf7ee", "#2e7d57", "#c9962e"
LEAF = ((0, 0), (10, -9), (26, -11), (42, 0), (26, 11), (10, 9))
BOOK = ((200, 178), (272, 160), (272, 238), (200, 256), (128, 238), (128, 160))

STAR = tuple(
    (200 + radius * math.sin(math.radians(36 * step)), 204 - radius * math.cos(math.radians(36 * step)))
    for step, radius in enumerate((62, 25) * 5)
)

Points = list[tuple[float, float]]


def leaves() -> list[Points]:
    """The corners of every leaf: two branches that rise from the bottom to both sides of the top."""
    made: list[Points] = []
    for side in (-1, 1):
        for step in range(10):
            along = math.radians(250 - 15.5 * step)  # on a circle around the middle, from the bottom up the left side
            x, y = 200 + 128 * math.cos(along), 200 - 128 * math.sin(along)
            for lean in (-34, 34):
                angle = -along + math.radians(90 + lean)
                leaf = [
                    (x + px * math.cos(angle) - py * math.sin(angle), y + px * math.sin(angle) + py * math.cos(angle))
                    for px, py in LEAF
                ]
                made.append([(px if side < 0 else 400 - px, py) for px, py in leaf])
    return made


def svg(*, book: bool = True) -> str:
    """The picture as shapes. book: False puts a star into its place."""
    title, middle = ("a star", f'<polygon points="{_text(list(STAR))}" fill="{GOLD}"/>\n')
    if book:
        title = "an open book"
        middle = f'<polygon points="{_text(list(BOOK))}" fill="{GOLD}"/>\n'
        middle += f'<path d="M200 178 V256" stroke="{INK}" stroke-width="6"/>\n'
    polygons = "\n".join(f'<polygon points="{_text(leaf)}"/>' for leaf in leaves())
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" role="img" aria-labelledby="t">\n'
        f'<title id="t">A laurel wreath around {title}</title>\n'
        f'<circle cx="200" cy="200" r="192" fill="{PAPER}" stroke="{INK}" stroke-width="12"/>\n'
        f'<g fill="{GREEN}">\n{polygons}\n</g>\n'
        f"{middle}</svg>\n"
    )


def _text(points: Points) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def png(*, book: bool = True) -> Image.Image:
    """The same in pixels: drawn four times as large and made smaller, which smooths the edges."""
    scale = 4
    image = Image.new("RGBA", (SIZE * scale, SIZE * scale), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)

    def grown(points: Points) -> Points:
        return [(x * scale, y * scale) for x, y in points]

    draw.ellipse(grown([(2, 2), (398, 398)]), fill=INK)
    draw.ellipse(grown([(14, 14), (386, 386)]), fill=PAPER)
    for leaf in leaves():
        draw.polygon(grown(leaf), fill=GREEN)
    draw.polygon(grown(list(BOOK if book else STAR)), fill=GOLD)
    if book:
        draw.line(grown([(200, 178), (200, 256)]), fill=INK, width=6 * scale)
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS).quantize(64, Image.Quantize.FASTOCTREE)


if __name__ == "__main__":
    for folder, book in ((HERE, True), (VERIFIER, False)):
        (folder / "badge.svg").write_text(svg(book=book), encoding="utf-8")
        png(book=book).save(folder / "badge.png", optimize=True)
