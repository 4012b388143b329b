"""The fonts plates are drawn with: from the packages the trainer declares, else from Debian's font folders."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

from supervisor.core.errors import SetupError

# Barlow's flat-topped 3 and upright strokes come nearest to the face of the standard, which no package has.
_LATIN = ("fontpkg_barlow_semi_condensed/files/BarlowSemiCondensed-{}.ttf", ("Regular", "Medium", "SemiBold"))
_CHINESE = "manimgx_fonts_cjk/NotoSansCJK-VF.otf.ttc"
_CHINESE_INDEX = 2  # the simplified Chinese face of the collection
_CHINESE_WEIGHTS = (400, 550, 700)
_DEBIAN = Path("/usr/share/fonts")
_DEBIAN_LATIN = ("**/opendin/*.otf", "**/OpenDin*.ttf", "truetype/dejavu/DejaVuSansCondensed-Bold.ttf")
_DEBIAN_CHINESE = ("opentype/noto/NotoSansCJK-Bold.ttc", "truetype/wqy/wqy-microhei.ttc")


@dataclass(frozen=True, slots=True)
class Face:
    """One way to draw characters: a font file, the face in a collection, and the weight of a variable font."""

    path: Path
    index: int = 0
    weight: int | None = None

    def opened(self, size: int) -> ImageFont.FreeTypeFont:
        font = ImageFont.truetype(self.path, size, index=self.index)
        if self.weight is not None:
            font.set_variation_by_axes([self.weight])
        return font


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces for Chinese characters and those for letters and digits; at least one of each."""

    chinese: tuple[Face, ...]
    latin: tuple[Face, ...]

    def digest(self) -> str:
        """What the drawn plates depend on: the bytes of the files and how they are opened."""
        whole = hashlib.sha256()
        contents = {face.path: hashlib.sha256(face.path.read_bytes()) for face in self.chinese + self.latin}
        for faces in (self.chinese, self.latin):
            for face in faces:
                whole.update(f"{contents[face.path].hexdigest()} {face.index} {face.weight}\n".encode())
            whole.update(b"\n")
        return whole.hexdigest()


def find_faces() -> Faces:
    """The declared packages' faces; Debian's only when a package is missing, so that all machines draw alike."""
    chinese = _packaged(_CHINESE)
    pattern, styles = _LATIN
    latin = [path for style in styles if (path := _packaged(pattern.format(style)))]
    faces = Faces(
        tuple(Face(chinese, _CHINESE_INDEX, weight) for weight in _CHINESE_WEIGHTS)
        if chinese
        else _debian(_DEBIAN_CHINESE),
        tuple(Face(path) for path in latin) or _debian(_DEBIAN_LATIN),
    )
    if not faces.chinese or not faces.latin:
        raise SetupError(
            "no font to draw plates with: " + ("Chinese characters" if not faces.chinese else "letters and digits"),
            hint="pip install manimgx-fonts-cjk fontpkg-barlow-semi-condensed",
        )
    return faces


def _packaged(file: str) -> Path | None:
    package, _, inside = file.partition("/")
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations if found else None) or ():
        if (path := Path(folder) / inside).is_file():
            return path
    return None


def _debian(patterns: tuple[str, ...]) -> tuple[Face, ...]:
    for pattern in patterns:
        if found := sorted(_DEBIAN.glob(pattern)):
            return tuple(Face(path) for path in found)
    return ()
