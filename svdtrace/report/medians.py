"""The median of each connection's shares, exactly, without ever holding more than one part's shares.

A side whose total is nearly 0 gives shares of any size, which a mean would show instead of what is usual. Medians do
not add up over parts. But the 32 bits of a float32, read as an integer, are in the order of the numbers: all shares are
gone through four times, and each time the next 8 bits of the middle ones are found by counting (a radix selection).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int, UInt64

from svdtrace.results.in_parts import Tables, columns

ROUNDS = 4
_BITS = 8
_DIGITS = 1 << _BITS
_SIGN = np.uint64(1 << 31)
_ALL = np.uint64((1 << 32) - 1)


class Medians:
    """Medians of groups of float32 values: `add` all of them, then `settle`; `ROUNDS` times the same values.

    Args:
        n_groups: how many there are.
    """

    def __init__(self, n_groups: int) -> None:
        # Of both middle values: the bits that are found, and which of the values that begin with these it is.
        self._found, self._rank = np.zeros((2, n_groups), np.uint64), np.zeros((2, n_groups), int)
        self._defined, self._round = np.zeros(n_groups, int), 0
        self._clear()

    def _clear(self) -> None:
        self._counts = np.zeros((*self._found.shape, _DIGITS), int)

    def add(self, group: Int[np.ndarray, " row"], value: Float32[np.ndarray, " row"]) -> None:
        """Count the next digit of some values; NaN are left out."""
        defined = ~np.isnan(value)
        group, bits = group[defined], _ordered(value[defined])
        below = np.uint64(_BITS * (ROUNDS - self._round - 1))
        known = bits >> (below + np.uint64(_BITS))
        digit = ((bits >> below) & np.uint64(_DIGITS - 1)).astype(int)
        for found, counts in zip(self._found, self._counts, strict=True):
            same = known == found[group]
            counts += np.bincount(group[same] * _DIGITS + digit[same], minlength=counts.size).reshape(counts.shape)

    def settle(self) -> None:
        """End a round: choose the digits of the middle values."""
        if self._round == 0:
            self._defined = self._counts[0].sum(axis=1)
            self._rank[:] = (self._defined - 1) // 2, self._defined // 2
        upto = self._counts.cumsum(axis=2)
        digit = (upto > self._rank[..., None]).argmax(axis=2)
        before = np.take_along_axis(upto - self._counts, digit[..., None], axis=2)[..., 0]
        self._rank -= before
        self._found = (self._found << np.uint64(_BITS)) | digit.astype(np.uint64)
        self._round += 1
        self._clear()

    def medians(self) -> Float[np.ndarray, " group"]:
        """After `ROUNDS` rounds: the mean of both middle values, NaN for a group without any."""
        low, high = (_value(found).astype(float) for found in self._found)
        return np.where(self._defined > 0, (low + high) / 2, np.nan)


class ShareCount:
    """The shares of the first connections, gone through part by part; see `Medians`.

    Args:
        kept: how many of them.
    """

    def __init__(self, kept: int) -> None:
        self._kept, self.of = kept, Medians(kept)

    def add(self, part: Tables, connection: Int[np.ndarray, " row"]) -> None:
        """See `svdtrace.pictures.connections.EdgeCount`."""
        shown = connection < self._kept
        share = columns(part, "edges", ("share",))["share"]
        self.of.add(connection[shown], np.asarray(share.to_numpy(), np.float32)[shown])


def _ordered(value: Float32[np.ndarray, " row"]) -> UInt64[np.ndarray, " row"]:
    """Integers of 32 bits in the order of the numbers."""
    bits = value.view(np.uint32).astype(np.uint64)
    return np.where(bits & _SIGN, bits ^ _ALL, bits | _SIGN)


def _value(ordered: UInt64[np.ndarray, " row"]) -> Float32[np.ndarray, " row"]:
    """The numbers that `_ordered` made integers of."""
    bits = np.where(ordered & _SIGN, ordered ^ _SIGN, ordered ^ _ALL)
    return bits.astype(np.uint32).view(np.float32)
