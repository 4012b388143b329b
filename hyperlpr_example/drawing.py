"""One plate drawn as a camera would see it: ink by the layout, colour, skew, perspective, blur, light and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from hyperlpr_example.layout import CELL_HEIGHT_MM, DOT_MM, HEIGHT_MM, layout_of
from hyperlpr_example.plates import PLATE_HEIGHT, PLATE_WIDTH

if TYPE_CHECKING:
    from hyperlpr_example.fonts import Face, Faces

_GLYPH_PX = 120
_FINER = 1.5  # masks are turned at this multiple of the picture's size: finer costs time, coarser eats thin strokes
_TOP_MM = (HEIGHT_MM - CELL_HEIGHT_MM) // 2
# Ground and ink of each kind in RGB, as new in daylight.
_COLOURS = {
    "blue": ((20, 60, 170), (245, 245, 245)),
    "green": ((130, 205, 150), (15, 20, 20)),
    "yellow": ((235, 170, 20), (20, 20, 20)),
    "white": ((235, 235, 235), (20, 20, 20)),
    "black": ((25, 25, 28), (240, 240, 240)),
}
_RED = (200, 30, 30)
_RED_CHARACTERS = "警军北南广沈兰成济海空"

Pixels = npt.NDArray[np.uint8]


class Pen:
    """Draws plates with some faces; glyphs are made once. The picture depends on the arguments and the faces alone."""

    def __init__(self, faces: Faces) -> None:
        self._faces = faces
        self._glyphs: dict[tuple[Face, str, int], Image.Image] = {}

    def plate(self, kind: str, text: str, rng: np.random.Generator) -> Pixels:
        """The picture (3, 40, 160), uint8 BGR, of a plate of a kind of ``layout.KINDS``."""
        ink, red = self.ink(text, rng)
        perspective = _perspective(_corners(rng))
        ground = Image.new("L", ink.size, 255)
        picture = _coloured(kind, [_seen(layer, perspective) for layer in (ground, ink, red)], rng)
        return np.ascontiguousarray(_photographed(picture, rng)[:, :, ::-1].transpose(2, 0, 1))

    def ink(self, text: str, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
        """Masks, a pixel a millimetre: all that is inked (characters, dot, frame), and what of it is red."""
        layout = layout_of(text)
        ink = Image.new("L", (layout.width_mm, HEIGHT_MM))
        red = Image.new("L", ink.size)
        draw = ImageDraw.Draw(ink)
        latin = self._faces.latin[rng.integers(len(self._faces.latin))]
        chinese = self._faces.chinese[rng.integers(len(self._faces.chinese))]
        for character, (left, width) in zip(text, layout.cells, strict=True):
            glyph = self._glyph(latin if character.isascii() else chinese, character, round(width))
            ink.paste(glyph, (round(left), _TOP_MM))
            if character in _RED_CHARACTERS:
                red.paste(glyph, (round(left), _TOP_MM))
        if layout.dot_mm is not None:
            x, y, radius = layout.dot_mm, HEIGHT_MM / 2, DOT_MM / 2
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        if rng.random() < 0.7:
            draw.rounded_rectangle((4, 4, ink.width - 5, ink.height - 5), 8, outline=255, width=3)
        return ink, red

    def _glyph(self, face: Face, character: str, width_mm: int) -> Image.Image:
        """The character's ink stretched over its whole cell; a 1 stays a stroke in the middle of it."""
        key = (face, character, width_mm)
        if key not in self._glyphs:
            drawn = _stroke() if character == "1" else _stretched(face, character)
            self._glyphs[key] = drawn.resize((width_mm, CELL_HEIGHT_MM))
        return self._glyphs[key]


def _stretched(face: Face, character: str) -> Image.Image:
    font = face.opened(_GLYPH_PX)
    left, top, right, bottom = font.getbbox(character)
    glyph = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(glyph).text((-left, -top), character, 255, font)
    return glyph


