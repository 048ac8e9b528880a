#!/usr/bin/env python3
"""Verify an exported ledger, without the server and without this project's other code.

This is the second, independent verifier. It was written from `docs/ledger-format.md` alone, and it
is meant to be read: section numbers below ("section 6", "10.5 step 3") are those of that document.
It is one file, longer than this project's files are otherwise, so that an auditor can take it away
and read it from top to bottom.

    verify_ledger.py BUNDLE... --key VKEY[@FROM-TO] [--since CHECKPOINT]
                     [--witness VKEY ... --witnesses-needed K] [--json]
    verify_ledger.py --receipt FILE --key VKEY[@FROM-TO]     the receipt of a run (section 11)
    verify_ledger.py FILE.ndjson...          plain exports: the hash chain only (section 6)

A BUNDLE is a directory or a `.tar.zst`. Exit codes: 0 VERIFIED (or a plain export that is
consistent), 10 VERIFIED_WITH_ERASURES, 11 INCOMPLETE, 12 TAMPERED, 13 UNTRUSTED, 4 a plain export
that is broken, 2 wrong usage or an input that cannot be read.

Python 3.9 or later and its standard library are enough. If the packages `blake3` and `cryptography`
are installed they do the same calculations faster (`--pure` does without them, `--self-test`
compares); reading `.tar.zst` takes the package `zstandard` or Python 3.14.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import concurrent.futures
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import struct
import sys
import tempfile
import time
import unicodedata
from array import array
from bisect import bisect_left
from collections import deque
from functools import lru_cache
from typing import (
    Any, BinaryIO, Callable, Deque, Dict, Generator, Iterable, Iterator, List, NamedTuple, Optional,
    Sequence, Set, Tuple,
)

blake3_package: Any = None
ed25519_package: Any = None
try:
    import blake3 as blake3_package
except ImportError:
    pass
try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519 as ed25519_package
except ImportError:
    pass

# ---------------------------------------------------------------------------------------------
# Limits and words of the format

MAX_INTEGER = 2**53 - 1  # section 2
MAX_PART_BYTES = 65_536  # section 2: data, and payload
MAX_LINE_BYTES = 135_168  # section 3
MAX_DEPTH = 127  # section 2.2
MAX_COMMIT_EVENTS = 1_000  # section 2.1
MAX_COMMIT_BYTES = 4_194_304  # section 2.1
MAX_NOTE_BYTES = 65_536  # section 5.4
MAX_NOTE_SIGNATURES = 64  # section 5.4
MAX_MANIFEST_BYTES = 1_048_576  # section 10.5 step 2
MAX_BOUNDARY_LINE_BYTES = 8_192  # section 10.5 step 6
MAX_ERASURE_LINE_BYTES = 143_360  # section 10.3
MAX_ARCHIVE_ENTRIES = 1_000  # section 10
MAX_RECEIPT_BYTES = 33_554_432  # section 11

CONTEXT = "stella-orchestrator 2026-11 "  # section 2.3
CONTEXT_DATA = CONTEXT + "ledger data v1"
CONTEXT_PAYLOAD = CONTEXT + "ledger payload v1"
CONTEXT_EVENT = CONTEXT + "ledger event v1"

ZEROS = b"0" * 64
DIGESTED_FILES = ("boundary.ndjson", "checkpoint", "erasures.ndjson", "events.ndjson")
BUNDLE_FILES = ("manifest.json",) + DIGESTED_FILES

VERIFIED = "VERIFIED"
VERIFIED_WITH_ERASURES = "VERIFIED_WITH_ERASURES"
INCOMPLETE = "INCOMPLETE"
TAMPERED = "TAMPERED"
UNTRUSTED = "UNTRUSTED"
CONSISTENT = "CONSISTENT"  # a plain export: nobody signed for it, so it is never "verified"
BROKEN = "BROKEN"

# From best to worst, as section 10.5 orders them for several bundles.
VERDICTS = (VERIFIED, VERIFIED_WITH_ERASURES, INCOMPLETE, TAMPERED, UNTRUSTED)
EXIT_CODES = {
    VERIFIED: 0, VERIFIED_WITH_ERASURES: 10, INCOMPLETE: 11, TAMPERED: 12, UNTRUSTED: 13,
    CONSISTENT: 0, BROKEN: 4,
}
EXIT_USAGE = 2


class Malformed(ValueError):
    """Bytes that are not of the form that a section asks for. The caller knows the verdict."""


class BadHeader(Malformed):
    """A header with the members that it must have, but not as step 4 wants them."""

    def __init__(self, reason: str, seq: int, end: int) -> None:
        super().__init__(reason)
        self.seq, self.end = seq, end


class Gap(Malformed):
    """The first line is later than it should be (10.5 step 5): something is missing."""


class Finding(Exception):
    """The step of section 10.5 or 11.1 that failed: a verdict, its reason and the seq concerned."""

    def __init__(self, verdict: str, reason: str, seq: Optional[int] = None) -> None:
        super().__init__(reason)
        self.verdict, self.reason, self.seq = verdict, reason, seq


class Unreadable(Exception):
    """An input that is not there or cannot be opened: no verdict, exit code 2."""


def shown(value: object, limit: int = 120) -> str:
    """Foreign text for a terminal: quoted, in ASCII, without control characters, cut."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return ascii(text if len(text) <= limit else text[:limit] + "...")


# ---------------------------------------------------------------------------------------------
# BLAKE3 (section 2.3), as its specification describes it

MASK32 = 0xFFFFFFFF
BLAKE3_IV = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)
BLAKE3_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
DERIVE_KEY_CONTEXT, DERIVE_KEY_MATERIAL = 32, 64
# Which four words each of the eight quarter rounds of a round mixes: columns, then diagonals.
QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)


def _blake3_schedule() -> Tuple[Tuple[int, ...], ...]:
    """For each quarter round of all seven rounds: its four words and its two message words."""
    order, steps = list(range(16)), []
    for _ in range(7):
        for number, words in enumerate(QUARTERS):
            steps.append(words + (order[2 * number], order[2 * number + 1]))
        order = [order[i] for i in BLAKE3_PERMUTATION]
    return tuple(steps)


BLAKE3_STEPS = _blake3_schedule()
Words = Tuple[int, ...]


def blake3_compress(key: Words, block: bytes, counter: int, length: int, flags: int) -> Words:
    """The compression function; only the first eight words of its output are ever needed here."""
    m = struct.unpack("<16I", block)
    v = list(key) + list(BLAKE3_IV[:4])
    v += [counter & MASK32, counter >> 32, length, flags]
    for a, b, c, d, x, y in BLAKE3_STEPS:
        va, vb, vc, vd = v[a], v[b], v[c], v[d]
        va = (va + vb + m[x]) & MASK32
        vd ^= va
        vd = (vd >> 16) | (vd << 16) & MASK32
        vc = (vc + vd) & MASK32
        vb ^= vc
        vb = (vb >> 12) | (vb << 20) & MASK32
        va = (va + vb + m[y]) & MASK32
        vd ^= va
        vd = (vd >> 8) | (vd << 24) & MASK32
        vc = (vc + vd) & MASK32
        vb ^= vc
        v[a], v[b], v[c], v[d] = va, (vb >> 7) | (vb << 25) & MASK32, vc, vd
    return tuple(v[i] ^ v[i + 8] for i in range(8))


class PureBlake3:
    """BLAKE3 with 32 bytes of output, fed piece by piece. `key` and `flags` choose the mode."""

    CHUNK = 1_024

    def __init__(self, key: Words = BLAKE3_IV, flags: int = 0) -> None:
        self.key, self.flags = key, flags
        self.buffer = bytearray()
        self.chunks = 0
        self.stack: List[Words] = []  # roots of whole subtrees, the largest first

    def update(self, data: bytes) -> None:
        """Take more input. A chunk is worked off only once more follows it: the last is special."""
        self.buffer += data
        whole = (len(self.buffer) - 1) // self.CHUNK
        for i in range(whole):
            self._finish_chunk(bytes(self.buffer[i * self.CHUNK:(i + 1) * self.CHUNK]))
        if whole > 0:
            del self.buffer[:whole * self.CHUNK]

    def digest(self) -> bytes:
        """The hash of all input so far."""
        node = self._chunk_output(bytes(self.buffer))
        for left in reversed(self.stack):
            node = self._parent_output(left, blake3_compress(*node))
        key, block, _, length, flags = node
        return struct.pack("<8I", *blake3_compress(key, block, 0, length, flags | ROOT))

    def hexdigest(self) -> str:
        """The same in hex."""
        return self.digest().hex()

    def _finish_chunk(self, chunk: bytes) -> None:
        value = blake3_compress(*self._chunk_output(chunk))
        self.chunks += 1
        total = self.chunks
        while total % 2 == 0:  # each trailing zero of the count is a subtree that is now whole
            value = blake3_compress(*self._parent_output(self.stack.pop(), value))
            total //= 2
        self.stack.append(value)

    def _chunk_output(self, chunk: bytes) -> Tuple[Words, bytes, int, int, int]:
        """The arguments of the chunk's last compression; that one may turn out to be the root."""
        blocks = max(1, (len(chunk) + 63) // 64)
        value, flags = self.key, self.flags | CHUNK_START
        for i in range(blocks - 1):
            value = blake3_compress(value, chunk[i * 64:i * 64 + 64], self.chunks, 64, flags)
            flags = self.flags
        last = chunk[(blocks - 1) * 64:]
        return value, last.ljust(64, b"\0"), self.chunks, len(last), flags | CHUNK_END

    def _parent_output(self, left: Words, right: Words) -> Tuple[Words, bytes, int, int, int]:
        return self.key, struct.pack("<16I", *left, *right), 0, 64, self.flags | PARENT


@lru_cache(maxsize=16)
def _context_key(context: str) -> Words:
    """The key that a context string stands for (first half of `derive_key`)."""
    hasher = PureBlake3(flags=DERIVE_KEY_CONTEXT)
    hasher.update(context.encode())
    return struct.unpack("<8I", hasher.digest())


def pure_derive_key(context: str, data: bytes) -> bytes:
    """`derive_key(context, data)` without any package."""
    hasher = PureBlake3(_context_key(context), DERIVE_KEY_MATERIAL)
    hasher.update(data)
    return hasher.digest()


def package_derive_key(context: str, data: bytes) -> bytes:
    """`derive_key(context, data)` by the package `blake3`."""
    return blake3_package.blake3(data, derive_key_context=context).digest()


# ---------------------------------------------------------------------------------------------
# Ed25519 by the strict rule (section 5.4)

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)
Point = Tuple[int, int, int, int]  # X, Y, Z, T with x = X/Z, y = Y/Z, x*y = T/Z
NEUTRAL: Point = (0, 1, 1, 0)


def point_add(p: Point, q: Point) -> Point:
    """The complete addition law (RFC 8032, section 5.1.4)."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_multiply(scalar: int, point: Point) -> Point:
    """`scalar` times `point`. Not constant in time: a verifier has no secrets."""
    result = NEUTRAL
    while scalar > 0:
        if scalar & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        scalar >>= 1
    return result


def point_equal(p: Point, q: Point) -> bool:
    """Whether two representations are of one point."""
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def point_decode(text: bytes) -> Optional[Point]:
    """The point that 32 bytes encode; None if they are no canonical encoding of one."""
    number = int.from_bytes(text, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P != 0:
        x = x * SQRT_MINUS_1 % P
    if (x * x - x2) % P != 0 or (x == 0 and sign == 1):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def sound_point(text: bytes) -> Optional[Point]:
    """The point, unless it is of small order: such a one would hold for many messages at once."""
    point = point_decode(text)
    if point is None or point_equal(point_multiply(8, point), NEUTRAL):
        return None
    return point


_BASE = point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
assert _BASE is not None  # a constant of the curve
BASE: Point = _BASE


def pure_equation_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether [S]B = R + [k]A, without cofactor. The points were checked before."""
    r, a = point_decode(signature[:32]), point_decode(public)
    if r is None or a is None:
        return False
    s = int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return point_equal(point_multiply(s, BASE), point_add(r, point_multiply(k, a)))


