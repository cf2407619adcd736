"""How many different values were seen, in bounded memory: exact while they are few, then near.

`Distinct` keeps the hashes themselves up to `EXACT` of them, and beyond that HyperLogLog's
registers (Flajolet et al., 2007), read by Ertl's estimator (2017), which needs no tables and no
switch between ranges. The standard error is 1.04/√2048 = 2.3 %.
"""

from __future__ import annotations

import math
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import blake2b

__all__ = ["EXACT", "Distinct"]

EXACT = 1024
"""Up to so many different values the count is exact."""

INDEX = 11
REGISTERS = 1 << INDEX
DEPTH = 14
"""Bits in which the first 1 is looked for: a register is then 4 bits, half a byte when stored."""

REST = (1 << DEPTH) - 1

EXACTLY, ABOUT = "=", "~"
"""How a stored count begins."""


class Distinct:
    """A count of different values. Goes on in another process where it was stored in one."""

    __slots__ = ("_exact", "_floor", "_registers")

    def __init__(self) -> None:
        self._exact: set[int] | None = set()  # None once they are too many
        self._registers = bytearray()
        self._floor = 0  # no register is lower

    def add(self, values: Iterable[bytes]) -> None:
        """Count *values*."""
        hashes = {int.from_bytes(blake2b(v, digest_size=4).digest()) for v in values}
        if self._exact is not None:
            self._exact |= hashes
            if len(self._exact) <= EXACT:
                return
            hashes, self._exact = self._exact, None
            self._registers = bytearray(REGISTERS)
        registers = self._registers
        for value in hashes:
            rank = DEPTH + 1 - (value & REST).bit_length()
            if rank > self._floor and registers[place := value >> 32 - INDEX] < rank:
                registers[place] = rank
        while self._floor not in registers and self._floor <= DEPTH:
            self._floor += 1

    def __len__(self) -> int:
        """How many different ones there were: exactly, or about."""
        return len(self._exact) if self._exact is not None else round(_estimate(self._registers))

    def dump(self) -> str:
        """Text of at most 5,500 characters; 1,370 once they are many."""
        if self._exact is not None:
            return EXACTLY + b64encode(array("I", self._exact).tobytes()).decode()
        return ABOUT + b64encode(bytes.fromhex(self._registers.hex()[1::2])).decode()

    @classmethod
    def load(cls, text: str) -> Distinct:
        """What `dump` gave. Raises `ValueError` for anything else."""
        made = cls()
        data = b64decode(text[1:], validate=True)
        if text[:1] == EXACTLY and len(data) % 4 == 0 and len(data) <= 4 * EXACT:
            hashes = array("I")
            hashes.frombytes(data)
            made._exact = set(hashes)
        elif text[:1] == ABOUT and len(data) == REGISTERS // 2:
            made._exact = None
            made._registers = bytearray.fromhex("0" + "0".join(data.hex()))
            made._floor = min(made._registers)
        else:
            raise ValueError("not a count of different values")
        return made

    def __repr__(self) -> str:
        return f"<Distinct {'' if self._exact is not None else '≈ '}{len(self):,}>"


def _estimate(registers: bytearray) -> float:
    """Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", algorithm 6."""
    ranks = [registers.count(rank) for rank in range(DEPTH + 2)]
    total = REGISTERS * _tau(1 - ranks[DEPTH + 1] / REGISTERS)
    for rank in range(DEPTH, 0, -1):
        total = 0.5 * (total + ranks[rank])
    total += REGISTERS * _sigma(ranks[0] / REGISTERS)
    return REGISTERS * REGISTERS / (2 * math.log(2) * max(total, 1 / (1 << DEPTH)))


def _sigma(x: float) -> float:
    """For registers that are still empty; *x*: their share, below 1."""
    total, before, weight = x, -1.0, 1.0
    while total != before:
        before = total
        x *= x
        total += x * weight
        weight += weight
    return total


def _tau(x: float) -> float:
    """For registers that can hold no more; 1 - *x*: their share."""
    if x in (0.0, 1.0):
        return 0.0
    total, before, weight = 1 - x, -1.0, 1.0
    while total != before:
        before = total
        x = math.sqrt(x)
        weight *= 0.5
        total -= (1 - x) ** 2 * weight
    return total / 3