def _stroke() -> Image.Image:
    glyph = Image.new("L", (45, 90))
    ImageDraw.Draw(glyph).polygon([(17, 10), (22, 0), (28, 0), (28, 90), (19, 90), (19, 14), (17, 14)], 255)
    return glyph


def _corners(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """The plate's corners in the picture, in its own size: margins, slant, tilt and perspective."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    grow = rng.uniform([0.86, 0.7], [1.02, 1.04])
    corners = 0.5 + (corners - 0.5) * grow + rng.normal(0, [0.01, 0.03])
    tilt = rng.normal(0, 0.09)
    corners[:, 1] += (corners[:, 0] - 0.5) * tilt * 2
    corners[:, 0] += (corners[:, 1] - 0.5) * rng.normal(0, 0.05)
    return corners + rng.normal(0, [0.01, 0.025], (4, 2))


def _perspective(corners: npt.NDArray[np.float64]) -> list[float]:
    """The eight coefficients with which PIL finds the place on the plate of each place in the picture."""
    size = np.array([PLATE_WIDTH, PLATE_HEIGHT], float)
    own = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size * _FINER
    rows = []
    for (x, y), (u, v) in zip(corners * size, own, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    coefficients: list[float] = np.linalg.solve(np.array(rows), own.reshape(-1)).tolist()
    return coefficients


def _seen(layer: Image.Image, perspective: list[float]) -> npt.NDArray[np.float32]:
    """A mask as the camera sees it: 0..1, (40, 160, 1)."""
    fine = layer.resize((round(PLATE_WIDTH * _FINER), round(PLATE_HEIGHT * _FINER)), Image.Resampling.BILINEAR)
    size = (PLATE_WIDTH, PLATE_HEIGHT)
    seen = fine.transform(size, Image.Transform.PERSPECTIVE, perspective, Image.Resampling.BILINEAR)
    return np.asarray(seen, np.float32)[:, :, None] / np.float32(255)


def _coloured(kind: str, seen: list[npt.NDArray[np.float32]], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Surroundings, ground and ink in RGB 0..255, each with its own wear; green plates pale towards the top."""
    ground, ink, red = seen
    base, writing = (np.array(colour, np.float32) + rng.normal(0, 14, 3) for colour in _COLOURS[kind])
    around = np.clip(rng.normal(90, 60) + rng.normal(0, 20, 3), 0, 255)
    if kind == "green":
        pale = np.linspace(1, 0, ground.shape[0])[:, None, None] * rng.uniform(0.3, 1.0)
        base = base * (1 - pale) + 235 * pale
    picture = around * (1 - ground) + base * ground
    picture = picture * (1 - ink) + writing * ink
    return np.asarray(picture * (1 - red) + np.array(_RED) * red, np.float32)


def _photographed(picture: npt.NDArray[np.float32], rng: np.random.Generator) -> Pixels:
    """Light and shade, colour cast, low resolution, blur, noise: (height, width, 3) in uint8 RGB."""
    height, width, _ = picture.shape
    slope = np.linspace(-1, 1, width)[None, :, None] * rng.normal(0, 0.12)
    slope = slope + np.linspace(-1, 1, height)[:, None, None] * rng.normal(0, 0.12)
    light = np.exp(rng.normal(-0.1, 0.28)) * np.exp(rng.normal(0, 0.1, 3)) * (1 + slope)
    haze = max(0.0, rng.normal(0.03, 0.08))
    lit = (picture * (1 - haze) + rng.uniform(60, 220) * haze) * light
    image = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        share = rng.uniform(0.35, 0.9)
        image = image.resize((round(width * share), round(height * share)), Image.Resampling.BILINEAR)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.BoxBlur((rng.uniform(0, 1.5), rng.uniform(0, 0.8))))
    noisy = np.asarray(image, np.float32) + rng.standard_normal((height, width, 3), np.float32) * rng.uniform(0, 7)
    return np.clip(noisy, 0, 255).astype(np.uint8)
