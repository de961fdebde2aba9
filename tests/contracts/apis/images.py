"""Small PNG files, made on the spot."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable

SIDE_PIXELS = 28
Colour = tuple[int, int, int]


def png(colour: Callable[[int, int], Colour]) -> bytes:
    """A square whose points have the colour of their column and row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = range(SIDE_PIXELS)
    rows = b"".join(b"\0" + b"".join(bytes(colour(column, row)) for column in side) for row in side)
    header = struct.pack(">IIBBBBB", SIDE_PIXELS, SIDE_PIXELS, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


RED = png(lambda column, row: (255, 0, 0))
BLUE = png(lambda column, row: (0, 0, 255))
STRIPES = png(lambda column, row: (9 * column, 255 - 9 * column, column * row % 255))


def data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"
