"""The picture of a screen as PNG, drawn here from what Textual gives as SVG.

resvg draws it, a library of one wheel without dependencies, which needs no browser; the font is
whichever of even width lies on the machine.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from energylens.errors import UsageError

_FONTS = {
    "DejaVuSansMono.ttf": "DejaVu Sans Mono",
    "LiberationMono-Regular.ttf": "Liberation Mono",
    "NotoSansMono-Regular.ttf": "Noto Sans Mono",
    "NotoMono-Regular.ttf": "Noto Mono",
    "FreeMono.ttf": "FreeMono",
    "UbuntuMono-R.ttf": "Ubuntu Mono",
    "Menlo.ttc": "Menlo",
    "Monaco.ttf": "Monaco",
}
"""Files and the families they hold, those first whose blocks and braille are known to fit."""
_PLACES = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts")
_OWN = (".fonts", ".local/share/fonts", "Library/Fonts")


def screen_as_png(svg: str) -> bytes:
    """A screen that Textual has drawn as SVG.

    Raises:
        UsageError: this machine has no font of even width.
    """
    import resvg_py

    file, family = _font()
    made = resvg_py.svg_to_bytes(
        svg_string=svg.replace("Fira Code", family),
        font_family=family,
        monospace_family=family,
        font_dirs=[str(file.parent)],  # with the bold face beside it
    )
    return bytes(made)


def _font() -> tuple[Path, str]:
    there = {file.name: file for file in _files()}
    for name, family in _FONTS.items():
        if name in there:
            return there[name], family
    raise UsageError(
        "this machine has no font of even width to draw the picture in; install one (on Debian: "
        "apt install fonts-dejavu-core), or take the SVG, which needs none"
    )


def _files() -> Iterator[Path]:
    """Files in the folders of fonts, those of matplotlib's own where it is installed too."""
    places = [Path(place) for place in _PLACES] + [Path.home() / place for place in _OWN]
    found = find_spec("matplotlib")
    if found is not None and found.origin is not None:
        places.append(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf")
    for place in places:
        for folder, _, names in os.walk(place):
            yield from (Path(folder, name) for name in names if name in _FONTS)