def package_equation_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """The same by the package `cryptography`."""
    try:
        ed25519_package.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def signature_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """Strict verification: canonical encodings, S < L, no point of small order."""
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= L:
        return False
    if sound_point(public) is None or sound_point(signature[:32]) is None:
        return False
    return equation_holds(public, message, signature)


# What calculates: set by `use_packages`, in each process.
derive_key: Callable[[str, bytes], bytes] = pure_derive_key
new_blake3: Callable[[], Any] = PureBlake3
equation_holds: Callable[[bytes, bytes, bytes], bool] = pure_equation_holds


def use_packages(allowed: bool) -> None:
    """Let the packages that are installed do the calculations, or none of them."""
    global derive_key, new_blake3, equation_holds
    blake3_there = allowed and blake3_package is not None
    derive_key = package_derive_key if blake3_there else pure_derive_key
    new_blake3 = blake3_package.blake3 if blake3_there else PureBlake3
    ed25519_there = allowed and ed25519_package is not None
    equation_holds = package_equation_holds if ed25519_there else pure_equation_holds


use_packages(True)

# ---------------------------------------------------------------------------------------------
# Canonical JSON (section 2.2), checked on the bytes as they stand

# One string. Each byte can be read in one way only, so that matching takes linear time.
_STRING = (
    rb'"[^"\\\x00-\x1f]*'
    rb'(?:\\(?:["\\bfnrt]|u00(?:0[1-7bef]|1[0-9a-f]))[^"\\\x00-\x1f]*)*"'
)
_VALUE = re.compile(
    rb"(?P<string>" + _STRING + rb")"
    rb"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-][0-9]+)?)"
    rb"|(?P<word>true|false|null)"
    rb"|(?P<open>[\[{])"
)
_NAME = re.compile(rb"(" + _STRING + rb"):")


def _sort_key(quoted: bytes) -> bytes:
    """The UTF-16 code units of a member name, as bytes that compare in their order."""
    return json.loads(quoted).encode("utf-16-be")


_cached_sort_key = lru_cache(maxsize=4_096)(_sort_key)  # the same few names occur in every event
CACHED_NAME_BYTES = 64  # so that foreign names cannot fill the memory


def ecmascript_number(value: float) -> str:
    """A finite double as ECMAScript writes it (`Number::toString`)."""
    if value == 0:
        return "0"
    sign, text = ("-", repr(-value)) if value < 0 else ("", repr(value))
    # `repr` has the shortest digits that read back as this double; only its layout differs.
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or "0")
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    shown_exponent = ("+" if point > 0 else "-") + str(abs(point - 1))
    return sign + digits[0] + ("." + digits[1:] if count > 1 else "") + "e" + shown_exponent


def is_canonical_number(token: bytes) -> bool:
    """Whether a number token is the one way in which its double is written."""
    if token.isdigit() and len(token) <= 15:
        return True  # the grammar already refuses leading zeros
    if len(token) > 32:  # the longest canonical form has 25 characters
        return False
    value = float(token)
    return value not in (float("inf"), float("-inf")) and (
        ecmascript_number(value).encode() == token
    )


def canonical_end(text: bytes, at: int, max_depth: int = MAX_DEPTH) -> int:
    """Where the canonical JSON value that begins at `at` ends.

    Walks over the tokens and compares each with its only form; nothing is parsed into a value and
    written again. The caller has checked that the whole text is UTF-8. `open_names` has an entry
    for each container that is open: the sort key of an object's latest name, None for an array
    (and for an object only until its first name is read).
    """
    open_names: List[Optional[bytes]] = []
    while True:
        token = _VALUE.match(text, at)
        if token is None:
            raise Malformed(f"not canonical JSON at byte {at} of its line")
        at, kind = token.end(), token.lastgroup
        if kind == "number" and not is_canonical_number(token.group()):
            raise Malformed(f"the number {shown(token.group())} is not in its canonical form")
        if kind == "open":
            if len(open_names) == max_depth:
                raise Malformed(f"arrays and objects stand more than {max_depth} deep")
            is_object = token.group() == b"{"
            if text[at:at + 1] != (b"}" if is_object else b"]"):
                open_names.append(None)
                if is_object:
                    at = _next_name(text, at, open_names)
                continue
            at += 1
        at = _after_value(text, at, open_names)
        if not open_names:
            return at


def _after_value(text: bytes, at: int, open_names: List[Optional[bytes]]) -> int:
    """Close what ends after a value, up to the next value or the end of everything."""
    while open_names:
        following = text[at:at + 1]
        in_object = open_names[-1] is not None
        if following == b",":
            return _next_name(text, at + 1, open_names) if in_object else at + 1
        if following != (b"}" if in_object else b"]"):
            raise Malformed(f"not canonical JSON at byte {at} of its line")
        open_names.pop()
        at += 1
    return at


def _next_name(text: bytes, at: int, open_names: List[Optional[bytes]]) -> int:
    """Read a member name, which must sort after the one before it in the same object."""
    name = _NAME.match(text, at)
    if name is None:
        raise Malformed(f"no canonical member name at byte {at} of its line")
    quoted, before = name.group(1), open_names[-1]
    key = _cached_sort_key(quoted) if len(quoted) <= CACHED_NAME_BYTES else _sort_key(quoted)
    if before is not None and key <= before:
        raise Malformed(f"the member name {shown(quoted)} is out of order or occurs twice")
    open_names[-1] = key
    return name.end()


def canonical_object_end(text: bytes, at: int) -> int:
    """The same for a value that must be an object."""
    if text[at:at + 1] != b"{":
        raise Malformed(f"no JSON object at byte {at} of its line")
    return canonical_end(text, at)


def check_utf8(text: bytes) -> None:
    """Whether bytes are UTF-8 (Python's decoder refuses surrogates and overlong forms)."""
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed(f"not valid UTF-8 at byte {error.start} of its line") from None


def load_canonical(text: bytes) -> Any:
    """A whole text that must be one canonical JSON value, as a Python value."""
    check_utf8(text)
    if canonical_end(text, 0) != len(text):
        raise Malformed("something stands after the JSON value")
    return json.loads(text)


# ---------------------------------------------------------------------------------------------
# One line by itself (section 6, steps 1 to 6)

_TENANT = rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LEDGER = rb"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/" + _TENANT
_NAME_ID = rb"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?"
_RUN_ID = rb"[0-7][0-9A-HJKMNP-TV-Z]{25}"
_STREAM = (
    rb"(?:run/" + _RUN_ID + rb"|(?:dag|schedule|plugin)/" + _NAME_ID
    + rb"|(?:control|ledger)/" + _TENANT + rb")"
)
_ACTOR = rb"(?:user|worker|system):[A-Za-z0-9._@|-]{1,128}"
_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
_HEX = rb"[0-9a-f]{64}"
_FROM_0 = rb"(?:0|[1-9][0-9]{0,15})"
_FROM_1 = rb"[1-9][0-9]{0,15}"
_HEADER = re.compile(
    rb'\{"actor":"' + _ACTOR + rb'","commitSeq":(' + _FROM_0 + rb'),"dataHash":"(' + _HEX
    + rb')","ledger":"(' + _LEDGER + rb')","payloadHash":"(' + _HEX + rb')","prev":"(' + _HEX
    + rb')","recordedAt":"(' + _TIME + rb')","schema":(' + _FROM_1 + rb'),"seq":(' + _FROM_0
    + rb'),"stream":"(' + _STREAM + rb')","streamVersion":(' + _FROM_1
    + rb'),"type":"([A-Z][A-Za-z0-9]{0,63})","v":1\}'
)
_FRAME_START = b'{"data":'
_FRAME_HASH = re.compile(rb',"hash":"(' + _HEX + rb')","header":')
_FRAME_PAYLOAD = b',"payload":'
_FRAME_NO_PAYLOAD = b',"payload":null,"salt":null}'
_FRAME_SALT = re.compile(rb',"salt":"([0-9a-f]{32})"\}')
_TIME_ONLY = re.compile(_TIME)
_LEDGER_ONLY = re.compile(_LEDGER)
_RUN_ID_ONLY = re.compile(_RUN_ID)
_HEX_ONLY = re.compile(_HEX)


# The members and the punctuation of a header alone: enough to read its seq (10.5 step 8).
_HEADER_OUTLINE = re.compile(
    rb'\{"actor":S,"commitSeq":N,"dataHash":S,"ledger":S,"payloadHash":S,"prev":S,"recordedAt":S,'
    rb'"schema":N,"seq":(N),"stream":S,"streamVersion":N,"type":S,"v":N\}'
    .replace(b":S", rb':"[^"\\]*"').replace(b":N", b":" + _FROM_0)
    .replace(b"(N)", b"(" + _FROM_0 + b")")
)


class Header(NamedTuple):
    """The members of a header that checks need. Texts stay the bytes that they are."""

    seq: int
    commit_seq: int
    stream_version: int
    data_hash: bytes
    ledger: bytes
    payload_hash: bytes
    prev: bytes
    recorded_at: bytes
    schema: int
    stream: bytes
    type: bytes


class Event(NamedTuple):
    """What the checks between lines need of one line."""

    header: Header
    hash: bytes  # 32 bytes
    size: int  # bytes of data and payload together
    erased: bool


class EventParts(NamedTuple):
    """A line cut apart, in the form of section 3 (steps 1 to 4); no hash is checked yet."""

    data: bytes
    hash: bytes
    header_text: bytes
    header: Header
    payload: Optional[bytes]
    salt: bytes


@lru_cache(maxsize=4_096)
def date_exists(date: bytes) -> bool:
    """Whether YYYY-MM-DD is in the calendar (Gregorian, from the year 0000 on)."""
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:10])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return 1 <= month <= 12 and 1 <= day <= days[month - 1]


def header_at(text: bytes, at: int) -> Tuple[Header, int]:
    """The header that begins at `at`, and where it ends (step 4)."""
    found = _HEADER.match(text, at)
    if found is None:
        reason = "step 4: the header is not of the form that it must have"
        outline = _HEADER_OUTLINE.match(text, at)
        if outline is None:
            raise Malformed(reason)
        raise BadHeader(reason, int(outline.group(1)), outline.end())
    (commit_seq, data_hash, ledger, payload_hash, prev, recorded_at, schema, seq, stream,
     stream_version, event_type) = found.groups()
    header = Header(
        int(seq), int(commit_seq), int(stream_version), data_hash, ledger, payload_hash, prev,
        recorded_at, int(schema), stream, event_type,
    )
    if max(header.seq, header.commit_seq, header.stream_version, header.schema) > MAX_INTEGER:
        raise BadHeader("step 4: an integer of the header is beyond 2^53-1", header.seq,
                        found.end())
    if not date_exists(recorded_at[:10]):
        raise BadHeader(f"step 4: the date in {shown(recorded_at)} does not exist", header.seq,
                        found.end())
    return header, found.end()


def check_line_bytes(line: bytes) -> None:
    """Step 1, for a line without its line feed."""
    if not line:
        raise Malformed("step 1: an empty line")
    if len(line) > MAX_LINE_BYTES:
        raise Malformed(f"step 1: a line of more than {MAX_LINE_BYTES} bytes")
    if line.startswith(b"\xef\xbb\xbf"):
        raise Malformed("step 1: a byte order mark")
    if line.endswith(b"\r"):
        raise Malformed("step 1: the line ends with a carriage return")
    try:
        check_utf8(line)
    except Malformed as error:
        raise Malformed(f"step 1: {error}") from None


def part_at(line: bytes, at: int, what: str) -> bytes:
    """Data or payload, beginning at `at` (step 3)."""
    try:
        end = canonical_object_end(line, at)
    except Malformed as error:
        raise Malformed(f"step 3: {what}: {error}") from None
    if end - at > MAX_PART_BYTES:
        raise Malformed(f"step 3: the {what} has more than {MAX_PART_BYTES} bytes")
    return line[at:end]


