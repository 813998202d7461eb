from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnnapps.plugins.imagery.images import BrokenImageError, decode_labels, decode_rgb, read_header

RAMP = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)


def png(path: Path, depth: int, colour: int, rows: list[bytes], width: int, height: int) -> Path:
    """A PNG written by hand: Pillow cannot write colours of 16 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_becomes_8_bits_over_its_whole_range(tmp_path, suffix):
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(RAMP).save(path)
    found = decode_rgb(path)
    assert read_header(path).deep
    assert found.shape == (48, 64, 3)
    assert np.array_equal(found[..., 0], np.round(RAMP / 257).astype(np.uint8))
    assert (found[..., 0] == found[..., 1]).all()
    # What Pillow does alone: everything beyond 255 is white.
    assert np.asarray(Image.open(path).convert("L")).mean() > 250


def test_colours_of_16_bits(tmp_path):
    rows = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=-1)
    path = png(tmp_path / "deep.png", 16, 2, [row.astype(">u2").tobytes() for row in rows], 64, 48)
    assert read_header(path).deep
    assert np.abs(decode_rgb(path).astype(int) - np.round(rows / 257)).max() <= 1


def test_cmyk(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 8), (0, 255, 255, 0)).save(path, quality=95)
    assert read_header(path).mode == "CMYK"
    assert np.abs(decode_rgb(path).astype(int) - [255, 0, 0]).max() <= 3


def test_palette_grey_and_one_bit(tmp_path):
    palette = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(tmp_path / "palette.png")
    assert decode_rgb(tmp_path / "palette.png")[1, 0].tolist() == [70, 80, 90]
    Image.fromarray(np.array([[0, 200]], np.uint8)).save(tmp_path / "grey.png")
    assert decode_rgb(tmp_path / "grey.png").tolist() == [[[0, 0, 0], [200, 200, 200]]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert decode_rgb(tmp_path / "bits.png")[0].tolist() == [[255] * 3, [0] * 3]


def test_what_is_transparent_lies_on_white(tmp_path):
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "alpha.png")
    found = decode_rgb(tmp_path / "alpha.png")[0]
    assert found[:2].tolist() == [[255, 0, 0], [255, 255, 255]]
    assert np.abs(found[2].astype(int) - 127).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_what_a_viewer_shows(tmp_path, orientation):
    upright = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3) * 40
    # How the camera stored it, so that the orientation brings it back (EXIF 2.3, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    assert np.array_equal(decode_rgb(path)[..., 0], upright)
    assert np.array_equal(decode_rgb(path, oriented=False)[..., 0], stored)
    header = read_header(path)
    assert header.seen == (3, 2)
    assert (header.height, header.width) == stored.shape


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_file_is_refused_and_its_header_is_still_read(tmp_path, suffix):
    rng = np.random.default_rng(0)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    assert read_header(path).seen == (80, 60)
    with pytest.raises(BrokenImageError, match="truncated"):
        decode_rgb(path)


def test_files_that_are_no_images(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(BrokenImageError, match="no such file"):
        decode_rgb(path)
    path.write_bytes(b"")
    with pytest.raises(BrokenImageError, match="no image of the kinds JPEG"):
        decode_rgb(path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # Pillow would start Ghostscript
    with pytest.raises(BrokenImageError, match="no image of the kinds JPEG"):
        decode_rgb(path)


def test_an_image_that_unpacks_to_far_more_than_it_takes_is_refused_before_it_does(tmp_path):
    path = png(tmp_path / "bomb.png", 8, 0, [b"\0"], 30_000, 30_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BrokenImageError, match="more than 89478485 pixels"):
            read_header(path)
        with pytest.raises(BrokenImageError, match="more than 89478485 pixels"):
            decode_rgb(png(tmp_path / "half.png", 8, 0, [b"\0"], 10_000, 10_000))


def test_floats_are_refused(tmp_path):
    path = tmp_path / "floats.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    with pytest.raises(BrokenImageError, match="floats, whose range is not known"):
        decode_rgb(path)


def test_labels_are_the_numbers_of_the_palette(tmp_path):
    labels = np.array([[0, 1, 20], [255, 7, 3]], np.uint8)
    palette = Image.fromarray(labels, mode="P")
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "p.png")
    Image.fromarray(labels).save(tmp_path / "l.png")
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ("p.png", "l.png", "deep.png"):
        assert np.array_equal(decode_labels(tmp_path / name), labels), name
    Image.fromarray(labels.astype(np.uint16) * 2).save(tmp_path / "deep.png")
    with pytest.raises(BrokenImageError, match="from 0 to 510; expected 0 to 255"):
        decode_labels(tmp_path / "deep.png")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(BrokenImageError, match="of the kind RGB"):
        decode_labels(tmp_path / "rgb.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_damaged_bytes_give_an_image_or_one_line(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = tmp_path / "a"
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path, format=kind)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = []
    for _ in range(150):
        damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
        damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        for read in (read_header, decode_rgb, decode_labels):
            try:
                read(path)
            except BrokenImageError as problem:
                refused.append(str(problem))
    assert len(refused) > 20
    assert not any("\n" in reason or not reason for reason in refused)
