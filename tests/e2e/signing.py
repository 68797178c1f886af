"""Code signing as the client checks it: RSA with 1024 bits over the MD5 of a file, all in pure Python. Tests only.

The client compares with the 32 hexadecimal characters of the MD5, as text, padded by PKCS#1 v1.5 (block type 1),
without the DigestInfo that other programs put before a digest. Numbers travel as lines of 32 bytes in hexadecimal,
ended by a line with a point; a key says its 1024 bits first.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

_BITS = 1024
_BYTES = _BITS // 8
_EXPONENT = 65537
_BYTES_A_LINE = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A project's key pair."""

    modulus: int
    private_exponent: int

    def public_text(self) -> str:
        """Return the `code_sign_key` of a scheduler reply."""
        numbers = self.modulus.to_bytes(_BYTES, "big") + _EXPONENT.to_bytes(_BYTES, "big")
        return f"{_BITS}\n{_lines(numbers)}"

    def signature_text(self, md5_hex: str) -> str:
        """Return the `file_signature` of a file with this MD5."""
        text = md5_hex.encode()
        block = b"\x00\x01" + b"\xff" * (_BYTES - 3 - len(text)) + b"\x00" + text
        signature = pow(int.from_bytes(block, "big"), self.private_exponent, self.modulus)
        return _lines(signature.to_bytes(_BYTES, "big"))


def _lines(data: bytes) -> str:
    pieces = (data[start : start + _BYTES_A_LINE] for start in range(0, len(data), _BYTES_A_LINE))
    return "".join(f"{piece.hex()}\n" for piece in pieces) + ".\n"


@cache
def signing_key() -> SigningKey:
    """Return the key of all our test projects: the same in every run, and worth nothing."""
    numbers = random.Random("vmbridge end to end")
    while True:
        p, q = _prime(numbers), _prime(numbers)
        order = (p - 1) * (q - 1)
        if p != q and order % _EXPONENT:
            return SigningKey(p * q, pow(_EXPONENT, -1, order))


def _prime(numbers: random.Random) -> int:
    while True:
        # The two highest bits, so that the product has all its bits; odd.
        candidate = numbers.getrandbits(_BITS // 2) | 0b11 << (_BITS // 2 - 2) | 1
        if all(candidate % small for small in (3, 5, 7, 11, 13, 17, 19, 23)) and _probably_prime(candidate, numbers):
            return candidate


def _probably_prime(number: int, numbers: random.Random) -> bool:
    """Miller and Rabin's test, twenty times."""
    twos = (number - 1 & 1 - number).bit_length() - 1
    odd = number - 1 >> twos
    for _ in range(20):
        power = pow(numbers.randrange(2, number - 1), odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
