"""Images of any usual kind as 8-bit RGB, and label images as numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000")
"""Decoders that may run: those of images. Pillow's others start programs (EPS) or reach for the network's formats."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2")
LARGEST = 89_478_485
"""Pixels: Pillow's own limit against files that unpack to far more than they take."""
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
_TRANSPOSITIONS = dict(
    zip(
        range(2, 9),
        ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"),
        strict=True,
    )
)


class BrokenImageError(Exception):
    """An image file that cannot be decoded; the message is the reason, without the file's name."""


def broken_message(path: Path, reason: str) -> str:
    """One line about an image that cannot be decoded."""
    return f"{path} cannot be decoded ({reason}): repair or delete it, or set data.skip_broken to true to go on without"


class Header(NamedTuple):
    """What a file says of its image before it is decoded.

    Attributes:
        width, height: of the pixels as they are stored.
        turned: whether the EXIF orientation swaps width and height for viewing.
        mode: Pillow's, such as RGB, P, CMYK, I;16.
        deep: whether channels have more than 8 bits.
    """

    width: int
    height: int
    turned: bool
    mode: str
    deep: bool

    @property
    def seen(self) -> tuple[int, int]:
        """Width and height as a viewer shows the image."""
        return (self.height, self.width) if self.turned else (self.width, self.height)


def read_header(path: Path) -> Header:
    """Size and kind of an image; its pixels are not decoded.

    Raises:
        BrokenImageError: no image, or one of more than `LARGEST` pixels.
    """
    with _opened(path) as image:
        codec = image.tile[0][3] if image.tile else ""
        raw = codec if isinstance(codec, str) else str(codec[0]) if codec else ""
        deep = image.mode.startswith(("I", "F")) or raw.endswith(("16B", "16L", "16N"))
        width, height = image.size
        return Header(width, height, _orientation(image) in _TURNED, image.mode, deep)


def decode_rgb(path: Path, oriented: bool = True) -> NDArray[np.uint8]:
    """The image as uint8 (H, W, 3).

    Palettes are looked up; grey is repeated; CMYK is converted as Pillow does, without a colour profile; what is
    transparent lies on white. Grey values of 16 bits become 8 by v / 257, rounded (Pillow alone would cut them off at
    255); of colours of 16 bits Pillow takes the higher byte. Of several frames the first is taken.

    Args:
        path: of the file.
        oriented: whether to turn and mirror the image as its EXIF orientation says, which is what viewers and tools for
            annotation show.

    Raises:
        BrokenImageError: the file is no image, is truncated, or holds floats, whose range no one knows.

    """
    from PIL import Image

    with _opened(path) as image:
        orientation = _orientation(image) if oriented else 1
        image.load()
        if orientation in _TRANSPOSITIONS:
            image = image.transpose(Image.Transpose[_TRANSPOSITIONS[orientation]])
        return _rgb(image)


def decode_labels(path: Path) -> NDArray[np.uint8]:
    """A label image as uint8 (H, W): the numbers of its palette, or its grey values as they are.

    Raises:
        BrokenImageError: it has colours without a palette, values beyond 255, or cannot be decoded.
    """
    with _opened(path) as image:
        image.load()
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode in ("P", "L"):
            return np.array(image, dtype=np.uint8)
        if image.mode.startswith("I"):
            values = np.asarray(image).astype(np.int64)
            if values.min() < 0 or values.max() > 255:
                raise BrokenImageError(f"its labels go from {values.min()} to {values.max()}; expected 0 to 255")
            return values.astype(np.uint8)
        raise BrokenImageError(
            f"it is of the kind {image.mode}, not a grey or palette image whose pixels are class numbers"
        )


def _orientation(image: Any) -> int:
    """The EXIF orientation, 1 to 8, if it stands before the pixels (Pillow would decode a PNG to look behind)."""
    if image.format == "PNG" and not image.info.keys() & {"exif", "Raw profile type exif"}:
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file opened by Pillow; whatever goes wrong inside is a `BrokenImageError`."""
    from PIL import Image, UnidentifiedImageError

    # struct.error, KeyError, IndexError, TypeError and the rest come out of Pillow's parsers for damaged files.
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height == 0:
                    raise BrokenImageError(f"it has {image.width} x {image.height} pixels")
                yield image
    except BrokenImageError:
        raise
    except FileNotFoundError:
        raise BrokenImageError("there is no such file") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BrokenImageError(f"it has more than {LARGEST} pixels") from None
    except UnidentifiedImageError:
        raise BrokenImageError(f"it is no image of the kinds {', '.join(FORMATS)}") from None
    except Exception as problem:
        text = str(problem).splitlines()
        raise BrokenImageError(text[0] if text else type(problem).__name__) from None


def _rgb(image: Any) -> NDArray[np.uint8]:
    from PIL import Image

    if image.mode == "F":
        raise BrokenImageError("its pixels are floats, whose range is not known: save it with 8 bits a channel")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BrokenImageError(f"its values go from {values.min()} to {values.max()}; expected 0 to 65535")
        grey = ((values + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    return np.array(image.convert("RGB"), dtype=np.uint8)