def cut_line(line: bytes) -> EventParts:
    """Steps 1 to 4: cut a line into its parts, whose bytes are the ones that were hashed."""
    check_line_bytes(line)
    if not line.startswith(_FRAME_START):
        raise Malformed('step 2: the line does not begin with {"data":')
    data = part_at(line, len(_FRAME_START), "data")
    frame = _FRAME_HASH.match(line, len(_FRAME_START) + len(data))
    if frame is None:
        raise Malformed('step 2: no "hash" and "header" after the data')
    bad_header: Optional[BadHeader] = None
    header: Any = None  # a Header, or `bad_header` is raised once the rest of the line is checked
    try:
        header, at = header_at(line, frame.end())
    except BadHeader as error:
        bad_header, at = error, error.end
    payload, salt = None, b""
    if line[at:] != _FRAME_NO_PAYLOAD:
        if not line.startswith(_FRAME_PAYLOAD, at):
            raise Malformed('step 2: no "payload" after the header')
        payload = part_at(line, at + len(_FRAME_PAYLOAD), "payload")
        end = _FRAME_SALT.fullmatch(line, at + len(_FRAME_PAYLOAD) + len(payload))
        if end is None:
            raise Malformed('step 2: the line does not end with "salt" after the payload')
        salt = bytes.fromhex(end.group(1).decode())
    if bad_header is not None:
        raise bad_header
    return EventParts(data, frame.group(1), line[frame.end():at], header, payload, salt)


def check_hashes(parts: EventParts) -> Event:
    """Steps 5 and 6: what was cut out is what was hashed."""
    header = parts.header
    if derive_key(CONTEXT_DATA, parts.data).hex().encode() != header.data_hash:
        raise Malformed("step 5: the data is not what dataHash commits to")
    if parts.payload is not None:
        payload_hash = derive_key(CONTEXT_PAYLOAD, parts.salt + parts.payload)
        if payload_hash.hex().encode() != header.payload_hash:
            raise Malformed("step 5: salt and payload are not what payloadHash commits to")
    event_hash = derive_key(CONTEXT_EVENT, parts.header_text)
    if event_hash.hex().encode() != parts.hash:
        raise Malformed("step 5: the header does not have the hash that the line gives")
    erased = parts.payload is None and header.payload_hash != ZEROS
    return Event(header, event_hash, len(parts.data) + len(parts.payload or b""), erased)


def parse_event(line: bytes) -> Event:
    """Steps 1 to 6 for one line, without its line feed."""
    return check_hashes(cut_line(line))


# ---------------------------------------------------------------------------------------------
# Each line after the one before it (section 6, steps 7 to 14)


class Chain:
    """The checks between neighbouring lines. Holds the last line and the size of its commit."""

    def __init__(self, start: Optional[Tuple[int, bytes]] = None,
                 ledger: Optional[bytes] = None) -> None:
        """`start` is the seq and `prev` that the first line must have, if they are known."""
        self.start, self.ledger = start, ledger
        self.first: Optional[Event] = None
        self.last: Optional[Event] = None
        self.commit_events = self.commit_bytes = 0

    def follow(self, event: Event) -> None:
        """Check the next line against those before it, and go on to it."""
        header = event.header
        if self.ledger is not None and header.ledger != self.ledger:
            raise Malformed(f"step 7: an event of another ledger, {shown(header.ledger)}")
        if self.last is None:
            self._begin(header)
            self.first, self.ledger = event, header.ledger
        else:
            self._continue(header, self.last)
        self._count(event)
        self.last = event

    def _begin(self, header: Header) -> None:
        """Steps 13 and 14, after what the manifest says of the first line."""
        if self.start is not None:
            seq, prev = self.start
            if header.seq > seq:
                raise Gap(f"the events begin at seq {header.seq}")
            if header.seq != seq:
                raise Malformed(f"step 8: seq {header.seq} instead of {seq}")
            if header.prev != prev:
                raise Malformed("step 9: prev is not the hash of the event before")
        if header.commit_seq != header.seq:
            raise Malformed("step 13: the file begins within a commit")
        if header.seq == 0:
            opened = (header.type == b"LedgerOpened" and header.stream_version == 1
                      and header.stream == b"ledger/" + header.ledger.split(b"/")[1]
                      and header.prev == ZEROS)
            if not opened:
                raise Malformed("step 14: the event at seq 0 does not open a ledger")

    def _continue(self, header: Header, last: Event) -> None:
        """Steps 8 to 12, except for the size of the commit."""
        before = last.header
        if header.seq != before.seq + 1:
            raise Malformed(f"step 8: seq {header.seq} instead of {before.seq + 1}")
        if header.prev != last.hash.hex().encode():
            raise Malformed("step 9: prev is not the hash of the line before")
        if header.recorded_at < before.recorded_at:
            raise Malformed("step 10: recordedAt is before that of the line before")
        if header.commit_seq != header.seq:
            if header.commit_seq != before.commit_seq:
                raise Malformed("step 11: commitSeq is neither the line's own seq nor the last one")
            if header.stream != before.stream or header.recorded_at != before.recorded_at:
                raise Malformed("step 11: stream or recordedAt change within a commit")
        if header.stream == before.stream and header.stream_version != before.stream_version + 1:
            raise Malformed("step 12: streamVersion is not one more than in the line before")

    def _count(self, event: Event) -> None:
        """The limits of a commit (step 11)."""
        if event.header.commit_seq == event.header.seq:
            self.commit_events = self.commit_bytes = 0
        self.commit_events += 1
        self.commit_bytes += event.size
        if self.commit_events > MAX_COMMIT_EVENTS or self.commit_bytes > MAX_COMMIT_BYTES:
            raise Malformed("step 11: a commit of more events or bytes than one may have")


# ---------------------------------------------------------------------------------------------
# Reading lines: in constant memory, parsed by several processes

BLOCK_BYTES = 262_144
PARALLEL_FROM_BYTES = 4_194_304  # below this, starting processes costs more than it saves
ParsedLine = Tuple[Optional[Event], str]  # an event, or why there is none


class Tail(NamedTuple):
    """How a file ended, apart from its whole lines."""

    text: bytes  # what stands after the last line feed
    too_long: bool


class LineBlocks:
    """Cuts a file into blocks of whole lines, and digests what it reads if asked to."""

    def __init__(self, stream: BinaryIO, hashers: Sequence[Any] = (),
                 progress: Optional["Progress"] = None) -> None:
        self.stream, self.hashers, self.progress = stream, hashers, progress
        self.bytes = 0
        self.tail = Tail(b"", False)

    def __iter__(self) -> Iterator[bytes]:
        """Blocks that end with a line feed. `tail` holds once the iteration has ended."""
        rest = b""
        while True:
            block = self.stream.read(BLOCK_BYTES)
            if not block:
                break
            self._account(block)
            cut = block.rfind(b"\n") + 1
            if cut:
                yield rest + block[:cut]
                rest = block[cut:]
            else:
                rest += block
            if len(rest) > MAX_LINE_BYTES:
                self.tail = Tail(b"", True)
                return
        self.tail = Tail(rest, False)

    def _account(self, block: bytes) -> None:
        self.bytes += len(block)
        for hasher in self.hashers:
            hasher.update(block)
        if self.progress is not None:
            self.progress.show(len(block))


def parse_block(block: bytes) -> List[ParsedLine]:
    """Steps 1 to 6 for each line of a block, up to the first line that fails."""
    parsed: List[ParsedLine] = []
    for line in block[:-1].split(b"\n"):
        try:
            parsed.append((parse_event(line), ""))
        except Malformed as error:
            parsed.append((None, str(error)))
            break
    return parsed


class Parser:
    """Runs `parse_block` over blocks, in order, in `jobs` processes or in this one."""

    def __init__(self, jobs: int, pure: bool) -> None:
        self.jobs, self.pure = jobs, pure

    def lines(self, blocks: Iterable[bytes], size: int) -> Generator[ParsedLine, None, None]:
        """Every line of the blocks, in order; `size` (of the file) decides how they are parsed."""
        if self.jobs < 2 or size < PARALLEL_FROM_BYTES:
            for block in blocks:
                yield from parse_block(block)
            return
        # Started afresh, not forked: the executor has threads, and a fork may copy a lock they hold.
        with concurrent.futures.ProcessPoolExecutor(
            self.jobs, multiprocessing.get_context("spawn"), use_packages, (not self.pure,)
        ) as pool:
            waiting: Deque[concurrent.futures.Future] = deque()
            # When the reader stops early, the few blocks that wait are still parsed: cancelling
            # them can leave Python 3.9 waiting for a result that never comes.
            for block in blocks:
                waiting.append(pool.submit(parse_block, block))
                if len(waiting) > 2 * self.jobs:  # this bounds the memory
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()


class Progress:
    """A line on the terminal that says how far reading has come."""

    def __init__(self, total: int, enabled: bool) -> None:
        self.total, self.done, self.enabled = total, 0, enabled
        self.started = self.shown = time.monotonic()

    def show(self, more: int) -> None:
        """Count bytes, and tell at most twice a second."""
        self.done += more
        now = time.monotonic()
        if self.enabled and now - self.shown > 0.5:
            self.shown = now
            rate = self.done / 1e6 / (now - self.started)
            percent = 100 * self.done // max(self.total, 1)
            sys.stderr.write(f"\r{percent:3d} %  {self.done / 1e6:.0f} MB  {rate:.1f} MB/s ")
            sys.stderr.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        """Take the line away."""
        if self.enabled:
            sys.stderr.write("\r" + " " * 50 + "\r")
            sys.stderr.flush()


# ---------------------------------------------------------------------------------------------
# The Merkle tree (section 5)


def leaf_hash(event_hash: bytes) -> bytes:
    """The leaf of an event (5.1)."""
    return hashlib.sha256(b"\0" + event_hash).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """An inner node (5.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


EMPTY_ROOT = hashlib.sha256(b"").digest()


def tile_levels(x: int, y: int) -> List[int]:
    """The levels of `tiles(x, y)` (5.3): at most 2 * 53 of them."""
    levels = []
    while x < y:
        level = (y - x).bit_length() - 1
        if x:
            level = min(level, (x & -x).bit_length() - 1)
        levels.append(level)
        x += 1 << level
    return levels


class RootStack:
    """The stack of 5.3 that leads from tiles and leaves to the root."""

    def __init__(self) -> None:
        self.stack: List[Tuple[int, bytes]] = []

    def push(self, level: int, value: bytes) -> None:
        """Put the root of the next 2^level leaves on the stack."""
        while self.stack and self.stack[-1][0] == level:
            value = node_hash(self.stack.pop()[1], value)
            level += 1
        self.stack.append((level, value))

    def root(self) -> bytes:
        """The root of all that was pushed."""
        if not self.stack:
            return EMPTY_ROOT
        value = self.stack[-1][1]
        for _, left in reversed(self.stack[:-1]):
            value = node_hash(left, value)
        return value


def inclusion_holds(index: int, size: int, leaf: bytes, proof: Sequence[bytes],
                    root: bytes) -> bool:
    """Check an inclusion proof (RFC 9162, section 2.1.3.2)."""
    if index >= size:
        return False
    fn, sn, value = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            value = node_hash(sibling, value)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = node_hash(value, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and value == root


def consistency_holds(old_size: int, size: int, old_root: bytes, root: bytes,
                      proof: Sequence[bytes]) -> bool:
    """Check a consistency proof (RFC 9162, section 2.1.4.2; edges: section 5.2)."""
    if old_size > size:
        return False
    if old_size == size:
        return not proof and old_root == root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_value = value = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old_value, value = node_hash(sibling, old_value), node_hash(sibling, value)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            value = node_hash(value, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and old_value == old_root and value == root


# ---------------------------------------------------------------------------------------------
# Keys and checkpoints (sections 5.4 and 10.6)

KEY_ED25519, KEY_COSIGNATURE = 0x01, 0x04


def strict_base64(text: str) -> bytes:
    """Base64 with its padding; unused bits must be zero, so that there is one text only."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"not base64: {shown(text)}") from None
    if base64.b64encode(value).decode() != text:
        raise Malformed(f"not base64 in its only form: {shown(text)}")
    return value


def is_key_name(name: str) -> bool:
    """A name of C2SP `signed-note`: not empty, no white space, no plus, no control character."""
    return bool(name) and "+" not in name and not any(
        c.isspace() or unicodedata.category(c) == "Cc" for c in name)


