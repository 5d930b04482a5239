"""Rings and measurements as JSON text, many at a time: a million features made one by one in Python take most of an export.

Kernels write into a buffer that is large enough for the worst case; the bytes are those that orjson would write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from scheduling.slides.nuclei.contours import Ints, Outlines

Bytes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

#: Of a measurement, and steps in 1 of it.
_DECIMALS, _STEPS = 4, 10_000
_MOST_DIGITS = 20
_COMMA, _OPEN, _CLOSE, _MINUS, _POINT, _ZERO = (np.uint8(ord(sign)) for sign in ",[]-.0")


@dataclass(frozen=True)
class Texts:
    """Several texts in one array: text i is `data[offsets[i]:offsets[i + 1]]`."""

    data: Bytes
    offsets: Ints

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Texts:
        """From bytes."""
        return cls(np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *map(len, texts)]).astype(np.int64))


def feature_bytes(
    ids: Bytes, outline: Outlines, nucleus: Outlines, values: Doubles, names: Sequence[bytes], texts: Sequence[bytes]
) -> bytes:
    """For each feature texts[0], id, texts[1], ring, then, with a nucleus, texts[2], its ring and texts[3]; texts[4], measurements, texts[5].

    `ids` is uint8 (n, 36); `values` float64 (n, names), those that are finite with four decimals at most; each of `names` with its colon.
    Between features stands texts[6].
    """
    fixed, named = Texts.of(texts), Texts.of(names)
    each = len(fixed.data) + len(named.data) + values.shape[1] * (_MOST_DIGITS + 6) + ids.shape[1]
    out = np.empty(len(ids) * each + _most(outline) + _most(nucleus), np.uint8)
    rings = (outline.points, outline.offsets, nucleus.points, nucleus.offsets, max(outline.decimals, nucleus.decimals))
    return out[: _write_features(out, ids, *rings, values, named.data, named.offsets, fixed.data, fixed.offsets)].tobytes()


def numbered_rings(first: int, rings: Outlines, texts: Sequence[bytes]) -> bytes:
    """For each ring texts[0], its number from `first` on, texts[1], the ring without its last vertex, texts[2]; between them texts[3]."""
    fixed = Texts.of(texts)
    out = np.empty(len(rings) * (len(fixed.data) + _MOST_DIGITS) + _most(rings), np.uint8)
    return out[: _write_numbered(out, first, rings.points, rings.offsets, rings.decimals, fixed.data, fixed.offsets)].tobytes()


def _most(rings: Outlines) -> int:
    """Bytes that the rings take at most: two numbers of 12 signs in a vertex, and what stands around them."""
    return 28 * len(rings.points) + 2 * len(rings)


@njit(cache=True)
def _write_features(
    out: Bytes,
    ids: Bytes,
    points: npt.NDArray[np.int32],
    offsets: Ints,
    nucleus_points: npt.NDArray[np.int32],
    nucleus_offsets: Ints,
    decimals: int,
    values: Doubles,
    names: Bytes,
    name_offsets: Ints,
    texts: Bytes,
    text_offsets: Ints,
) -> int:
    at = 0
    for row in range(len(ids)):
        if row:
            at = _put(out, at, texts[text_offsets[6] : text_offsets[7]])
        at = _put(out, at, texts[: text_offsets[1]])
        at = _put(out, at, ids[row])
        at = _put(out, at, texts[text_offsets[1] : text_offsets[2]])
        at = _put_ring(out, at, points[offsets[row] : offsets[row + 1]], decimals)
        if nucleus_offsets[row + 1] > nucleus_offsets[row]:
            at = _put(out, at, texts[text_offsets[2] : text_offsets[3]])
            at = _put_ring(out, at, nucleus_points[nucleus_offsets[row] : nucleus_offsets[row + 1]], decimals)
            at = _put(out, at, texts[text_offsets[3] : text_offsets[4]])
        at = _put(out, at, texts[text_offsets[4] : text_offsets[5]])
        is_first = True
        for column in range(values.shape[1]):
            if np.isfinite(values[row, column]):
                if not is_first:
                    out[at] = _COMMA
                    at += 1
                is_first = False
                at = _put(out, at, names[name_offsets[column] : name_offsets[column + 1]])
                at = _put_decimal(out, at, values[row, column])
        at = _put(out, at, texts[text_offsets[5] : text_offsets[6]])
    return at


@njit(cache=True)
def _write_numbered(
    out: Bytes, first: int, points: npt.NDArray[np.int32], offsets: Ints, decimals: int, texts: Bytes, text_offsets: Ints
) -> int:
    at = 0
    for row in range(len(offsets) - 1):
        if row:
            at = _put(out, at, texts[text_offsets[3] : text_offsets[4]])
        at = _put(out, at, texts[: text_offsets[1]])
        at = _put_whole(out, at, first + row)
        at = _put(out, at, texts[text_offsets[1] : text_offsets[2]])
        at = _put_ring(out, at, points[offsets[row] : offsets[row + 1] - 1], decimals)
        at = _put(out, at, texts[text_offsets[2] : text_offsets[3]])
    return at


@njit(cache=True)
def _put(out: Bytes, at: int, text: Bytes) -> int:
    for index in range(len(text)):
        out[at + index] = text[index]
    return at + len(text)


@njit(cache=True)
def _put_ring(out: Bytes, at: int, ring: npt.NDArray[np.int32], decimals: int) -> int:
    out[at] = _OPEN
    for vertex in range(len(ring)):
        at += 1
        out[at] = _OPEN
        at = _put_place(out, at + 1, ring[vertex, 0], decimals)
        out[at] = _COMMA
        at = _put_place(out, at + 1, ring[vertex, 1], decimals)
        out[at] = _CLOSE
        out[at + 1] = _COMMA
        at += 1
    # Over the last comma, or after the bracket of an empty ring.
    at += len(ring) == 0
    out[at] = _CLOSE
    return at + 1


@njit(cache=True)
def _put_place(out: Bytes, at: int, value: int, decimals: int) -> int:
    if decimals == 0:
        return _put_whole(out, at, value)
    steps = np.int64(value)
    if steps < 0:
        out[at] = _MINUS
        at += 1
        steps = -steps
    return _put_steps(out, at, int(steps), decimals)


@njit(cache=True)
def _put_whole(out: Bytes, at: int, value: int) -> int:
    rest = np.int64(value)
    if rest < 0:
        out[at] = _MINUS
        at += 1
        rest = -rest
    size, limit = 1, np.int64(10)
    while rest >= limit:
        size += 1
        limit *= 10
    for place in range(size - 1, -1, -1):
        out[at + place] = _ZERO + rest % 10
        rest //= 10
    return at + size


@njit(cache=True)
def _put_decimal(out: Bytes, at: int, value: float) -> int:
    if np.copysign(1.0, value) < 0:
        out[at] = _MINUS
        at += 1
    return _put_steps(out, at, int(np.rint(abs(value) * _STEPS)), _DECIMALS)


@njit(cache=True)
def _put_steps(out: Bytes, at: int, steps: int, decimals: int) -> int:
    """With so many decimals less their zeros, but one."""
    in_one = np.int64(10) ** decimals
    at = _put_whole(out, at, int(steps // in_one))
    out[at] = _POINT
    rest = steps % in_one
    last = at + 1
    for place in range(decimals, 0, -1):
        digit = rest % 10
        rest //= 10
        out[at + place] = _ZERO + digit
        if digit > 0 and last == at + 1:
            last = at + place
    return last + 1
