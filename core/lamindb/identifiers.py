"""Record ids: random base62 for what people make, derived base62 for what engines name."""

from __future__ import annotations

import hashlib
import secrets

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

FILE_ID_LENGTH = 20
RUN_ID_LENGTH = 20
TRANSFORM_ID_LENGTH = 12
STORAGE_ID_LENGTH = 8
USER_ID_LENGTH = 8


def random_id(length: int) -> str:
    """Return ``length`` base62 characters from the system's CSPRNG."""
    # 8 bits a character where 5.95 are needed: no character is likelier than another
    return _to_base62(int.from_bytes(secrets.token_bytes(length), "big"), width=length)


def derived_run_id(engine: str, engine_id: str) -> str:
    """Return the id of an engine's run, the same in every process that asks.

    Args: engine: ``prefect``, ``snakemake``, …; engine_id: globally unique within the engine.
    Returns: the first 20 base62 characters of SHA-256 over ``engine NUL engine_id``, the digest
             read as one big-endian number and padded to 43 characters.
    """
    number = int.from_bytes(hashlib.sha256(f"{engine}\0{engine_id}".encode()).digest(), "big")
    return _to_base62(number, width=43)[:RUN_ID_LENGTH]


def _to_base62(number: int, width: int) -> str:
    characters = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        characters.append(BASE62[digit])
    return "".join(reversed(characters))
