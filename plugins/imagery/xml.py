"""XML of annotation files, from people who may not mean well."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from bnnapps.errors import DataError, MissingExtraError

LARGEST = 16 * 2**20
"""Bytes; the annotations of real images take some ten thousand at most."""
DEEPEST = 64
"""Elements within elements."""


def read_xml(path: Path, root: str) -> Element:
    """The root element of a file, which must be named `root`.

    A document type is refused, and with it every entity but XML's own five: nothing expands ("billion laughs"), and no
    other file or address is read. So are files beyond `LARGEST` bytes and elements nested more than `DEEPEST` deep.

    Raises:
        DataError: one line that names the file, and the place where one is known.
        MissingExtraError: defusedxml is not installed.

    """
    defused = _defused()
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}") from None
    if len(text) > LARGEST:
        raise DataError(f"{path} has more than {LARGEST} bytes: no annotation of an image takes that much")
    try:
        found: Element = defused.ElementTree.fromstring(text, forbid_dtd=True)
    except (ParseError, defused.ElementTree.ParseError) as problem:
        raise DataError(f"{path} is no well-formed XML: {problem}") from None
    except defused.DefusedXmlException:
        raise DataError(
            f"{path} declares a document type or entities, which annotations never need and which can be used to "
            "attack: not read; delete the declaration if you trust the file"
        ) from None
    except (ValueError, LookupError, RecursionError) as problem:  # an encoding that does not exist, bad characters
        raise DataError(f"{path} is no well-formed XML: {' '.join(str(problem).split())}") from None
    _check_depth(found, path)
    if found.tag != root:
        raise DataError(f"{path} has the root element <{found.tag[:40]}>; expected <{root}>")
    return found


def _defused() -> Any:
    try:
        import defusedxml.ElementTree
    except ImportError:
        raise MissingExtraError("defusedxml", "detection", "reading XML annotations") from None
    return defusedxml


def _check_depth(root: Element, path: Path) -> None:
    level, depth = [root], 1
    while level:
        if depth > DEEPEST:
            raise DataError(f"{path} has elements nested more than {DEEPEST} deep")
        level, depth = [child for element in level for child in element], depth + 1
