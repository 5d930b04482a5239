"""Integers in as few bytes as they need: seven bits a byte, lowest first, the eighth says that more follow. Whole arrays at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
#: Values below 2^35; more than any slide has pixels along a side.
_MOST_BYTES = 5


def to_varints(values: Ints) -> bytes:
    """Encode values in [0, 2^35). Raises ValueError for others."""
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < 1 << 7 * _MOST_BYTES:
        raise ValueError("a varint of this format is not negative and below 2^35")
    sizes = np.ones(len(values), np.int64)
    for place in range(1, _MOST_BYTES):
        sizes += values >= 1 << 7 * place
    begins = np.cumsum(sizes) - sizes
    out = np.zeros(int(sizes.sum()), np.uint8)
    for place in range(int(sizes.max(initial=0))):
        has = sizes > place
        out[begins[has] + place] = (values[has] >> 7 * place) & 127 | np.where(sizes[has] > place + 1, 128, 0)
    return out.tobytes()


def from_varints(data: bytes) -> Ints:
    """Inverse of to_varints. Raises ValueError when the last value is cut off or one is too long."""
    octets = np.frombuffer(data, np.uint8).astype(np.int64)
    ends = np.flatnonzero(octets < 128)
    if len(octets) and (not len(ends) or ends[-1] != len(octets) - 1):
        raise ValueError("the last varint is cut off")
    begins = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    sizes = ends - begins + 1
    if int(sizes.max(initial=0)) > _MOST_BYTES:
        raise ValueError("a varint is too long")
    values = np.zeros(len(ends), np.int64)
    for place in range(int(sizes.max(initial=0))):
        has = sizes > place
        values[has] |= (octets[begins[has] + place] & 127) << 7 * place
    return values


def zigzag(values: Ints) -> Ints:
    """0, -1, 1, -2, 2, … as 0, 1, 2, 3, 4, …: small negative numbers stay short."""
    return np.asarray((values << 1) ^ (values >> 63))


def unzigzag(values: Ints) -> Ints:
    """Inverse of zigzag."""
    return np.asarray((values >> 1) ^ -(values & 1))