class VerifierKey(NamedTuple):
    """A key that the auditor pinned, with the tree sizes that it may sign."""

    name: str
    key_id: bytes
    public: bytes
    smallest: int = 0
    largest: int = MAX_INTEGER

    def signs(self, size: int) -> bool:
        """Whether the key may sign a tree of this size (10.7)."""
        return self.smallest <= size <= self.largest

    def text(self) -> str:
        """The key of a ledger as it is written, without the sizes (5.4)."""
        key = base64.b64encode(bytes([KEY_ED25519]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"


def parse_verifier_key(text: str, algorithm: int) -> VerifierKey:
    """`name+hex(key id)+base64(algorithm byte and public key)`."""
    parts = text.split("+", 2)
    if len(parts) != 3 or not is_key_name(parts[0]):
        raise Malformed(f"not a verifier key (name+id+key): {shown(text)}")
    name, key_id, key = parts[0], parts[1], strict_base64(parts[2])
    if len(key) != 33 or key[0] != algorithm:
        raise Malformed(f"not a verifier key of type {algorithm}: {shown(text)}")
    expected = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    if key_id != expected.hex():
        raise Malformed(f"the key id of {shown(text)} is not that of its name and key")
    if sound_point(key[1:]) is None:
        raise Malformed(f"the public key of {shown(text)} is no point, or of small order")
    return VerifierKey(name, expected, key[1:])


def parse_pinned_key(text: str) -> VerifierKey:
    """`VKEY`, `VKEY@FROM-TO` or `VKEY@FROM-`: a key of a ledger, with the sizes it may sign."""
    vkey, at, sizes = text.partition("@")
    key = parse_verifier_key(vkey, KEY_ED25519)
    if _LEDGER_ONLY.fullmatch(key.name.encode()) is None:
        raise Malformed(f"{shown(key.name)} is not the name of a ledger")
    if not at:
        return key
    found = re.fullmatch(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})?", sizes, re.ASCII)
    if found is None:
        raise Malformed(f"after @ comes FROM-TO or FROM-, not {shown(sizes)}")
    smallest, largest = int(found.group(1)), int(found.group(2) or MAX_INTEGER)
    if smallest > largest:
        raise Malformed(f"the range {sizes} is empty")
    return key._replace(smallest=smallest, largest=largest)


class NoteSignature(NamedTuple):
    """One signature line of a note."""

    name: str
    key_id: bytes
    signature: bytes

    def is_by(self, key: VerifierKey) -> bool:
        """Whether the line says that it is by this key."""
        return self.name == key.name and self.key_id == key.key_id


class Checkpoint(NamedTuple):
    """A signed statement of a ledger's size and root."""

    ledger: str
    size: int
    root: bytes
    signed: bytes
    signatures: List[NoteSignature]


def parse_checkpoint(text: bytes) -> Checkpoint:
    """A note of 5.4, by its form alone; no signature is checked."""
    if len(text) > MAX_NOTE_BYTES:
        raise Malformed(f"more than {MAX_NOTE_BYTES} bytes")
    check_utf8(text)
    if re.search(rb"[\x00-\x09\x0b-\x1f]", text):
        raise Malformed("a control character")
    lines = text.decode().split("\n")
    if len(lines) < 6 or lines[3] != "" or lines[-1] != "":
        raise Malformed("not three lines, an empty one and signatures, each with its line feed")
    ledger, size, root = lines[:3]
    if _LEDGER_ONLY.fullmatch(ledger.encode()) is None:
        raise Malformed(f"the first line is not the name of a ledger: {shown(ledger)}")
    if re.fullmatch(r"0|[1-9][0-9]{0,15}", size, re.ASCII) is None or int(size) > MAX_INTEGER:
        raise Malformed(f"the second line is not a tree size: {shown(size)}")
    if len(strict_base64(root)) != 32:
        raise Malformed("the third line is not a root of 32 bytes")
    signatures = [parse_signature_line(line) for line in lines[4:-1]]
    if len(signatures) > MAX_NOTE_SIGNATURES:
        raise Malformed(f"more than {MAX_NOTE_SIGNATURES} signature lines")
    signed = "".join(line + "\n" for line in lines[:3]).encode()
    return Checkpoint(ledger, int(size), strict_base64(root), signed, signatures)


def parse_signature_line(line: str) -> NoteSignature:
    """`— <name> <base64 of (4 bytes key id, then the signature)>`."""
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "\u2014" or not is_key_name(parts[1]):
        raise Malformed(f"not a signature line: {shown(line)}")
    value = strict_base64(parts[2])
    if len(value) < 5:
        raise Malformed("a signature line without a signature")
    return NoteSignature(parts[1], value[:4], value[4:])


def cosignature_holds(key: VerifierKey, line: NoteSignature, signed: bytes) -> bool:
    """Check a witness's line (10.6)."""
    if len(line.signature) != 72:
        return False
    seconds = int.from_bytes(line.signature[:8], "big")
    message = f"cosignature/v1\ntime {seconds}\n".encode() + signed
    return signature_holds(key.public, message, line.signature[8:])


class Trust(NamedTuple):
    """What the auditor brought along."""

    keys: List[VerifierKey]
    since: Optional[bytes] = None
    witnesses: Tuple[VerifierKey, ...] = ()
    witnesses_needed: int = 0


def check_signed(checkpoint: Checkpoint, keys: Sequence[VerifierKey], what: str) -> VerifierKey:
    """10.5 step 3: a pinned key of this ledger signed this size, and no such key's line lies.

    Returns the (first) key that speaks for the checkpoint.
    """
    keys = [key for key in keys if key.name == checkpoint.ledger]
    if not keys:
        raise Finding(UNTRUSTED, f"{what} is of ledger {checkpoint.ledger}, for which no key is "
                                 "pinned")
    speaking: List[VerifierKey] = []
    for line in checkpoint.signatures:
        owners = [key for key in keys if line.is_by(key)]
        holding = [key for key in owners
                   if signature_holds(key.public, checkpoint.signed, line.signature)]
        if owners and not holding:
            raise Finding(UNTRUSTED, f"{what} bears a wrong signature by {shown(line.name)}")
        speaking += [key for key in holding if key.signs(checkpoint.size)]
    if not speaking:
        raise Finding(UNTRUSTED, f"{what} bears no signature by a pinned key that may sign tree "
                                 f"size {checkpoint.size}")
    return speaking[0]


def check_witnessed(checkpoint: Checkpoint, trust: Trust, where: str) -> None:
    """10.5 step 3: enough witnesses cosigned, and no line of theirs is wrong."""
    cosigned = set()
    for line in checkpoint.signatures:
        owners = [key for key in trust.witnesses if line.is_by(key)]
        holding = [key for key in owners if cosignature_holds(key, line, checkpoint.signed)]
        if owners and not holding:
            raise Finding(UNTRUSTED, f"{where}: a wrong cosignature by {shown(line.name)}")
        cosigned.update(holding)
    if len(cosigned) < trust.witnesses_needed:
        raise Finding(UNTRUSTED, f"{where}: {len(cosigned)} of the witnesses cosigned, "
                                 f"{trust.witnesses_needed} are needed")


def trusted_checkpoint(text: bytes, trust: Trust, what: str, step: str, ledger: str,
                       tree_size: int) -> Tuple[Checkpoint, VerifierKey]:
    """10.5 step 3: the checkpoint of `what` (which says its ledger and tree size), and its key."""
    try:
        checkpoint = parse_checkpoint(text)
    except Malformed as error:
        raise Finding(TAMPERED, f"{step}: checkpoint: {error}") from None
    key = check_signed(checkpoint, trust.keys, f"{step}: checkpoint")
    check_witnessed(checkpoint, trust, f"{step}: checkpoint")
    if ledger != checkpoint.ledger:
        raise Finding(TAMPERED, f"{step}: the {what} is of ledger {ledger}, the checkpoint of "
                                f"{checkpoint.ledger}")
    if tree_size != checkpoint.size:
        raise Finding(TAMPERED, f"{step}: treeSize is {tree_size}, the checkpoint's is "
                                f"{checkpoint.size}")
    return checkpoint, key


# ---------------------------------------------------------------------------------------------
# The manifest (section 10.1)


class FileDigest(NamedTuple):
    """What the manifest says of a file."""

    bytes: int
    blake3: str
    sha256: str


class Manifest(NamedTuple):
    """What a bundle says it is."""

    ledger: str
    first_seq: int
    events: int
    erased: int
    prev: bytes
    last_hash: bytes
    tree_size: int
    left: List[bytes]
    right: List[bytes]
    consistency: Optional[Tuple[int, List[bytes]]]
    window_from: bytes
    window_to: bytes
    files: Dict[str, FileDigest]

    @property
    def right_seq(self) -> int:
        """The seq of the right neighbour (10.1)."""
        return self.first_seq + self.events


def integer(value: Any, what: str) -> int:
    """An integer of the format: 0 to 2^53-1. (`True` is an int to Python, not to JSON.)"""
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise Malformed(f"{what} is not an integer from 0 to 2^53-1")
    return value


def members(value: Any, names: str, what: str) -> Dict[str, Any]:
    """An object with exactly these members."""
    if type(value) is not dict or sorted(value) != sorted(names.split()):
        raise Malformed(f"{what} is not an object of exactly: {names}")
    return value


def text_of(value: Any, pattern: "re.Pattern[bytes]", what: str) -> bytes:
    """A string that the pattern describes wholly."""
    if type(value) is not str or pattern.fullmatch(value.encode()) is None:
        raise Malformed(f"{what} is not of its form")
    return value.encode()


def hashes_of(value: Any, what: str) -> List[bytes]:
    """An array of hashes in hex, as bytes."""
    if type(value) is not list:
        raise Malformed(f"{what} is not an array")
    return [bytes.fromhex(text_of(item, _HEX_ONLY, what).decode()) for item in value]


def time_of(value: Any, what: str) -> bytes:
    """A time in the form of `recordedAt`."""
    text = text_of(value, _TIME_ONLY, what)
    if not date_exists(text[:10]):
        raise Malformed(f"{what} is a date that does not exist")
    return text


def parse_manifest(text: bytes) -> Manifest:
    """10.5 step 2. A later format is UNTRUSTED, whatever else the manifest holds."""
    if len(text) > MAX_MANIFEST_BYTES:
        raise Malformed(f"more than {MAX_MANIFEST_BYTES} bytes")
    if text[-1:] != b"\n":
        raise Malformed("it does not end in a line feed")
    value = load_canonical(text[:-1])
    if type(value) is not dict or "format" not in value:
        raise Malformed("not an object with a format")
    if integer(value["format"], "format") != 1:
        raise Finding(UNTRUSTED, f"manifest: format {value['format']} is of a later release; this "
                                 "verifier knows format 1")
    members(value, "consistency erased events files firstSeq format lastHash lastSeq ledger left "
                   "prev right treeSize window", "manifest")
    window = members(value["window"], "from to", "window")
    files = members(value["files"], " ".join(DIGESTED_FILES), "files")
    manifest = Manifest(
        ledger=text_of(value["ledger"], _LEDGER_ONLY, "ledger").decode(),
        first_seq=integer(value["firstSeq"], "firstSeq"),
        events=integer(value["events"], "events"),
        erased=integer(value["erased"], "erased"),
        prev=text_of(value["prev"], _HEX_ONLY, "prev"),
        last_hash=text_of(value["lastHash"], _HEX_ONLY, "lastHash"),
        tree_size=integer(value["treeSize"], "treeSize"),
        left=hashes_of(value["left"], "left"),
        right=hashes_of(value["right"], "right"),
        consistency=parse_consistency(value["consistency"]),
        window_from=time_of(window["from"], "window.from"),
        window_to=time_of(window["to"], "window.to"),
        files={name: parse_file_digest(files[name], name) for name in DIGESTED_FILES},
    )
    check_manifest(manifest, value["lastSeq"])
    return manifest


def parse_consistency(value: Any) -> Optional[Tuple[int, List[bytes]]]:
    """The older size and the proof, or nothing."""
    if value is None:
        return None
    members(value, "proof size", "consistency")
    return integer(value["size"], "consistency.size"), hashes_of(value["proof"], "proof")


def parse_file_digest(value: Any, name: str) -> FileDigest:
    """An entry of `files`."""
    members(value, "blake3 bytes sha256", f"files.{name}")
    return FileDigest(
        integer(value["bytes"], "bytes"),
        text_of(value["blake3"], _HEX_ONLY, "blake3").decode(),
        text_of(value["sha256"], _HEX_ONLY, "sha256").decode(),
    )


def check_manifest(manifest: Manifest, last_seq: Any) -> None:
    """The members must agree with each other (10.5 step 2)."""
    if manifest.events == 0:
        if last_seq is not None or manifest.last_hash != manifest.prev:
            raise Malformed("an empty window has lastSeq null and lastHash = prev")
    elif integer(last_seq, "lastSeq") != manifest.right_seq - 1:
        raise Malformed("lastSeq is not firstSeq + events - 1")
    if (manifest.prev == ZEROS) != (manifest.first_seq == 0):
        raise Malformed("prev is zeros if and only if firstSeq is 0")
    if manifest.window_from > manifest.window_to:
        raise Malformed("window.from is after window.to")


# ---------------------------------------------------------------------------------------------
# A bundle, step by step (section 10.5)


class Boundary(NamedTuple):
    """The neighbours of the window, as far as `boundary.ndjson` is in its form (10.2)."""

    left: Optional[Event]
    right: Optional[Event]
    problem: str  # why the file is not of its form; empty if it is


_BOUNDARY_LINE = re.compile(rb'\{"hash":"(' + _HEX + rb')","header":')
_BOUNDARY_SIDE = re.compile(rb',"side":"(left|right)"\}')


def parse_boundary_line(line: bytes) -> Tuple[str, Event]:
    """A neighbour: its side, and its header with the hash of that header."""
    if len(line) > MAX_BOUNDARY_LINE_BYTES:
        raise Malformed(f"a line of more than {MAX_BOUNDARY_LINE_BYTES} bytes")
    frame = _BOUNDARY_LINE.match(line)
    if frame is None:
        raise Malformed("a line that is not of the form of 10.2")
    header, end = header_at(line, frame.end())
    side = _BOUNDARY_SIDE.fullmatch(line, end)
    if side is None:
        raise Malformed("a line that does not end with its side")
    event_hash = derive_key(CONTEXT_EVENT, line[frame.end():end])
    if event_hash.hex().encode() != frame.group(1):
        raise Malformed(f"the {side.group(1).decode()} header does not have the hash given")
    return side.group(1).decode(), Event(header, event_hash, 0, False)


def parse_boundary(text: bytes, has_left: bool) -> Boundary:
    """`boundary.ndjson`: at most one line for each side, the left one first."""
    found: Dict[str, Event] = {}
    try:
        if text and text[-1:] != b"\n":
            raise Malformed("the last line does not end with a line feed")
        for line in text[:-1].split(b"\n") if text else []:
            side, event = parse_boundary_line(line)
            if side in found or "right" in found or (side == "left" and not has_left):
                raise Malformed(f"a {side} line that does not belong there")
            found[side] = event
    except Malformed as error:
        return Boundary(found.get("left"), found.get("right"), str(error))
    return Boundary(found.get("left"), found.get("right"), "")


def read_capped(path: str, limit: int) -> bytes:
    """A small file, up to one byte more than its limit so that the limit can be noticed."""
    with open(path, "rb") as file:
        return file.read(limit + 1)


class Outcome(NamedTuple):
    """The verdict on a bundle, and what step 17 of section 6 asks to write down."""

    verdict: str
    reason: str
    seq: Optional[int]
    manifest: Any = None  # a Manifest if it got past step 2
    checkpoint: Optional[Checkpoint] = None

    def held(self) -> bool:
        """Whether every step held."""
        return self.verdict in (VERIFIED, VERIFIED_WITH_ERASURES)


class BundleVerifier:
    """Steps 1 to 9 of section 10.5 for the bundle in one folder."""

    def __init__(self, folder: str, trust: Trust, parser: Parser, progress: bool) -> None:
        self.folder, self.trust, self.parser = folder, trust, parser
        self.progress = progress
        self.manifest: Any = None  # a Manifest from step 2 on
        self.checkpoint: Any = None  # a Checkpoint from step 3 on
        self.erased = array("Q")
        self.tree = RootStack()
        self.digests: Dict[str, Tuple[int, str, str]] = {}

    def verify(self) -> Outcome:
        """The verdict of the first step that fails, or that all hold."""
        try:
            self.check_files()
            self.check_manifest()
            self.check_checkpoint()
            if self.trust.since is not None:
                self.check_since(self.trust.since)
            text = read_capped(self.path("boundary.ndjson"), 2 * (MAX_BOUNDARY_LINE_BYTES + 1))
            boundary = parse_boundary(text, self.manifest.first_seq > 0)
            self.begin_tree(boundary)
            self.check_events()
            self.digest("boundary.ndjson", text)
            self.check_boundary(boundary)
            self.check_tree(boundary)
            self.check_erasures()
            self.check_digests()
        except Finding as found:
            return Outcome(found.verdict, found.reason, found.seq, self.manifest, self.checkpoint)
        verdict = VERIFIED_WITH_ERASURES if self.manifest.erased else VERIFIED
        return Outcome(verdict, "every step holds", None, self.manifest, self.checkpoint)

    def path(self, name: str) -> str:
        """The path of one of the five files."""
        return os.path.join(self.folder, name)

    def digest(self, name: str, text: bytes) -> None:
        """Keep the digests of a small file, of the very bytes that are verified."""
        hasher = new_blake3()
        hasher.update(text)
        self.digests[name] = len(text), hasher.hexdigest(), hashlib.sha256(text).hexdigest()

    def check_files(self) -> None:
        """Step 1."""
        missing = [name for name in BUNDLE_FILES
                   if os.path.islink(self.path(name)) or not os.path.isfile(self.path(name))]
        if missing:
            raise Finding(INCOMPLETE, f"step 1: {', '.join(missing)} is missing")

    def check_manifest(self) -> None:
        """Step 2."""
        try:
            self.manifest = parse_manifest(
                read_capped(self.path("manifest.json"), MAX_MANIFEST_BYTES))
        except Malformed as error:
            raise Finding(TAMPERED, f"step 2: manifest.json: {error}") from None

    def check_checkpoint(self) -> None:
        """Step 3."""
        text = read_capped(self.path("checkpoint"), MAX_NOTE_BYTES)
        self.digest("checkpoint", text)
        self.checkpoint, _ = trusted_checkpoint(
            text, self.trust, "manifest", "step 3", self.manifest.ledger, self.manifest.tree_size)

    def check_since(self, text: bytes) -> None:
        """Step 4."""
        try:
            since = parse_checkpoint(text)
        except Malformed as error:
            raise Finding(UNTRUSTED, f"step 4: the older checkpoint: {error}") from None
        check_signed(since, self.trust.keys, "step 4: the older checkpoint")
        new = self.checkpoint
        if since.ledger != new.ledger:
            raise Finding(UNTRUSTED, f"step 4: the older checkpoint is of ledger {since.ledger}")
        if since.size > new.size:
            raise Finding(INCOMPLETE, f"step 4: the bundle's tree has {new.size} leaves, the older "
                                      f"checkpoint's {since.size}: the bundle is older, or the "
                                      "ledger was cut")
        size: Optional[int] = since.size
        proof: List[bytes] = []
        if 0 < since.size < new.size:
            size, proof = self.manifest.consistency or (None, [])
        if size != since.size:
            raise Finding(INCOMPLETE, "step 4: the manifest has no consistency proof from tree "
                                      f"size {since.size}")
        if not consistency_holds(since.size, new.size, since.root, new.root, proof):
            raise Finding(TAMPERED, "step 4: the bundle's tree does not extend that of the older "
                                    f"checkpoint of size {since.size}")

    def begin_tree(self, boundary: Boundary) -> None:
        """What stands left of the events in the tree. Step 7 decides whether it was right."""
        start = max(self.manifest.first_seq - 1, 0)
        for level, value in zip(tile_levels(0, start), self.manifest.left):
            self.tree.push(level, value)
        if boundary.left is not None:
            self.tree.push(0, leaf_hash(boundary.left.hash))

    def check_events(self) -> None:
        """Step 5."""
        manifest = self.manifest
        chain = Chain((manifest.first_seq, manifest.prev), manifest.ledger.encode())
        path = self.path("events.ndjson")
        hashers = (new_blake3(), hashlib.sha256())
        size = os.path.getsize(path)
        count = 0
        with open(path, "rb") as file, Progress(size, self.progress) as progress:
            blocks = LineBlocks(file, hashers, progress)
            with contextlib.closing(self.parser.lines(blocks, size)) as lines:
                for event, problem in lines:
                    self.check_event(chain, event, problem, count)
                    count += 1
        self.check_tail(blocks.tail, count)
        self.digests["events.ndjson"] = (
            blocks.bytes, hashers[0].hexdigest(), hashers[1].hexdigest())
        if chain.last is not None and chain.last.hash.hex().encode() != manifest.last_hash:
            raise Finding(TAMPERED, "step 5: the hash of the last event is not lastHash",
                          manifest.right_seq - 1)
        if len(self.erased) != manifest.erased:
            raise Finding(TAMPERED, f"step 5: {len(self.erased)} payloads are erased, the manifest "
                                    f"says {manifest.erased}")

    def check_event(self, chain: Chain, event: Optional[Event], problem: str, index: int) -> None:
        """Step 5 for one line; `index` counts from 0."""
        manifest, seq = self.manifest, self.manifest.first_seq + index
        where = f"step 5: line {index + 1} of events.ndjson: "
        if index >= manifest.events:
            raise Finding(TAMPERED, where + f"the manifest says {manifest.events} events", seq)
        if event is None:
            raise Finding(TAMPERED, where + problem, seq)
        try:
            chain.follow(event)
        except Gap as error:
            raise Finding(INCOMPLETE, where + str(error), seq) from None
        except Malformed as error:
            raise Finding(TAMPERED, where + str(error), seq) from None
        if not manifest.window_from <= event.header.recorded_at < manifest.window_to:
            raise Finding(TAMPERED, where + "step 16: recordedAt lies outside the window", seq)
        if event.erased:
            self.erased.append(seq)
        self.tree.push(0, leaf_hash(event.hash))

    def check_tail(self, tail: Tail, count: int) -> None:
        """How the file ends, after `count` whole lines that hold."""
        seq = self.manifest.first_seq + count
        if tail.too_long:
            raise Finding(TAMPERED, f"step 5: line {count + 1} of events.ndjson: step 1: a line of "
                                    f"more than {MAX_LINE_BYTES} bytes", seq)
        if count < self.manifest.events:
            how = "ends within a line" if tail.text else "ends"
            raise Finding(INCOMPLETE, f"step 5: events.ndjson {how} after {count} of "
                                      f"{self.manifest.events} events", seq)
        if tail.text:
            raise Finding(TAMPERED, "step 5: something stands after the last event", seq)

    def check_boundary(self, boundary: Boundary) -> None:
        """Step 6."""
        manifest, left, right = self.manifest, boundary.left, boundary.right
        left_seq, right_seq = manifest.first_seq - 1, manifest.right_seq
        if boundary.problem:
            raise Finding(TAMPERED, f"step 6: boundary.ndjson: {boundary.problem}")
        if left is None and manifest.first_seq > 0:
            raise Finding(INCOMPLETE, "step 6: the left neighbour is missing", left_seq)
        if right is None:
            raise Finding(INCOMPLETE, "step 6: the right neighbour is missing: nothing shows that "
                                      "the window ends there", right_seq)
        ledger = manifest.ledger.encode()
        if left is not None and (left.header.seq != left_seq or left.header.ledger != ledger
                                 or left.hash.hex().encode() != manifest.prev):
            raise Finding(TAMPERED, "step 6: the left neighbour is not the event before the window",
                          left_seq)
        if (right.header.seq != right_seq or right.header.ledger != ledger
                or right.header.prev != manifest.last_hash):
            raise Finding(TAMPERED, "step 6: the right neighbour is not the event after the window",
                          right_seq)
        if left is not None and left.header.recorded_at >= manifest.window_from:
            raise Finding(INCOMPLETE, "step 6: the left neighbour belongs into the window",
                          left_seq)
        if right.header.recorded_at < manifest.window_to:
            raise Finding(INCOMPLETE, "step 6: the right neighbour belongs into the window",
                          right_seq)
        if right.header.commit_seq != right_seq:
            raise Finding(TAMPERED, "step 6: the window ends within a commit", right_seq)

    def check_tree(self, boundary: Boundary) -> None:
        """Step 7."""
        manifest, right = self.manifest, boundary.right
        if right is None or right.header.seq >= manifest.tree_size:
            raise Finding(INCOMPLETE, "step 7: the checkpoint's tree does not hold the right "
                                      "neighbour", manifest.right_seq)
        left_levels = tile_levels(0, max(manifest.first_seq - 1, 0))
        right_levels = tile_levels(right.header.seq + 1, manifest.tree_size)
        if (len(left_levels), len(right_levels)) != (len(manifest.left), len(manifest.right)):
            raise Finding(TAMPERED, "step 7: the range proof does not have the hashes that it must "
                                    "have", manifest.first_seq)
        self.tree.push(0, leaf_hash(right.hash))
        for level, value in zip(right_levels, manifest.right):
            self.tree.push(level, value)
        if self.tree.root() != self.checkpoint.root:
            raise Finding(TAMPERED, "step 7: the events and the range proof do not lead to the "
                                    "root that was signed", manifest.first_seq)

    def check_erasures(self) -> None:
        """Step 8."""
        hashers = (new_blake3(), hashlib.sha256())
        explained = Explained(self.erased)
        size, last_seq = 0, -1
        with open(self.path("erasures.ndjson"), "rb") as file:
            while True:
                line = file.readline(MAX_ERASURE_LINE_BYTES + 1)
                if not line:
                    break
                size += len(line)
                for hasher in hashers:
                    hasher.update(line)
                last_seq, seqs = self.check_erasure(line, last_seq)
                explained.name(seqs)
        self.digests["erasures.ndjson"] = size, hashers[0].hexdigest(), hashers[1].hexdigest()
        missing = explained.first_missing()
        if missing is not None:
            raise Finding(TAMPERED, "step 8: a payload was erased that no DataErased names",
                          missing)

    def check_erasure(self, line: bytes, last_seq: int) -> Tuple[int, List[int]]:
        """One line of `erasures.ndjson`: its event's seq, and the seqs that the event names."""
        if line[-1:] != b"\n":
            raise Finding(TAMPERED, "step 8: erasures.ndjson: a line without its line feed, or "
                                    "longer than one may be")
        return check_erasure(line[:-1], last_seq, self.checkpoint, "step 8: erasures.ndjson")

    def check_digests(self) -> None:
        """Step 9."""
        for name in DIGESTED_FILES:
            if self.digests[name] != tuple(self.manifest.files[name]):
                raise Finding(TAMPERED, f"step 9: {name} is not the file that the manifest lists")


class Explained:
    """Which erased payloads of the window a `DataErased` event names (10.5 step 8)."""

    def __init__(self, erased: "array[int]") -> None:
        self.erased = erased  # ascending
        self.named = bytearray(len(erased))

    def name(self, seqs: Iterable[int]) -> None:
        """An event names these seqs; those that are not erased in the window do not matter."""
        for seq in seqs:
            place = bisect_left(self.erased, seq)
            if place < len(self.erased) and self.erased[place] == seq:
                self.named[place] = 1

    def first_missing(self) -> Optional[int]:
        """The first erased seq that is not named."""
        place = self.named.find(0)
        return None if place < 0 else self.erased[place]


def check_erasure(text: bytes, last_seq: int, checkpoint: Checkpoint,
                  where: str) -> Tuple[int, List[int]]:
    """10.5 step 8 for one event with its proof, after the one at `last_seq`."""
    seq = None
    try:
        if len(text) > MAX_ERASURE_LINE_BYTES:
            raise Malformed(f"an event and its proof of more than {MAX_ERASURE_LINE_BYTES} bytes")
        parts, proof = cut_erasure_line(text)
        seq = parts.header.seq
        event = check_hashes(parts)
        seqs = erased_seqs(parts, checkpoint.ledger)
        if seq <= last_seq:
            raise Malformed("the events are not in the order of seq")
        if not inclusion_holds(seq, checkpoint.size, leaf_hash(event.hash), proof,
                               checkpoint.root):
            raise Malformed("the event's proof does not lead to the root that was signed")
    except Malformed as error:
        seq = error.seq if isinstance(error, BadHeader) else seq
        raise Finding(TAMPERED, f"{where}: {error}", seq) from None
    return seq, seqs


_ERASURE_START = b'{"event":'
_ERASURE_PROOF = b',"proof":['
_ERASURE_HASHES = re.compile(rb'(?:"' + _HEX + rb'"(?:,"' + _HEX + rb'")*)?\]\}')


def cut_erasure_line(line: bytes) -> Tuple[EventParts, List[bytes]]:
    """The event and the proof of a line of 10.3."""
    if not line.startswith(_ERASURE_START):
        raise Malformed('a line that does not begin with {"event":')
    # The hashes of the proof cannot hold this text, so its last place is the right one.
    at = line.rfind(_ERASURE_PROOF)
    if at < 0 or _ERASURE_HASHES.fullmatch(line, at + len(_ERASURE_PROOF)) is None:
        raise Malformed("a line that does not end with a proof")
    proof = re.findall(_HEX, line[at + len(_ERASURE_PROOF):])
    return cut_line(line[len(_ERASURE_START):at]), [bytes.fromhex(h.decode()) for h in proof]


def erased_seqs(parts: EventParts, ledger: str) -> List[int]:
    """The seqs that a `DataErased` event names; its data and payload are those of 10.3."""
    header = parts.header
    if header.ledger != ledger.encode() or header.type != b"DataErased" or header.schema != 1:
        raise Malformed("not a DataErased event of schema 1 and of this ledger")
    if header.stream.decode() != "ledger/" + ledger.split("/")[1]:
        raise Malformed("a DataErased event outside the stream of its ledger")
    data = members(json.loads(parts.data), "runId seqs", "the data")
    text_of(data["runId"], _RUN_ID_ONLY, "runId")
    seqs = data["seqs"]
    if type(seqs) is not list:
        raise Malformed("seqs is not an array")
    for seq in seqs:
        integer(seq, "a seq")
    if not seqs or any(a >= b for a, b in zip(seqs, [*seqs[1:], header.seq])):
        raise Malformed("seqs are none, not ascending, or not before the event")
    if parts.payload is None:
        raise Malformed("a DataErased event without its reason")
    payload = members(json.loads(parts.payload), "reason", "the payload")
    if type(payload["reason"]) is not str:
        raise Malformed("the reason is not a text")
    return seqs


# ---------------------------------------------------------------------------------------------
# Several bundles (section 10.5, last paragraph)


def check_continues(before: Manifest, after: Manifest) -> None:
    """Whether the window of `after` begins where that of `before` ends."""
    if after.ledger != before.ledger or after.window_from != before.window_to:
        raise Finding(INCOMPLETE, "the bundle does not begin where the one before it ends")
    if after.first_seq != before.right_seq or after.prev != before.last_hash:
        raise Finding(TAMPERED, "the bundle does not continue the events of the one before it",
                      after.first_seq)


def verify_bundles(paths: Sequence[str], trust: Trust, parser: Parser,
                   progress: bool) -> List[Outcome]:
    """The outcome of each bundle and, after them, of each place where two do not join."""
    outcomes = [verify_bundle(path, trust, parser, progress) for path in paths]
    joints = []
    for before, after in zip(outcomes, outcomes[1:]):
        if before.held() and after.held():
            try:
                check_continues(before.manifest, after.manifest)
            except Finding as found:
                joints.append(Outcome(found.verdict, found.reason, found.seq, after.manifest))
    return outcomes + joints


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The verdict of all: the first of the worst."""
    return max(outcomes, key=lambda outcome: VERDICTS.index(outcome.verdict))


def verify_bundle(path: str, trust: Trust, parser: Parser, progress: bool) -> Outcome:
    """A folder as it is; an archive unpacked into a folder that is removed afterwards."""
    if os.path.isdir(path):
        return BundleVerifier(path, trust, parser, progress).verify()
    with open(path, "rb") as file:
        if file.read(len(ZSTD_MAGIC)) != ZSTD_MAGIC:
            raise Unreadable(f"{path} is no bundle: a bundle is a directory or a .tar.zst")
    with tempfile.TemporaryDirectory(prefix="verify_ledger-") as folder:
        try:
            unpack(path, folder)
        except Finding as found:
            return Outcome(found.verdict, found.reason, found.seq)
        return BundleVerifier(folder, trust, parser, progress).verify()


# ---------------------------------------------------------------------------------------------
# A bundle as `.tar.zst` (section 10)

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_MAX_WINDOW_BYTES = 2**27
TAR_BLOCK = 512
# No more of these is unpacked than it takes to see that they are too large.
UNPACKED_CAPS = {
    "manifest.json": MAX_MANIFEST_BYTES + 1,
    "checkpoint": MAX_NOTE_BYTES + 1,
    "boundary.ndjson": 2 * (MAX_BOUNDARY_LINE_BYTES + 1) + 1,
}


COMPRESSED_PIECE_BYTES = 1_024  # a piece of this size unpacks to 32 MiB at most


def cut_archive(where: str) -> Finding:
    """The archive ends early: what it should hold is not there."""
    return Finding(INCOMPLETE, f"step 1: the archive ends within {where}")


def odd_archive(what: str) -> Finding:
    """The archive is not of the form of section 10."""
    return Finding(TAMPERED, f"step 1: the archive is not a plain ustar in one zstd frame: {what}")


def new_decompressor() -> Tuple[Any, Any]:
    """What decompresses one zstd frame piece by piece, and the error that it raises."""
    with contextlib.suppress(ImportError):
        import zstandard
        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW_BYTES)
        return decompressor.decompressobj(), zstandard.ZstdError
    with contextlib.suppress(ImportError):
        from compression import zstd
        options = {zstd.DecompressionParameter.window_log_max: 27}
        return zstd.ZstdDecompressor(options=options), zstd.ZstdError
    raise Unreadable("reading .tar.zst takes the package zstandard or Python 3.14; or unpack it "
                     "first")


def unpacked_pieces(file: BinaryIO) -> Iterator[bytes]:
    """What a file of one zstd frame unpacks to, piece by piece."""
    decompressor, zstd_error = new_decompressor()
    while True:
        piece = file.read(COMPRESSED_PIECE_BYTES)
        if not piece:
            break
        if decompressor.eof:
            raise odd_archive("something follows the frame")
        try:
            yield decompressor.decompress(piece)
        except zstd_error as error:
            raise odd_archive(f"zstd: {shown(error)}") from None
        if decompressor.unused_data:
            raise odd_archive("something follows the frame")
    if not decompressor.eof:
        raise cut_archive("its zstd frame")


class Unpacked:
    """Reads pieces as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.rest = pieces, b""

    def read(self, size: int) -> bytes:
        """From 1 to `size` bytes; none at the end."""
        while not self.rest:
            piece = next(self.pieces, None)
            if piece is None:
                return b""
            self.rest = piece
        part, self.rest = self.rest[:size], self.rest[size:]
        return part

    def read_exactly(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end of everything."""
        parts = []
        while size > 0:
            part = self.read(size)
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def tar_number(field: bytes) -> int:
    """An octal number of a tar header."""
    text = field.rstrip(b"\0 ").lstrip(b" ")
    if re.fullmatch(rb"[0-7]+", text) is None:
        raise odd_archive("a number in a tar header is not octal")
    return int(text, 8)


def unpack(path: str, folder: str) -> None:
    """Write the five files of an archive into a folder (section 10)."""
    found: Set[str] = set()
    with open(path, "rb") as file:
        stream = Unpacked(unpacked_pieces(file))
        for name, size in tar_entries(stream):
            if name is not None and name in found:
                raise Finding(TAMPERED, f"step 1: the archive holds {name} twice")
            if name is not None:
                found.add(name)
            copy_entry(stream, size, os.path.join(folder, name) if name else None,
                       UNPACKED_CAPS.get(name or "", size))
        while stream.read(BLOCK_BYTES):
            pass  # to see that the frame is whole


def tar_entries(stream: Unpacked) -> Iterator[Tuple[Optional[str], int]]:
    """Name and size of each entry; no name for those that mean nothing.

    The caller reads the content before it asks for the next entry.
    """
    for _ in range(MAX_ARCHIVE_ENTRIES + 1):
        header = stream.read_exactly(TAR_BLOCK)
        if not header or header == bytes(TAR_BLOCK):
            return
        if len(header) < TAR_BLOCK:
            raise cut_archive("a tar header")
        # The checksum is the sum of all bytes, its own eight counted as blanks.
        if sum(header) - sum(header[148:156]) + 8 * 32 != tar_number(header[148:156]):
            raise odd_archive("a tar header has a wrong checksum")
        kind = header[156:157]
        if kind not in (b"0", b"\0", b"1", b"2", b"5"):  # files, links, folders
            raise odd_archive(f"an entry of type {shown(kind)}")
        name = header[:100].split(b"\0")[0].decode("latin-1")
        is_file = kind in (b"0", b"\0") and not header[345:346].rstrip(b"\0")
        size = tar_number(header[124:136]) if kind in (b"0", b"\0") else 0
        yield (name if is_file and name in BUNDLE_FILES else None), size
    raise odd_archive(f"more than {MAX_ARCHIVE_ENTRIES} entries")


def copy_entry(stream: Unpacked, size: int, path: Optional[str], cap: int) -> None:
    """Read an entry with its padding; write at most `cap` bytes of it, or nothing."""
    padding = -size % TAR_BLOCK
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "wb")) if path else None
        while size > 0:
            part = stream.read(min(size, BLOCK_BYTES))
            if not part:
                raise cut_archive("a file")
            size -= len(part)
            if file is not None and cap > 0:
                file.write(part[:cap])
                cap -= len(part[:cap])
    if len(stream.read_exactly(padding)) < padding:
        raise cut_archive("a file")


# ---------------------------------------------------------------------------------------------
# The receipt of a run (section 11)

RECEIPT_MEMBERS = ("checkpoint", "erasures", "events", "format", "ledger", "runId", "treeSize")
# In a member of a receipt, an array, an object and a line stand around the data of an event.
RECEIPT_DEPTH = MAX_DEPTH + 3
RECEIPT_BLOCK_EVENTS = 200  # that many are parsed at once
RUN_CREATED = b"RunCreated"
RUN_ENDS = (b"RunSucceeded", b"RunFailed", b"RunCancelled", b"RunTimedOut")
_PROOF = re.compile(rb'\[(?:"' + _HEX + rb'"(?:,"' + _HEX + rb'")*)?\]')


class ProvenLine(NamedTuple):
    """A member of `events` or `erasures`, as the bytes that it is."""

    text: bytes
    line: bytes  # the event
    proof: bytes


class Receipt(NamedTuple):
    """What a receipt says it is."""

    ledger: str
    run_id: str
    tree_size: int
    checkpoint: bytes
    events: List[ProvenLine]
    erasures: List[ProvenLine]


def object_at(text: bytes, at: int, names: Sequence[str],
              what: str) -> Tuple[Dict[str, bytes], bool, int]:
    """The canonical object at `at`: its members of these names, whether it has exactly those, and
    where it ends. The values are cut out, not parsed.
    """
    if text[at:at + 1] != b"{":
        raise Malformed(f"{what} is not an object")
    found: Dict[str, bytes] = {}
    open_names: List[Optional[bytes]] = [None]
    count, at = 0, at + 1
    more = text[at:at + 1] != b"}"
    while more:
        value = _next_name(text, at, open_names)
        name, at = text[at + 1:value - 2].decode(), canonical_end(text, value, RECEIPT_DEPTH)
        if name in names:
            found[name] = text[value:at]
        count, more = count + 1, text[at:at + 1] == b","
        at += more
    if text[at:at + 1] != b"}":
        raise Malformed(f"{what} is not canonical JSON at byte {at}")
    return found, count == len(found) == len(names), at + 1


def scalar(value: bytes) -> Any:
    """A canonical value as Python value, unless it is an array or an object."""
    return None if value[:1] in (b"[", b"{") else json.loads(value)


def parse_receipt(text: bytes) -> Receipt:
    """11.1 step 1. A later format is UNTRUSTED, whatever else the receipt holds."""
    if len(text) > MAX_RECEIPT_BYTES:
        raise Malformed(f"more than {MAX_RECEIPT_BYTES} bytes")
    if text[-1:] != b"\n":
        raise Malformed("it does not end in a line feed")
    check_utf8(text)
    found, exactly, end = object_at(text, 0, RECEIPT_MEMBERS, "the receipt")
    if end != len(text) - 1:
        raise Malformed("something stands after the object")
    if "format" not in found:
        raise Malformed("not an object with a format")
    form = integer(scalar(found["format"]), "format")
    if form != 1:
        raise Finding(UNTRUSTED, f"step 1: format {form} is of a later release; this verifier "
                                 "knows format 1")
    if not exactly:
        raise Malformed(f"not an object of exactly: {' '.join(RECEIPT_MEMBERS)}")
    note = scalar(found["checkpoint"])
    if type(note) is not str:
        raise Malformed("checkpoint is not a string")
    return Receipt(
        ledger=text_of(scalar(found["ledger"]), _LEDGER_ONLY, "ledger").decode(),
        run_id=text_of(scalar(found["runId"]), _RUN_ID_ONLY, "runId").decode(),
        tree_size=integer(scalar(found["treeSize"]), "treeSize"),
        checkpoint=note.encode(),
        events=proven_lines(found["events"], "events"),
        erasures=proven_lines(found["erasures"], "erasures"),
    )


def proven_lines(text: bytes, what: str) -> List[ProvenLine]:
    """The members of `events` or `erasures`; the whole text is known to be canonical."""
    if text[:1] != b"[":
        raise Malformed(f"{what} is not an array")
    lines: List[ProvenLine] = []
    at = 1 if text != b"[]" else len(text)
    while at < len(text):  # after each member stands a comma, or the end of the array
        start = at
        found, exactly, at = object_at(text, at, ("event", "proof"), f"a member of {what}")
        if not exactly or found["event"][:1] != b"{":
            raise Malformed(f"a member of {what} is not an object of exactly: event proof")
        if _PROOF.fullmatch(found["proof"]) is None:
            raise Malformed(f"a proof in {what} is not an array of hashes")
        lines.append(ProvenLine(text[start:at], found["event"], found["proof"]))
        at += 1
    return lines


class ReceiptOutcome(NamedTuple):
    """The verdict on a receipt, and what is known of it by then."""

    verdict: str
    reason: str
    seq: Optional[int]
    receipt: Any = None  # a Receipt if it got past step 1
    checkpoint: Optional[Checkpoint] = None  # from step 2 on
    key: Optional[VerifierKey] = None
    events: Sequence[Event] = ()  # once every step holds


class ReceiptVerifier:
    """Steps 1 to 6 of section 11.1. Those of them that name no seq report none."""

    def __init__(self, trust: Trust, parser: Parser) -> None:
        self.trust, self.parser = trust, parser
        self.receipt: Any = None  # a Receipt from step 1 on
        self.checkpoint: Any = None  # a Checkpoint from step 2 on
        self.key: Optional[VerifierKey] = None
        self.events: List[Event] = []

    def verify(self, text: bytes) -> ReceiptOutcome:
        """The verdict of the first step that fails, or that all hold."""
        try:
            try:
                self.receipt = parse_receipt(text)
            except Malformed as error:
                raise Finding(TAMPERED, f"step 1: {error}") from None
            self.checkpoint, self.key = trusted_checkpoint(
                self.receipt.checkpoint, self.trust, "receipt", "step 2", self.receipt.ledger,
                self.receipt.tree_size)
            self.check_events()
            self.check_order()
            self.check_proofs()
            erased = self.check_erasures()
        except Finding as found:
            return ReceiptOutcome(found.verdict, found.reason, found.seq, self.receipt,
                                  self.checkpoint, self.key)
        last = "these are all events of the run" if has_ended(self.events) else (
            "the run was under way at this checkpoint, there may be more events")
        return ReceiptOutcome(VERIFIED_WITH_ERASURES if erased else VERIFIED,
                              f"every step holds; {last}", None, self.receipt, self.checkpoint,
                              self.key, self.events)

    def check_events(self) -> None:
        """Step 3."""
        lines = [proven.line for proven in self.receipt.events]
        # No line feed stands in canonical JSON, so that the lines can be put together to blocks.
        blocks = (b"\n".join(lines[i:i + RECEIPT_BLOCK_EVENTS]) + b"\n"
                  for i in range(0, len(lines), RECEIPT_BLOCK_EVENTS))
        ledger = self.receipt.ledger.encode()
        stream = b"run/" + self.receipt.run_id.encode()
        with contextlib.closing(self.parser.lines(blocks, sum(map(len, lines)))) as parsed:
            for event, problem in parsed:
                where = f"step 3: event {len(self.events) + 1} of the receipt: "
                if event is None:
                    raise Finding(TAMPERED, where + problem)
                if event.header.ledger != ledger:
                    raise Finding(TAMPERED, where + "an event of another ledger, "
                                            + shown(event.header.ledger), event.header.seq)
                if event.header.stream != stream:
                    raise Finding(TAMPERED, where + "an event of another stream, "
                                            + shown(event.header.stream), event.header.seq)
                self.events.append(event)

    def check_order(self) -> None:
        """Step 4."""
        if not self.events:
            raise Finding(TAMPERED, "step 4: the receipt holds no event")
        first = self.events[0].header
        if first.stream_version != 1 or first.type != RUN_CREATED:
            raise Finding(TAMPERED, f"step 4: the first event (seq {first.seq}) is not the one "
                                    "that created the run", first.seq)
        for before, after in zip(self.events, self.events[1:]):
            where = f"step 4: the event at seq {after.header.seq}: "
            if after.header.stream_version != before.header.stream_version + 1:
                raise Finding(TAMPERED, where + f"streamVersion {after.header.stream_version} "
                                        f"after {before.header.stream_version}", after.header.seq)
            if after.header.seq < before.header.seq:
                raise Finding(TAMPERED, where + f"it stands after seq {before.header.seq}",
                              after.header.seq)
            if after.header.recorded_at < before.header.recorded_at:
                raise Finding(TAMPERED, where + "recordedAt is before that of the event before",
                              after.header.seq)

    def check_proofs(self) -> None:
        """Step 5."""
        for event, proven in zip(self.events, self.receipt.events):
            proof = [bytes.fromhex(h.decode()) for h in re.findall(_HEX, proven.proof)]
            if not inclusion_holds(event.header.seq, self.receipt.tree_size,
                                   leaf_hash(event.hash), proof, self.checkpoint.root):
                raise Finding(TAMPERED, f"step 5: the proof of the event at seq {event.header.seq} "
                                        "does not lead to the root that was signed",
                              event.header.seq)

    def check_erasures(self) -> int:
        """Step 6; the number of erased payloads."""
        erased = array("Q", (event.header.seq for event in self.events if event.erased))
        explained, last_seq = Explained(erased), -1
        for proven in self.receipt.erasures:
            last_seq, seqs = check_erasure(proven.text, last_seq, self.checkpoint,
                                           "step 6: erasures")
            explained.name(seqs)
        missing = explained.first_missing()
        if missing is not None:
            raise Finding(TAMPERED, "step 6: a payload was erased that no DataErased names",
                          missing)
        return len(erased)


def has_ended(events: Sequence[Event]) -> bool:
    """Whether the last event of a run is one that ends it (11.1)."""
    return events[-1].header.type in RUN_ENDS


# ---------------------------------------------------------------------------------------------
# Plain exports (section 6)


class PlainOutcome(NamedTuple):
    """What the hash chain alone says."""

    verdict: str
    reason: str
    seq: Optional[int]
    chain: Chain
    events: int
    erased: List[int]  # the first few
    erased_count: int


SHOWN_ERASED = 1_000


def verify_plain(paths: Sequence[str], parser: Parser, progress: bool) -> PlainOutcome:
    """Steps 1 to 15 for files that continue each other."""
    chain, events, erased_count = Chain(), 0, 0
    erased: List[int] = []

    def outcome(verdict: str, reason: str, seq: Optional[int]) -> PlainOutcome:
        return PlainOutcome(verdict, reason, seq, chain, events, erased, erased_count)

    for path in paths:
        size, line = os.path.getsize(path), 0
        with open(path, "rb") as file, Progress(size, progress) as shown_progress:
            blocks = LineBlocks(file, (), shown_progress)
            with contextlib.closing(parser.lines(blocks, size)) as lines:
                for event, problem in lines:
                    line += 1
                    try:
                        if event is None:
                            raise Malformed(problem)
                        chain.follow(event)
                    except Malformed as error:
                        return outcome(BROKEN, f"{path}: line {line}: {error}", next_seq(chain))
                    events += 1
                    if event.erased:
                        erased_count += 1
                        erased += [event.header.seq] if erased_count <= SHOWN_ERASED else []
        if blocks.tail.text or blocks.tail.too_long:
            how = "a line of too many bytes" if blocks.tail.too_long else "no line feed at its end"
            return outcome(BROKEN, f"{path}: line {line + 1}: step 1: {how}", next_seq(chain))
    return outcome(CONSISTENT, "the hash chain holds; nobody signed for it (section 9)", None)


def next_seq(chain: Chain) -> Optional[int]:
    """The seq that the next line should have, if one came before."""
    return None if chain.last is None else chain.last.header.seq + 1


# ---------------------------------------------------------------------------------------------
# What is printed


def bundle_report(path: str, outcome: Outcome) -> Dict[str, Any]:
    """One bundle, as members of JSON."""
    report: Dict[str, Any] = {
        "path": path, "verdict": outcome.verdict, "seq": outcome.seq, "reason": outcome.reason}
    manifest, checkpoint = outcome.manifest, outcome.checkpoint
    if manifest is not None:
        report.update({
            "ledger": manifest.ledger, "from": manifest.window_from.decode(),
            "to": manifest.window_to.decode(), "events": manifest.events,
            "erased": manifest.erased, "firstSeq": manifest.first_seq,
            "lastSeq": manifest.right_seq - 1 if manifest.events else None,
            "prev": manifest.prev.decode(), "lastHash": manifest.last_hash.decode()})
    if checkpoint is not None:
        report.update({"treeSize": checkpoint.size,
                       "root": base64.b64encode(checkpoint.root).decode()})
    return report


def bundles_report(paths: Sequence[str], outcomes: List[Outcome]) -> Dict[str, Any]:
    """The verdict of all, and each bundle."""
    overall = worst(outcomes)
    return {
        "verdict": overall.verdict, "seq": overall.seq, "reason": overall.reason,
        "bundles": [bundle_report(path, outcome) for path, outcome in zip(paths, outcomes)],
    }


def receipt_report(path: str, outcome: ReceiptOutcome) -> Dict[str, Any]:
    """A receipt, as members of JSON. What it says of the run is told once every step holds."""
    report: Dict[str, Any] = {
        "verdict": outcome.verdict, "seq": outcome.seq, "reason": outcome.reason, "path": path}
    receipt, checkpoint, key = outcome.receipt, outcome.checkpoint, outcome.key
    if receipt is not None:
        report.update({"ledger": receipt.ledger, "runId": receipt.run_id,
                       "events": len(receipt.events)})
    if outcome.events:
        last = outcome.events[-1].header
        report.update({
            "erased": sum(event.erased for event in outcome.events),
            "firstSeq": outcome.events[0].header.seq, "lastSeq": last.seq,
            "lastType": last.type.decode(), "ended": has_ended(outcome.events)})
    if checkpoint is not None and key is not None:
        report.update({"treeSize": checkpoint.size,
                       "root": base64.b64encode(checkpoint.root).decode(), "key": key.text()})
    return report


def plain_report(outcome: PlainOutcome) -> Dict[str, Any]:
    """What step 17 asks to write down."""
    report: Dict[str, Any] = {
        "verdict": outcome.verdict, "seq": outcome.seq, "reason": outcome.reason,
        "events": outcome.events, "erased": outcome.erased_count, "erasedSeqs": outcome.erased}
    first, last = outcome.chain.first, outcome.chain.last
    if first is not None and last is not None:
        report.update({
            "ledger": first.header.ledger.decode(), "firstSeq": first.header.seq,
            "lastSeq": last.header.seq, "prev": first.header.prev.decode(),
            "lastHash": last.hash.hex()})
    return report


def print_report(report: Dict[str, Any], as_json: bool) -> None:
    """JSON on one line, or text."""
    if as_json:
        print(json.dumps(report))
        return
    print(report["verdict"])
    print(f"  reason    {report['reason']}")
    if report["seq"] is not None:
        print(f"  seq       {report['seq']}")
    for part in report.get("bundles", [report]):
        if "path" in part:
            print(f"{part['path']}: {part['verdict']}")
        for name in ("ledger", "runId", "from", "to", "events", "erased", "erasedSeqs", "firstSeq",
                     "lastSeq", "lastType", "ended", "prev", "lastHash", "treeSize", "root", "key"):
            if name in part:
                value = ("no", "yes")[part[name]] if name == "ended" else part[name]
                print(f"  {name:<9} {value}")


# ---------------------------------------------------------------------------------------------
# The command line


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; argparse leaves with exit code 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="verify_ledger.py",
        description="Verify bundles or plain exports of a ledger, or the receipt of a run, "
                    "offline.",
        epilog="The receipt of a run: verify_ledger.py --receipt run.json "
               "--key 'stella.example/acme+a3438e79+AQOh...'")
    parser.add_argument("inputs", nargs="*", metavar="BUNDLE",
                        help="folder or .tar.zst of a bundle; or plain exports, without keys")
    parser.add_argument("--key", action="append", default=[], metavar="VKEY[@FROM-TO]",
                        help="a pinned key of the ledger, and the tree sizes that it may sign")
    parser.add_argument("--receipt", metavar="FILE",
                        help="the receipt of a run, instead of bundles; give a --key with it")
    parser.add_argument("--since", metavar="FILE",
                        help="an older checkpoint of the same ledger that you hold")
    parser.add_argument("--witness", action="append", default=[], metavar="VKEY",
                        help="the key of a witness")
    parser.add_argument("--witnesses-needed", type=int, metavar="K",
                        help="how many of the witnesses must have cosigned (all)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="processes that parse and hash (one for each core)")
    parser.add_argument("--pure", action="store_true",
                        help="use the standard library only, even where packages are installed")
    parser.add_argument("--self-test", action="store_true",
                        help="compare the calculations of this file with those of the packages")
    options = parser.parse_args(arguments)
    if not options.inputs and options.receipt is None and not options.self_test:
        parser.error("nothing to verify: name a bundle, an export or a receipt")
    if options.receipt is not None and options.inputs:
        parser.error("a receipt is verified by itself: name no bundle or export with it")
    if options.receipt is not None and options.since is not None:
        parser.error("a receipt is not compared with an older checkpoint: leave out --since")
    return options


def parse_trust(options: argparse.Namespace) -> Trust:
    """Keys, older checkpoint and witnesses of the command line."""
    try:
        keys = [parse_pinned_key(text) for text in options.key]
        witnesses = {parse_verifier_key(text, KEY_COSIGNATURE) for text in options.witness}
    except Malformed as error:
        raise Unreadable(str(error)) from None
    needed = options.witnesses_needed
    if needed is None:
        needed = len(witnesses)
    if not 0 <= needed <= len(witnesses):
        raise Unreadable(f"--witnesses-needed {needed}, but {len(witnesses)} are given")
    since = None if options.since is None else read_capped(options.since, MAX_NOTE_BYTES)
    return Trust(keys, since, tuple(sorted(witnesses)), needed)


def is_bundle(path: str) -> bool:
    """A folder, or a file that is zstd by its first bytes or its name."""
    if os.path.isdir(path):
        return True
    if not os.path.isfile(path):
        raise Unreadable(f"{path}: no such file or folder")
    with open(path, "rb") as file:
        return file.read(4) == ZSTD_MAGIC or path.endswith(".tar.zst")


def run(options: argparse.Namespace) -> int:
    """Verify what the command line names; the exit code."""
    use_packages(not options.pure)
    if options.self_test:
        return self_test()
    trust = parse_trust(options)
    parser = Parser(max(1, options.jobs), options.pure)
    if options.receipt is not None:
        report = run_receipt(options.receipt, trust, parser)
    else:
        report = run_files(options.inputs, trust, parser)
    try:
        print_report(report, options.json)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has enough; the exit code still says the verdict
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_CODES[report["verdict"]]


def run_files(paths: Sequence[str], trust: Trust, parser: Parser) -> Dict[str, Any]:
    """Verify bundles or plain exports; the report."""
    kinds = {is_bundle(path) for path in paths}
    if len(kinds) != 1:
        raise Unreadable("bundles and plain exports cannot be verified together")
    progress = sys.stderr.isatty()
    if kinds == {True}:
        if not trust.keys:
            raise Unreadable("a bundle is verified against a pinned key: give --key")
        return bundles_report(paths, verify_bundles(paths, trust, parser, progress))
    if trust != Trust([]):
        raise Unreadable("a plain export bears no signature: keys, checkpoints and witnesses "
                         "have nothing to speak for; give a bundle")
    return plain_report(verify_plain(paths, parser, progress))


def run_receipt(path: str, trust: Trust, parser: Parser) -> Dict[str, Any]:
    """Verify a receipt; the report."""
    if not trust.keys:
        raise Unreadable("a receipt is verified against a pinned key: give --key")
    text = read_capped(path, MAX_RECEIPT_BYTES)
    return receipt_report(path, ReceiptVerifier(trust, parser).verify(text))


def self_test() -> int:
    """Known answers for the calculations of this file, and the packages' answers where installed.

    The BLAKE3 answer is the hash of no bytes; the Ed25519 one is test 2 of RFC 8032, section 7.1.
    """
    failures = []
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
    if PureBlake3().hexdigest() != (
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"):
        failures.append("BLAKE3 of no bytes")
    equations = [pure_equation_holds] + ([package_equation_holds] if ed25519_package else [])
    for holds in equations:
        if not holds(public, b"\x72", signature) or holds(public, b"\x73", signature):
            failures.append(f"Ed25519 by {holds.__name__}")
    for size in (0, 1, 64, 65, 1_023, 1_024, 1_025, 2_048, 3_073, 16_385):
        data = bytes(i % 251 for i in range(size))
        hasher = PureBlake3()
        hasher.update(data)
        if blake3_package and (
                hasher.digest() != blake3_package.blake3(data).digest()
                or pure_derive_key(CONTEXT_EVENT, data) != package_derive_key(CONTEXT_EVENT, data)):
            failures.append(f"BLAKE3 of {size} bytes")
    there = [name for name, package in (("blake3", blake3_package),
                                        ("cryptography", ed25519_package)) if package]
    print(f"compared with: {', '.join(there) or 'known answers only, no package is installed'}")
    print("\n".join(f"differs: {failure}" for failure in failures) or "all answers agree")
    return 1 if failures else 0


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Entry point. Whatever the input holds, there is a verdict or one line that says why not."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        return run(options)
    except Unreadable as error:
        print(f"verify_ledger: {error}", file=sys.stderr)
    except OSError as error:
        print(f"verify_ledger: cannot read the input: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("verify_ledger: interrupted, no verdict", file=sys.stderr)
        return 130
    except Exception as error:  # the last resort: an error of this program is never a verdict
        print(f"verify_ledger: no verdict, an error of the verifier: {error!r}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
