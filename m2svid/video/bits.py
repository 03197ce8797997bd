"""Bits of video headers: fixed lengths and Exp-Golomb codes, read and written.

Source: ITU-T H.265, 7.2 (bytes), 9.2 (codes).
"""

from __future__ import annotations


class BitReader:
    """Read bits from the first one on.

    Args:
        data: without emulation prevention.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
        self.place = 0

    def u(self, length: int) -> int:
        """A number of so many bits."""
        self.place += length
        return int(self._bits[self.place - length : self.place] or "0", 2)

    def ue(self) -> int:
        """A number in Exp-Golomb code."""
        zeros = self._bits.index("1", self.place) - self.place
        self.place += zeros
        return self.u(zeros + 1) - 1

    def se(self) -> int:
        """A number with a sign: 1, -1, 2, -2, ... are coded as 1, 2, 3, 4, ..."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def between(self, start: int, stop: int) -> str:
        """The bits from one place to another, as a string of 0 and 1."""
        return self._bits[start:stop]

    def content(self) -> str:
        """The bits that are left, without those that end a NAL unit: a 1 and zeros."""
        return self._bits[self.place : self._bits.rindex("1")]


def u(value: int, length: int) -> str:
    """A number as a string of so many bits."""
    return f"{value:0{length}b}" if length else ""


def ue(value: int) -> str:
    """A number as a string of bits in Exp-Golomb code."""
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def closed(bits: str) -> bytes:
    """The bytes of bits that are ended by a 1 and the zeros up to the next byte."""
    bits += "1" + "0" * (-(len(bits) + 1) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def unescape(payload: bytes) -> bytes:
    """The payload of a NAL unit without the bytes that keep start codes out of it."""
    parts, start = [], 0
    while (place := payload.find(b"\0\0\3", start)) >= 0:
        parts.append(payload[start : place + 2])
        start = place + 3
    return b"".join([*parts, payload[start:]])


def escape(payload: bytes) -> bytes:
    """The payload of a NAL unit with bytes that keep start codes out of it."""
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros == 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(escaped)
