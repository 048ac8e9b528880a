#!/usr/bin/env python3
"""Tests of `verify_ledger.py`: test vectors, bundles and receipts made here, tampering, the tamper
corpus.

    python3 tools/test_verify_ledger.py

The standard library is enough. What makes the bundles here is written plainly and apart from the
verifier: the tree is the recursive definition of RFC 6962, JSON is written by `json`, and files are
put together from dictionaries. Only the hash function and the curve are the verifier's own; the
vectors and known answers hold those two.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import io
import json
import os
import random
import re
import struct
import sys
import tempfile
import unittest
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import verify_ledger as v  # noqa: E402  (the path is set just above)

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures")
LEDGER = "stella.example/acme"
OTHER_LEDGER = "stella.example/other"
SEED = bytes(range(32))
OTHER_SEED = bytes(range(1, 33))
RUN = "run/01JD0000000000000000000000"
OTHER_RUN = "run/01JD0000000000000000000001"

# ---------------------------------------------------------------------------------------------
# Making ledgers and bundles


def canonical(value: Any) -> bytes:
    """Canonical JSON, for the plain values that occur here."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Python writes 1e-07; strings are matched so as to be left alone.
    return re.sub(r'("(?:[^"\\]|\\.)*")|e-0', lambda found: found[1] or "e-", text).encode()


def derived(kind: str, data: bytes) -> str:
    """A hash of section 2.3 in hex."""
    return v.derive_key("stella-orchestrator 2026-11 " + kind, data).hex()


def at(seconds: float) -> str:
    """A time, counted from 2026-11-23T09:00:00Z; less than an hour."""
    whole = int(seconds)
    return f"2026-11-23T09:{whole // 60:02d}:{whole % 60:02d}.{round(seconds % 1 * 1e6):06d}Z"


class Ledger:
    """A ledger in memory: one dictionary with the members of its line for each event."""

    def __init__(self, name: str = LEDGER) -> None:
        self.name, self.lines = name, []  # type: str, List[Dict[str, Any]]
        self.versions: Dict[str, int] = {}

    def append(self, stream: str, time: str, *events: Tuple[str, Any, Any]) -> None:
        """One commit of events of (type, data, payload)."""
        first = len(self.lines)
        for kind, data, payload in events:
            self.versions[stream] = self.versions.get(stream, 0) + 1
            salt = None if payload is None else bytes([len(self.lines) % 251]) * 16
            header = {
                "actor": "user:alice", "commitSeq": first, "dataHash": "", "ledger": self.name,
                "payloadHash": "0" * 64, "prev": "0" * 64, "recordedAt": time, "schema": 1,
                "seq": len(self.lines), "stream": stream, "streamVersion": self.versions[stream],
                "type": kind, "v": 1,
            }
            self.lines.append({"data": data, "hash": "", "header": header, "payload": payload,
                               "salt": None if salt is None else salt.hex()})
            rehash(self.lines[-1])
            self.chain(len(self.lines) - 1)

    def chain(self, start: int) -> None:
        """Compute `prev` and `hash` anew from `start` on: what the owner of a database can do."""
        for seq in range(start, len(self.lines)):
            line = self.lines[seq]
            line["header"]["prev"] = self.lines[seq - 1]["hash"] if seq else "0" * 64
            line["hash"] = derived("ledger event v1", canonical(line["header"]))

    def erase(self, seqs: Sequence[int], time: str, log: bool = True, run: str = RUN) -> None:
        """Blank payloads and, unless it is done quietly, record it."""
        for seq in seqs:
            self.lines[seq]["payload"] = self.lines[seq]["salt"] = None
        if log:
            tenant = self.name.split("/")[1]
            self.append(f"ledger/{tenant}", time,
                        ("DataErased", {"runId": run[4:], "seqs": list(seqs)}, {"reason": "asked"}))

    def hashes(self) -> List[bytes]:
        """The event hashes, which the tree is made of."""
        return [bytes.fromhex(line["hash"]) for line in self.lines]


def rehash(line: Dict[str, Any]) -> None:
    """Make header and hash of one line fit its data and payload."""
    header = line["header"]
    header["dataHash"] = derived("ledger data v1", canonical(line["data"]))
    if line["payload"] is not None:
        header["payloadHash"] = derived(
            "ledger payload v1", bytes.fromhex(line["salt"]) + canonical(line["payload"]))
    line["hash"] = derived("ledger event v1", canonical(header))


def example_ledger(name: str = LEDGER) -> Ledger:
    """39 events: opened, a DAG, 12 commits of three events. A commit at seq n is at n seconds."""
    ledger = Ledger(name)
    ledger.append(f"ledger/{name.split('/')[1]}", at(0),
                  ("LedgerOpened", {"format": 1, "tenant": name.split("/")[1]}, None))
    ledger.append("dag/sbom", at(1), ("DagVersionRegistered", {"version": 1}, None),
                  ("DagVersionActivated", {"version": 1}, None))
    for number in range(12):
        time = at(len(ledger.lines))
        stream = RUN if number % 3 else OTHER_RUN
        ledger.append(
            stream, time, ("StepQueued", {"attempt": number}, None),
            ("StepStarted", {"list": [1, {}, []], "text": "naïve 😀"},
             {"note": "a\u0001\n\"\\b"}),
            ("StepSucceeded", {}, {"outputs": {"n": number}}))
    return ledger


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over event hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def naive_inclusion(m: int, leaves: Sequence[bytes]) -> List[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return naive_inclusion(m, leaves[:k]) + [naive_root(leaves[k:])]
    return naive_inclusion(m - k, leaves[k:]) + [naive_root(leaves[:k])]


def naive_consistency(m: int, leaves: Sequence[bytes], whole: bool = True) -> List[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = split(len(leaves))
    if m <= k:
        return naive_consistency(m, leaves[:k], whole) + [naive_root(leaves[k:])]
    return naive_consistency(m - k, leaves[k:], False) + [naive_root(leaves[:k])]


def naive_tiles(leaves: Sequence[bytes], x: int, y: int) -> List[str]:
    """Roots of `tiles(x, y)` (5.3), by trying sizes from the largest down."""
    roots = []
    while x < y:
        size = 2**20
        while x % size or x + size > y:
            size //= 2
        roots.append(naive_root(leaves[x:x + size]).hex())
        x += size
    return roots


def public_of(seed: bytes) -> bytes:
    """The public key of an Ed25519 seed."""
    return encode_point(v.point_multiply(secret_scalar(seed), v.BASE))


def secret_scalar(seed: bytes) -> int:
    """The scalar of a seed (RFC 8032, section 5.1.5)."""
    low = bytearray(hashlib.sha512(seed).digest()[:32])
    low[0] &= 248
    low[31] = low[31] & 127 | 64
    return int.from_bytes(low, "little")


def encode_point(point: v.Point) -> bytes:
    """The 32 bytes of a point."""
    inverse = pow(point[2], v.P - 2, v.P)
    x, y = point[0] * inverse % v.P, point[1] * inverse % v.P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def sign(seed: bytes, message: bytes) -> bytes:
    """An Ed25519 signature (RFC 8032, section 5.1.6)."""
    public, a = public_of(seed), secret_scalar(seed)
    r = int.from_bytes(hashlib.sha512(
        hashlib.sha512(seed).digest()[32:] + message).digest(), "little") % v.L
    big_r = encode_point(v.point_multiply(r, v.BASE))
    k = int.from_bytes(hashlib.sha512(big_r + public + message).digest(), "little") % v.L
    return big_r + ((r + k * a) % v.L).to_bytes(32, "little")


def vkey(name: str, seed: bytes, algorithm: int = 1, public: Optional[bytes] = None) -> str:
    """A verifier key as text."""
    key = bytes([algorithm]) + (public or public_of(seed))
    key_id = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(key).decode()}"


def signature_line(name: str, seed: bytes, body: str, witness_time: Optional[int] = None) -> str:
    """A signature line by the ledger's key, or by a witness at a time."""
    text, blob = body.encode(), b""
    if witness_time is not None:
        text = f"cosignature/v1\ntime {witness_time}\n".encode() + text
        blob = struct.pack(">Q", witness_time)
    key_id = bytes.fromhex(vkey(name, seed, 1 if witness_time is None else 4).split("+")[1])
    value = base64.b64encode(key_id + blob + sign(seed, text)).decode()
    return f"\u2014 {name} {value}\n"


def note(ledger: str, hashes: Sequence[bytes], seed: bytes = SEED, extra: str = "") -> str:
    """A signed checkpoint of a tree of these event hashes."""
    root = base64.b64encode(naive_root(hashes)).decode()
    body = f"{ledger}\n{len(hashes)}\n{root}\n"
    return body + "\n" + signature_line(ledger, seed, body) + extra


Bundle = Dict[str, Any]  # file name -> bytes; the manifest as a dictionary until it is written


def make_bundle(ledger: Ledger, start: float, end: float, size: Optional[int] = None,
                since: Optional[int] = None) -> Bundle:
    """The bundle of the window from `start` to `end` seconds."""
    n = len(ledger.lines) if size is None else size
    hashes = ledger.hashes()[:n]
    inside = [line for line in ledger.lines
              if at(start) <= line["header"]["recordedAt"] < at(end)]
    first = sum(line["header"]["recordedAt"] < at(start) for line in ledger.lines)
    stop = first + len(inside)
    boundary = b""
    for side, seq in (("left", first - 1), ("right", stop)):
        if 0 <= seq < n:
            line = ledger.lines[seq]
            boundary += canonical(
                {"hash": line["hash"], "header": line["header"], "side": side}) + b"\n"
    erased = [line["header"]["seq"] for line in inside if is_erased(line)]
    prev = ledger.lines[first - 1]["hash"] if first else "0" * 64
    consistency = None
    if since is not None:
        consistency = {"proof": [h.hex() for h in naive_consistency(since, hashes)], "size": since}
    manifest = {
        "consistency": consistency, "erased": len(erased), "events": len(inside), "files": {},
        "firstSeq": first, "format": 1, "lastHash": inside[-1]["hash"] if inside else prev,
        "lastSeq": stop - 1 if inside else None, "ledger": ledger.name,
        "left": naive_tiles(hashes, 0, max(first - 1, 0)), "prev": prev,
        "right": naive_tiles(hashes, stop + 1, n), "treeSize": n,
        "window": {"from": at(start), "to": at(end)},
    }
    bundle: Bundle = {
        "manifest.json": manifest, "checkpoint": note(ledger.name, hashes).encode(),
        "boundary.ndjson": boundary, "events.ndjson": b"".join(map(text_line, inside)),
        "erasures.ndjson": erasure_lines(ledger, hashes, erased),
    }
    return reseal(bundle)


def is_erased(line: Dict[str, Any]) -> bool:
    """Whether the payload was there once."""
    return line["payload"] is None and line["header"]["payloadHash"] != "0" * 64


def text_line(line: Dict[str, Any]) -> bytes:
    """The line of an event."""
    return canonical(line) + b"\n"


def erasure_lines(ledger: Ledger, hashes: Sequence[bytes], erased: Sequence[int]) -> bytes:
    """`erasures.ndjson` for a window with these erased seqs."""
    text = b""
    for line in ledger.lines:
        names = line["data"].get("seqs") if line["header"]["type"] == "DataErased" else None
        if isinstance(names, list) and set(names) & set(erased):
            proof = naive_inclusion(line["header"]["seq"], hashes)
            text += canonical({"event": line, "proof": [h.hex() for h in proof]}) + b"\n"
    return text


def reseal(bundle: Bundle) -> Bundle:
    """Make the manifest's digests those of the files, so that step 9 is not what fails."""
    for name in v.DIGESTED_FILES:
        hasher = v.new_blake3()
        hasher.update(bundle[name])
        bundle["manifest.json"]["files"][name] = {
            "blake3": hasher.digest().hex(), "bytes": len(bundle[name]),
            "sha256": hashlib.sha256(bundle[name]).hexdigest()}
    return bundle


def write_bundle(bundle: Bundle, folder: str) -> None:
    """Write the files that are there (None: left out)."""
    for name, content in bundle.items():
        if content is not None:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(canonical(content) + b"\n" if isinstance(content, dict) else content)


def run_main(arguments: Sequence[str]) -> Tuple[int, Dict[str, Any], str]:
    """The command line, as it is used: exit code, JSON printed, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = v.main([*arguments, "--json"])
        except SystemExit as left:
            code = int(left.code or 0)
    return code, json.loads(out.getvalue() or "{}"), err.getvalue()


class BundleCase(unittest.TestCase):
    """A folder to work in, and one way to check a verdict."""

    KEY = vkey(LEDGER, SEED)
    ledger: Ledger

    @classmethod
    def setUpClass(cls) -> None:
        cls.ledger = example_ledger()
        cls.middle = make_bundle(cls.ledger, 12, 24, since=10)

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.count = 0

    def bundle(self) -> Bundle:
        """The window in the middle (seq 12 to 23), to be changed."""
        return copy.deepcopy(self.middle)

    def write(self, content: Any) -> str:
        """A bundle, or the bytes of a file; the path of it."""
        self.count += 1
        path = os.path.join(self.folder, str(self.count))
        if isinstance(content, dict):
            os.mkdir(path)
            write_bundle(content, path)
        else:
            with open(path, "wb") as file:
                file.write(content)
        return path

    def check(self, bundle: Any, verdict: str, seq: Optional[int] = None, *options: str,
              reason: str = "") -> None:
        """Verify bundles (one or a list) and compare verdict, seq, exit code and reason."""
        bundles = bundle if isinstance(bundle, list) else [bundle]
        keys = [] if "--key" in options else ["--key", self.KEY]
        code, report, err = run_main([*map(self.write, bundles), *keys, *options])
        self.assertEqual((report.get("verdict"), report.get("seq")), (verdict, seq),
                         report.get("reason", err))
        self.assertEqual(code, {"VERIFIED": 0, "VERIFIED_WITH_ERASURES": 10, "INCOMPLETE": 11,
                                "TAMPERED": 12, "UNTRUSTED": 13}[verdict])
        self.assertIn(reason, report["reason"])

    def changed_events(self, change: Callable[[List[bytes]], None]) -> Bundle:
        """The bundle with its event lines changed, and resealed."""
        bundle = self.bundle()
        lines = bundle["events.ndjson"].splitlines(keepends=True)
        change(lines)
        bundle["events.ndjson"] = b"".join(lines)
        return reseal(bundle)

    def changed_manifest(self, **members: Any) -> Bundle:
        """The bundle with members of its manifest replaced."""
        bundle = self.bundle()
        bundle["manifest.json"].update(members)
        return bundle


# ---------------------------------------------------------------------------------------------
# Vectors and known answers


class Vectors(unittest.TestCase):
    """`fixtures/ledger-vectors.json`, every kind in it."""

    @classmethod
    def setUpClass(cls) -> None:
        with open(os.path.join(FIXTURES, "ledger-vectors.json"), encoding="utf-8") as file:
            cls.vectors = json.load(file)
        cls.hashes = [bytes.fromhex(e["hash"]) for e in cls.vectors["events"]]

    def test_no_kind_of_vector_is_left_out(self) -> None:
        known = {"about", "contexts", "events", "inputsHash", "runIds", "roots", "windows",
                 "checkpoint", "inclusion", "consistency"}
        self.assertLessEqual(set(self.vectors), known)

    def test_contexts(self) -> None:
        contexts = self.vectors["contexts"]
        self.assertEqual((contexts["data"], contexts["payload"], contexts["event"]),
                         (v.CONTEXT_DATA, v.CONTEXT_PAYLOAD, v.CONTEXT_EVENT))

    def test_events(self) -> None:
        chain = v.Chain()
        for vector in self.vectors["events"]:
            parts = v.cut_line(vector["line"].encode())
            self.assertEqual(parts.data.decode(), vector["data"])
            self.assertEqual(parts.header_text.decode(), vector["header"])
            self.assertEqual(parts.payload and parts.payload.decode(), vector["payload"])
            self.assertEqual(parts.header.data_hash.decode(), vector["dataHash"])
            self.assertEqual(parts.header.payload_hash.decode(), vector["payloadHash"])
            event = v.check_hashes(parts)
            self.assertEqual(event.hash.hex(), vector["hash"])
            chain.follow(event)

    def test_inputs_hashes(self) -> None:
        for vector in self.vectors["inputsHash"]:
            text = vector["inputs"].encode()
            self.assertEqual(v.canonical_object_end(text, 0), len(text))
            self.assertEqual("b3:" + derived("inputs v1", text), vector["inputsHash"])

    def test_run_ids(self) -> None:
        for vector in self.vectors["runIds"]:
            text = canonical([vector[name] for name in ("tenant", "kind", "key", "attempt")])
            number = int(derived("run id v1", text)[:32], 16)
            digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
            run_id = "".join(digits[number >> 5 * i & 31] for i in reversed(range(26)))
            self.assertEqual(run_id, vector["runId"])

    def test_roots(self) -> None:
        for vector in self.vectors["roots"]:
            tree = v.RootStack()
            for value in self.hashes[:vector["treeSize"]]:
                tree.push(0, v.leaf_hash(value))
            self.assertEqual(tree.root().hex(), vector["root"])

    def test_windows(self) -> None:
        for vector in self.vectors["windows"]:
            first, end, size = vector["first"], vector["end"], vector["treeSize"]
            left, right = v.tile_levels(0, first), v.tile_levels(end, size)
            self.assertEqual((len(left), len(right)),
                             (len(vector["left"]), len(vector["right"])))
            tree = v.RootStack()
            for level, value in zip(left, vector["left"]):
                tree.push(level, bytes.fromhex(value))
            for value in self.hashes[first:end]:
                tree.push(0, v.leaf_hash(value))
            for level, value in zip(right, vector["right"]):
                tree.push(level, bytes.fromhex(value))
            self.assertEqual(tree.root().hex(), vector["root"])

    def test_checkpoint(self) -> None:
        vector = self.vectors["checkpoint"]
        key = v.parse_pinned_key(vector["vkey"])
        self.assertEqual(key.public, public_of(bytes.fromhex(vector["ed25519Seed"])))
        checkpoint = v.parse_checkpoint(vector["note"].encode())
        v.check_signed(checkpoint, [key], "the vector")
        self.assertEqual((checkpoint.ledger, checkpoint.size), (LEDGER, 10))
        self.assertEqual(checkpoint.root, naive_root(self.hashes))
        self.assertEqual(note(LEDGER, self.hashes), vector["note"])  # Ed25519 is deterministic

    def test_inclusion_and_consistency_if_given(self) -> None:
        root = {r["treeSize"]: bytes.fromhex(r["root"]) for r in self.vectors["roots"]}
        for vector in self.vectors.get("inclusion", []):
            proof = [bytes.fromhex(h) for h in vector["proof"]]
            index, size = vector["index"], vector["treeSize"]
            self.assertTrue(v.inclusion_holds(
                index, size, v.leaf_hash(self.hashes[index]), proof, root[size]))
        for vector in self.vectors.get("consistency", []):
            proof = [bytes.fromhex(h) for h in vector["proof"]]
            old, new = vector["first"], vector["second"]
            self.assertTrue(v.consistency_holds(old, new, root[old], root[new], proof))


class Calculations(unittest.TestCase):
    """BLAKE3, Ed25519 and the tree, against known answers and definitions."""

    # BLAKE3 of bytes 0, 1, ... 250, 0, 1, ...; the sizes around block, chunk and subtree edges.
    BLAKE3_ANSWERS = {
        0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
        63: "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b",
        64: "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98",
        65: "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee",
        127: "d81293fda863f008c09e92fc382a81f5a0b4a1251cba1634016a0f86a6bd640d",
        128: "f17e570564b26578c33bb7f44643f539624b05df1a76c81f30acd548c44b45ef",
        1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
        1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
        1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
        2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
        2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
        3072: "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2",
        3073: "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
        4096: "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969",
        5120: "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34230535833",
        6144: "3e2e5b74e048f3add6d21faab3f83aa44d3b2278afb83b80b3c35164ebeca205",
        8193: "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b",
        16385: "1dabe216be2578830263b049de1639f39f05a4da616b9b78c7a5e4e41662fd1f",
    }

    def test_pure_blake3_gives_known_answers(self) -> None:
        for size, answer in self.BLAKE3_ANSWERS.items():
            data = bytes(i % 251 for i in range(size))
            hasher = v.PureBlake3()
            for start in range(0, size, 700):
                hasher.update(data[start:start + 700])
            self.assertEqual(hasher.hexdigest(), answer, size)

    def test_pure_derive_key_gives_known_answers_beyond_one_chunk(self) -> None:
        data = bytes(i % 251 for i in range(5_000))
        self.assertEqual(v.pure_derive_key(v.CONTEXT_EVENT, data).hex(),
                         "376d4fa7381e7f3cc6c3037c9f6499c3415a0e5736060a82612f48d75e617174")

    def test_the_self_test_passes(self) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(v.main(["--self-test"]), 0)
        self.assertIn("all answers agree", out.getvalue())

    @unittest.skipIf(v.blake3_package is None, "the package blake3 is not installed")
    def test_the_package_blake3_agrees(self) -> None:
        source = random.Random(1)
        for _ in range(60):
            data = source.randbytes(source.randrange(9_000))
            self.assertEqual(v.pure_derive_key(v.CONTEXT_DATA, data),
                             v.package_derive_key(v.CONTEXT_DATA, data))

    @unittest.skipIf(v.ed25519_package is None, "the package cryptography is not installed")
    def test_the_package_cryptography_agrees(self) -> None:
        for i in range(10):
            message, public = bytes([i]) * i, public_of(OTHER_SEED)
            good = sign(OTHER_SEED, message)
            bad = good[:40] + bytes([good[40] ^ 1 << i % 8]) + good[41:]
            for signature in (good, bad):
                self.assertEqual(v.pure_equation_holds(public, message, signature),
                                 v.package_equation_holds(public, message, signature))

    def test_signatures_that_are_not_strict_are_refused(self) -> None:
        self.addCleanup(v.use_packages, True)
        for packages in (False, True):
            v.use_packages(packages)
            self.check_strictness()

    def check_strictness(self) -> None:
        public, message = public_of(SEED), b"message"
        good = sign(SEED, message)
        self.assertTrue(v.signature_holds(public, message, good))
        s = int.from_bytes(good[32:], "little")
        malleable = good[:32] + (s + v.L).to_bytes(32, "little")
        self.assertFalse(v.signature_holds(public, message, malleable))
        self.assertFalse(v.signature_holds(public, b"massage", good))
        self.assertFalse(v.signature_holds(public, message, good[:63]))
        # With key and R the neutral point, S = 0 satisfies the equation for every message.
        neutral = (1).to_bytes(32, "little")
        self.assertTrue(v.pure_equation_holds(neutral, message, neutral + bytes(32)))
        self.assertFalse(v.signature_holds(neutral, message, neutral + bytes(32)))
        # R of small order under a sound key: S = k * a.
        k = int.from_bytes(hashlib.sha512(neutral + public + message).digest(), "little")
        s = k * secret_scalar(SEED) % v.L
        forged = neutral + s.to_bytes(32, "little")
        self.assertTrue(v.pure_equation_holds(public, message, forged))
        self.assertFalse(v.signature_holds(public, message, forged))

    def test_points_of_small_order_and_bad_encodings_are_no_keys(self) -> None:
        order_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
        for text in ("01" + "00" * 31, "00" * 32, "ec" + "ff" * 30 + "7f", order_8,
                     "ee" + "ff" * 30 + "7f", "01" + "00" * 30 + "80", "02" + "00" * 31,
                     "f0" + "ff" * 30 + "7f"):  # y = p + 3: a point, but not canonical
            self.assertIsNone(v.sound_point(bytes.fromhex(text)), text)

    def test_inclusion_proofs(self) -> None:
        for size in range(1, 18):
            hashes = [bytes([i]) * 32 for i in range(size)]
            root = naive_root(hashes)
            for index in range(size):
                proof, leaf = naive_inclusion(index, hashes), v.leaf_hash(hashes[index])
                self.assertTrue(v.inclusion_holds(index, size, leaf, proof, root))
                self.assertFalse(v.inclusion_holds(index, size, leaf, proof + [root], root))
                self.assertFalse(v.inclusion_holds(index, size, v.leaf_hash(root), proof, root))
                self.assertFalse(v.inclusion_holds(size, size, leaf, proof, root))
                if proof:
                    self.assertFalse(v.inclusion_holds(index, size, leaf, proof[:-1], root))
                if size > 1:
                    other = (index + 1) % size
                    self.assertFalse(v.inclusion_holds(other, size, leaf, proof, root))

    def test_consistency_proofs(self) -> None:
        for size in range(1, 18):
            hashes = [bytes([i]) * 32 for i in range(size)]
            root = naive_root(hashes)
            for old in range(size + 1):
                old_root = naive_root(hashes[:old])
                proof = naive_consistency(old, hashes) if old else []
                self.assertTrue(v.consistency_holds(old, size, old_root, root, proof))
                self.assertFalse(v.consistency_holds(old, size, root[::-1], root, proof))
                self.assertFalse(v.consistency_holds(old, size, old_root, root[::-1], proof)
                                 and old > 0)
                self.assertFalse(v.consistency_holds(old, size, old_root, root, proof + [root]))
                if proof:
                    self.assertFalse(v.consistency_holds(old, size, old_root, root, proof[:-1]))

    def test_a_consistency_proof_of_other_sizes_is_refused(self) -> None:
        hashes = [bytes([i]) * 32 for i in range(8)]
        old_root, root = naive_root(hashes[:4]), naive_root(hashes)
        proof = naive_consistency(4, hashes)
        for old, new in ((4, 16), (4, 17), (3, 8), (5, 8), (8, 4)):
            self.assertFalse(v.consistency_holds(old, new, old_root, root, proof), (old, new))

    def test_range_proofs(self) -> None:
        hashes = [bytes([i]) * 32 for i in range(13)]
        for start in range(14):
            for end in range(start, 14):
                tree = v.RootStack()
                for level, value in zip(v.tile_levels(0, start), naive_tiles(hashes, 0, start)):
                    tree.push(level, bytes.fromhex(value))
                for value in hashes[start:end]:
                    tree.push(0, v.leaf_hash(value))
                for level, value in zip(v.tile_levels(end, 13), naive_tiles(hashes, end, 13)):
                    tree.push(level, bytes.fromhex(value))
                self.assertEqual(tree.root(), naive_root(hashes))

    def test_tiles_of_the_largest_tree_are_few(self) -> None:
        self.assertLessEqual(len(v.tile_levels(1, v.MAX_INTEGER)), 106)


class CanonicalJson(unittest.TestCase):
    """Section 2.2."""

    def is_canonical(self, text: Any) -> bool:
        data = text if isinstance(text, bytes) else text.encode()
        try:
            v.load_canonical(data)
        except v.Malformed:
            return False
        return True

    def test_numbers_as_ecmascript_writes_them(self) -> None:
        for value, text in (
            (0.0, "0"), (-0.0, "0"), (1.0, "1"), (-1.5, "-1.5"), (0.000001, "0.000001"),
            (1e-7, "1e-7"), (1.25e-7, "1.25e-7"), (1e20, "100000000000000000000"), (1e21, "1e+21"),
            (123456789012345680000.0, "123456789012345680000"), (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"),
            (2.2250738585072014e-308, "2.2250738585072014e-308"), (0.1, "0.1"),
            (123.456, "123.456"),
            (9007199254740991.0, "9007199254740991"), (9007199254740992.0, "9007199254740992"),
            (333333333.33333329, "333333333.3333333"), (4.5, "4.5"), (2e-3, "0.002"),
            (1e-27, "1e-27"), (295147905179352830000.0, "295147905179352830000"),
            (0.00001234, "0.00001234"), (1e16, "10000000000000000"), (1.2e16, "12000000000000000"),
        ):
            self.assertEqual(v.ecmascript_number(value), text)
            self.assertTrue(self.is_canonical(text) or str(value) == "-0.0", text)

    def test_numbers_in_another_form_are_refused(self) -> None:
        for text in ("-0", "1.0", "01", "1.50", "+1", ".5", "1.", "1e5", "1E21", "1e21", "1e+021",
                     "1e-07", "0.0000001", "1000000000000000000000", "9007199254740993", "1e+400",
                     "1e-400", "-", "0.1000000000000000055", "NaN", "Infinity", "0x1", "1_0",
                     "1" * 40, "0." + "1" * 60_000, "1e+20", "-0.0", "12345678901234567"):
            self.assertFalse(self.is_canonical(text), text[:60])

    def test_strings(self) -> None:
        for text in ('""', r'"\"\\\b\t\n\f\r"', r'"\u0001\u000b\u000e\u001f"',
                     '"/\x7fé😀\uffff"'):
            self.assertTrue(self.is_canonical(text), text)
        for text in (r'"\/"', r'"\u0041"', r'"\u000A"', r'"\u000a"', r'"\u0000"', r'"\u001F"',
                     r'"\ud83d\ude00"', r'"\ud800"', '"\n"', '"\t"', '"\x00"', '"', r'"\"', r'"\x"',
                     r'"\u007f"', r'"\u0008"', r'"\u000c"', b'"\xff"', b'"\xed\xa0\x80"',
                     b'"\xc0\xaf"', b'"\xf4\x90\x80\x80"'):
            self.assertFalse(self.is_canonical(text), text)

    def test_structure(self) -> None:
        for text in ("{}", "[]", '{"a":[],"b":{}}', "[[],{},[1,2]]", "true", "null", '{"":0}'):
            self.assertTrue(self.is_canonical(text), text)
        for text in ("", " {}", "{} ", '{"a": 1}', '{"a" :1}', "[1, 2]", "[1,]", '{"a":1,}', "[,1]",
                     "{,}", "[", "{", '{"a"', '{"a":', "[}", "{]", '{"a":1]', "[1}", "{}{}", "tru",
                     "True", '{"a":1,"a":1}', '{"b":1,"a":2}', "{1:2}", '["a":1]', "[1]]", "}", "]",
                     "[1 2]", '{"a":1"b":2}', "{}\n", "\ufeff{}", "['a']", "[1]//", '{"a","b"}'):
            self.assertFalse(self.is_canonical(text), text)

    def test_names_are_sorted_by_utf_16(self) -> None:
        # U+1F600 is d83d de00 in UTF-16, before U+FB33; in UTF-8 and by code point it comes after.
        self.assertTrue(self.is_canonical('{"😀":1,"\ufb33":2}'))
        self.assertFalse(self.is_canonical('{"\ufb33":1,"😀":2}'))
        # An escape sorts as what it stands for: U+000A before "a", and before "\" itself.
        self.assertTrue(self.is_canonical(r'{"\n":1,"\"":2,"a":3}'))
        self.assertTrue(self.is_canonical(r'{"A":1,"\\":2,"a":3}'))
        self.assertFalse(self.is_canonical(r'{"a":1,"\\":2}'))
        self.assertTrue(self.is_canonical(
            '{"\\r":"","1":"","\x80":"","ö":"","€":"","😀":"","\ufb33":""}'))
        long_name = "n" * 500
        self.assertTrue(self.is_canonical(f'{{"{long_name}":1,"{long_name}o":1}}'))
        self.assertFalse(self.is_canonical(f'{{"{long_name}":1,"{long_name}":1}}'))

    def test_depth(self) -> None:
        self.assertTrue(self.is_canonical("[" * 127 + "]" * 127))
        self.assertFalse(self.is_canonical("[" * 128 + "]" * 128))
        self.assertTrue(self.is_canonical('{"a":' * 126 + "[]" + "}" * 126))
        self.assertFalse(self.is_canonical('{"a":' * 127 + "[]" + "}" * 127))
        self.assertFalse(self.is_canonical("[" * 100_000))

    def test_what_json_writes_sorted_is_canonical(self) -> None:
        source = random.Random(7)

        def value(depth: int) -> Any:
            kind = source.randrange(6 if depth else 4)
            if kind == 4:
                return [value(depth - 1) for _ in range(source.randrange(4))]
            if kind == 5:
                return {text(): value(depth - 1) for _ in range(source.randrange(4))}
            return (source.randrange(-2**53 + 1, 2**53), text(), None, True)[kind]

        def text() -> str:
            characters = 'a"\\\n\x01é/\x7f€'
            return "".join(source.choice(characters) for _ in range(source.randrange(5)))

        for _ in range(300):
            document = canonical(value(4))
            self.assertTrue(self.is_canonical(document), document)
            # One more blank anywhere outside strings, or a byte taken away at the end: never.
            self.assertFalse(self.is_canonical(document + b" "))
            if document[:1] in b'[{"':
                self.assertFalse(self.is_canonical(document[:-1]))

    def test_hostile_text_takes_linear_time(self) -> None:
        # Would not end within a lifetime if matching a string backtracked.
        self.assertFalse(self.is_canonical('"' + "a" * 130_000))
        self.assertFalse(self.is_canonical('"' + r"\n" * 65_000))


# ---------------------------------------------------------------------------------------------
# Bundles that hold


class GoodBundles(BundleCase):
    """What must be VERIFIED."""

    def test_a_window_in_the_middle(self) -> None:
        self.assertEqual(self.middle["manifest.json"]["firstSeq"], 12)
        self.check(self.bundle(), "VERIFIED")

    def test_every_window_of_a_small_ledger(self) -> None:
        for start, end, size in ((0, 1, 2), (0, 1, 39), (0, 12, 39), (1, 12, 13), (6, 9, 20),
                                 (9, 36, 39), (30, 33, 37)):
            self.check(make_bundle(self.ledger, start, end, size), "VERIFIED")

    def test_empty_windows(self) -> None:
        for start, end, size in ((12.25, 12.5, 39), (12.25, 12.25, 16), (4.5, 4.75, 39)):
            bundle = make_bundle(self.ledger, start, end, size)
            self.assertEqual(bundle["manifest.json"]["events"], 0)
            self.check(bundle, "VERIFIED")

    def test_an_empty_window_before_the_ledger_began(self) -> None:
        ledger = Ledger()
        ledger.append("ledger/acme", at(60), ("LedgerOpened", {"format": 1}, None))
        bundle = make_bundle(ledger, 1, 2)
        self.assertEqual(bundle["manifest.json"]["firstSeq"], 0)
        self.check(bundle, "VERIFIED")

    def test_an_older_checkpoint(self) -> None:
        hashes = self.ledger.hashes()
        for size, bundle in ((0, self.bundle()), (10, self.bundle()), (39, self.bundle()),
                             (16, make_bundle(self.ledger, 12, 24, since=16))):
            since = self.write(note(LEDGER, hashes[:size]).encode())
            self.check(bundle, "VERIFIED", None, "--since", since)

    def test_erasures_that_are_explained(self) -> None:
        ledger = example_ledger()
        ledger.erase([7, 13, 14, 16], at(50))
        ledger.erase([17], at(51))
        self.check(make_bundle(ledger, 12, 24), "VERIFIED_WITH_ERASURES")
        self.check(make_bundle(ledger, 18, 24), "VERIFIED")

    def test_witnesses(self) -> None:
        bundle, (one, two) = self.bundle(), self.cosign(bundle_names=("w.example/1", "w.example/2"))
        bundle["checkpoint"] += one + two
        options = ["--witness", vkey("w.example/1", b"1" * 32, 4),
                   "--witness", vkey("w.example/2", b"2" * 32, 4)]
        self.check(reseal(bundle), "VERIFIED", None, *options)
        self.check(bundle, "VERIFIED", None, *options[:2])
        self.check(bundle, "VERIFIED", None, *options, "--witnesses-needed", "1")

    def cosign(self, bundle_names: Sequence[str]) -> List[bytes]:
        body = self.middle["checkpoint"].decode().split("\n\n")[0] + "\n"
        return [signature_line(name, str(i + 1).encode() * 32, body, 1_790_000_000 + i).encode()
                for i, name in enumerate(bundle_names)]

    def test_witnesses_that_are_missing_or_wrong(self) -> None:
        one, two = self.cosign(("w.example/1", "w.example/2"))
        key_1, key_2 = (vkey(f"w.example/{i}", str(i).encode() * 32, 4) for i in (1, 2))
        options = ["--witness", key_1, "--witness", key_2]
        for lines, needed, verdict in (
            (b"", "1", "UNTRUSTED"), (one, "2", "UNTRUSTED"), (one + one, "2", "UNTRUSTED"),
            (one + one, "1", "VERIFIED"), (one, "1", "VERIFIED"),
        ):
            bundle = self.bundle()
            bundle["checkpoint"] += lines
            self.check(reseal(bundle), verdict, None, *options, "--witnesses-needed", needed)
        # A cosignature at a time that the witness did not sign, though enough others hold.
        name, blob = two.decode().split(" ")[1:]
        changed = bytearray(base64.b64decode(blob))
        changed[11] ^= 1
        wrong = f"\u2014 {name} {base64.b64encode(changed).decode()}\n".encode()
        bundle = self.bundle()
        bundle["checkpoint"] += one + wrong
        self.check(reseal(bundle), "UNTRUSTED", None, *options, "--witnesses-needed", "1",
                   reason="wrong cosignature")
        self.check(bundle, "VERIFIED", None, *options[:2])

    def test_keys_with_ranges(self) -> None:
        for sizes, verdict in (("0-39", "VERIFIED"), ("39-", "VERIFIED"), ("39-39", "VERIFIED"),
                               ("0-38", "UNTRUSTED"), ("40-", "UNTRUSTED")):
            self.check(self.bundle(), verdict, None, "--key", f"{self.KEY}@{sizes}")
        self.check(self.bundle(), "VERIFIED", None, "--key", f"{self.KEY}@0-10",
                   "--key", f"{self.KEY}@30-40")

    def test_a_rotated_key(self) -> None:
        bundle = self.bundle()
        bundle["checkpoint"] = note(LEDGER, self.ledger.hashes(), OTHER_SEED).encode()
        new = vkey(LEDGER, OTHER_SEED)
        self.check(reseal(bundle), "VERIFIED", None, "--key", f"{self.KEY}@0-20",
                   "--key", f"{new}@21-")
        self.check(bundle, "UNTRUSTED", None, "--key", f"{self.KEY}@0-20", "--key", f"{new}@40-")

    def test_several_bundles(self) -> None:
        parts = [make_bundle(self.ledger, a, b) for a, b in ((0, 12), (12, 12.5), (12.5, 30))]
        self.check(parts, "VERIFIED")
        self.check([parts[0], parts[2]], "INCOMPLETE", None)
        self.check([parts[1], parts[0]], "INCOMPLETE", None)

    def test_several_bundles_of_which_one_is_bad(self) -> None:
        bad = self.changed_events(lambda lines: lines.pop(3))
        first = make_bundle(self.ledger, 0, 12)
        untrusted = self.changed_manifest(format=2)
        self.check([first, bad], "TAMPERED", 15)
        self.check([first, bad, untrusted], "UNTRUSTED", None)

    def test_bundles_of_two_histories(self) -> None:
        other = example_ledger()
        other.lines[5]["data"] = {"outcome": "another"}
        rehash(other.lines[5])
        other.chain(6)
        first = make_bundle(other, 0, 12)
        self.check([first, self.bundle()], "TAMPERED", 12)

    def test_other_files_mean_nothing(self) -> None:
        bundle = self.bundle()
        bundle["README"] = b"\xff"
        self.check(bundle, "VERIFIED")

    def test_lines_of_unknown_keys_are_skipped(self) -> None:
        bundle = self.bundle()
        body = bundle["checkpoint"].decode().split("\n\n")[0] + "\n"
        bundle["checkpoint"] += signature_line("somebody.else", OTHER_SEED, body).encode()
        bundle["checkpoint"] += signature_line(LEDGER, OTHER_SEED, body + "x").encode()
        self.check(reseal(bundle), "VERIFIED")

    def test_without_packages_the_verdict_is_the_same(self) -> None:
        self.addCleanup(v.use_packages, True)
        self.check(self.bundle(), "VERIFIED", None, "--pure")
        self.check(self.changed_events(lambda lines: lines.pop(3)), "TAMPERED", 15, "--pure")

    def test_several_processes_give_the_same_verdict(self) -> None:
        before = v.PARALLEL_FROM_BYTES, v.BLOCK_BYTES
        self.addCleanup(lambda: setattr(v, "PARALLEL_FROM_BYTES", before[0]))
        self.addCleanup(lambda: setattr(v, "BLOCK_BYTES", before[1]))
        v.PARALLEL_FROM_BYTES, v.BLOCK_BYTES = 0, 700
        self.check(self.bundle(), "VERIFIED", None, "--jobs", "2")
        self.check(self.changed_events(lambda lines: lines.pop(3)), "TAMPERED", 15, "--jobs", "2")


# ---------------------------------------------------------------------------------------------
# Tampering


class Tampering(BundleCase):
    """Steps 1 to 9 of section 10.5, each in every way that it can fail."""

    def test_step_1_files(self) -> None:
        for name in v.BUNDLE_FILES:
            bundle = self.bundle()
            bundle[name] = None
            self.check(bundle, "INCOMPLETE", None, reason=name)
        folder = self.write(self.bundle())
        os.rename(os.path.join(folder, "checkpoint"), os.path.join(folder, "elsewhere"))
        os.symlink("elsewhere", os.path.join(folder, "checkpoint"))
        _, report, _ = run_main([folder, "--key", self.KEY])
        self.assertEqual(report["verdict"], "INCOMPLETE")

    def test_step_2_manifest_text(self) -> None:
        good = canonical(self.middle["manifest.json"])
        for text in (good, good + b"\n\n", b" " + good + b"\n", good + b"\r\n", b"\n", b"", b"{}\n",
                     b"[]\n", b"null\n", b"\xff\n", b"\xef\xbb\xbf" + good + b"\n",
                     good.replace(b'{"consistency"', b'{"a":1,"consistency"') + b"\n",
                     good.replace(b'"format":1', b'"format":1.0') + b"\n",
                     b" " * 2_000_000, b'"' + b"x" * 1_048_576 + b'"\n', b"[" * 1_000_000 + b"\n"):
            bundle = self.bundle()
            bundle["manifest.json"] = text
            self.check(bundle, "TAMPERED", None, reason="step 2")

    def test_step_2_members(self) -> None:
        for members in (
            {"format": "1"}, {"format": True}, {"format": 1.5}, {"format": -1}, {"format": None},
            {"events": 11}, {"events": "12"}, {"lastSeq": None}, {"lastSeq": 24}, {"firstSeq": 0},
            {"firstSeq": -1}, {"firstSeq": 2**53}, {"treeSize": 1.5}, {"ledger": "acme"},
            {"ledger": 5}, {"prev": "0" * 64}, {"prev": "A" * 64}, {"lastHash": "ab"},
            {"left": {}}, {"left": ["xy"]}, {"left": [1]}, {"right": None}, {"erased": True},
            {"consistency": {}}, {"consistency": {"proof": [], "size": 1, "x": 1}},
            {"consistency": {"proof": "", "size": 1}}, {"consistency": []}, {"window": []},
            {"window": {"from": at(12), "to": at(11)}}, {"window": {"from": at(12)}},
            {"window": {"from": "2026-02-30T00:00:00.000000Z", "to": at(24)}},
            {"window": {"from": "2026-11-23T09:00:12Z", "to": at(24)}}, {"files": {}},
            {"files": {name: {} for name in v.DIGESTED_FILES}}, {"more": 1},
        ):
            self.check(self.changed_manifest(**members), "TAMPERED", None, reason="step 2")
        for name in self.middle["manifest.json"]:
            bundle = self.bundle()
            del bundle["manifest.json"][name]
            self.check(bundle, "TAMPERED", None, reason="step 2")

    def test_step_2_members_of_an_empty_window(self) -> None:
        for members in ({"lastSeq": 12}, {"lastHash": "ab" * 32}):
            bundle = make_bundle(self.ledger, 12.25, 12.5)
            bundle["manifest.json"].update(members)
            self.check(bundle, "TAMPERED", None, reason="step 2")

    def test_step_2_a_later_format(self) -> None:
        self.check(self.changed_manifest(format=2, later={"a": 1}), "UNTRUSTED", None)
        self.check(self.changed_manifest(format=0), "UNTRUSTED", None)

    def test_step_3_notes_that_are_not_well_formed(self) -> None:
        good = self.middle["checkpoint"].decode()
        ledger, size, root, _, line = good.splitlines()
        name, blob = line.split(" ")[1:]
        odd = blob[:-2] + chr(ord(blob[-2]) + 1) + "="  # unused bits that are not zero
        for text in (
            "", "\n", good[:-1], good + "\n", good.replace("\n", "\r\n"), "\ufeff" + good,
            good.replace("\n\n", "\n"), good.replace("\n\n", "\nextension\n\n"),
            good.replace("\n39\n", "\n039\n"), good.replace("\n39\n", "\n-39\n"),
            good.replace("\n39\n", "\n٣٩\n"), good.replace("\n39\n", "\n9007199254740992\n"),
            good.replace("\n39\n", "\n" + "9" * 5_000 + "\n"), good.replace(ledger, "Acme", 1),
            good.replace(root, root[:-1]), good.replace(root, "AAAA"), good.replace("\u2014", "-"),
            good.replace(f"{name} {blob}", f"{name}  {blob}"), good.replace(blob, odd),
            good.replace(blob, "AAAA"), good.replace(blob, "AAAAA==="), good.replace(blob, "%%%%"),
            good + "trailing", good + "\u2014 a+b AAAAAAA=\n", good + "\u2014 \u00a0 AAAAAAA=\n",
            good + "\u2014 x\ty AAAAAAA=\n", good + "\u2014 x AAAAAAA=\n" * 64,
            good + "x" * 66_000, f"{ledger}\n{size}\n{root}\n\n",
        ):
            bundle = self.bundle()
            bundle["checkpoint"] = text.encode()
            self.check(reseal(bundle), "TAMPERED", None, reason="step 3")
        bundle = self.bundle()
        bundle["checkpoint"] += b"\xff\n"
        self.check(reseal(bundle), "TAMPERED", None, reason="step 3")

    def test_step_3_sixty_four_signatures_are_well_formed(self) -> None:
        bundle = self.bundle()
        bundle["checkpoint"] += "\u2014 x AAAAAAA=\n".encode() * 63
        self.check(reseal(bundle), "VERIFIED")

    def test_step_3_signatures(self) -> None:
        hashes = self.ledger.hashes()
        for checkpoint in (
            note(LEDGER, hashes, OTHER_SEED),  # another key
            note(OTHER_LEDGER, hashes),  # another ledger, which no key is pinned for
            note(LEDGER, hashes).replace("\n39\n", "\n38\n"),  # not what was signed
            note(LEDGER, hashes) + note(LEDGER, hashes[:38]).splitlines()[-1] + "\n",  # also wrong
        ):
            bundle = self.bundle()
            bundle["checkpoint"] = checkpoint.encode()
            self.check(reseal(bundle), "UNTRUSTED", None, reason="step 3")

    def test_step_3_a_pinned_key_speaks_for_its_own_ledger_only(self) -> None:
        bundle = self.bundle()
        body = bundle["checkpoint"].decode().split("\n\n")[0] + "\n"
        line = signature_line(OTHER_LEDGER, OTHER_SEED, body)
        bundle["checkpoint"] = (body + "\n" + line).encode()
        self.check(reseal(bundle), "UNTRUSTED", None, "--key", self.KEY,
                   "--key", vkey(OTHER_LEDGER, OTHER_SEED), reason="step 3")
        bundle = self.bundle()  # nor does a wrong line of it matter
        bundle["checkpoint"] += signature_line(OTHER_LEDGER, OTHER_SEED, body + "x").encode()
        self.check(reseal(bundle), "VERIFIED", None, "--key", self.KEY,
                   "--key", vkey(OTHER_LEDGER, OTHER_SEED))

    def test_step_3_a_short_signature_by_the_pinned_key(self) -> None:
        bundle = self.bundle()
        key_id = bytes.fromhex(self.KEY.split("+")[1])
        blob = base64.b64encode(key_id + b"\0").decode()
        bundle["checkpoint"] += f"\u2014 {LEDGER} {blob}\n".encode()
        self.check(reseal(bundle), "UNTRUSTED", None, reason="wrong signature")

    def test_step_3_the_manifest_differs_from_the_checkpoint(self) -> None:
        self.check(self.changed_manifest(ledger=OTHER_LEDGER), "TAMPERED", None, reason="step 3")
        self.check(self.changed_manifest(treeSize=40), "TAMPERED", None, reason="step 3")

    def test_step_4_since(self) -> None:
        hashes, forged = self.ledger.hashes(), [b"x" * 32] * 40
        other = vkey(OTHER_LEDGER, SEED)
        for since, verdict in (
            (note(LEDGER, hashes[:10], OTHER_SEED), "UNTRUSTED"), ("rubbish", "UNTRUSTED"),
            (note(OTHER_LEDGER, hashes[:10]), "UNTRUSTED"),
            (note(LEDGER, forged), "INCOMPLETE"),  # larger than the bundle's tree
            (note(LEDGER, hashes[:11]), "INCOMPLETE"),  # the proof is from another size
            (note(LEDGER, forged[:39]), "TAMPERED"), (note(LEDGER, forged[:10]), "TAMPERED"),
        ):
            path = self.write(since.encode())
            self.check(self.bundle(), verdict, None, "--since", path, "--key", self.KEY,
                       "--key", other, reason="step 4")
        path = self.write(note(LEDGER, hashes[:10]).encode())
        self.check(self.changed_manifest(consistency=None), "INCOMPLETE", None, "--since", path)
        good = self.middle["manifest.json"]["consistency"]["proof"]
        for proof in ([], ["00" * 32] * 4, good[1:], good + good[:1]):
            bundle = self.changed_manifest(consistency={"proof": proof, "size": 10})
            self.check(bundle, "TAMPERED", None, "--since", path)
        empty = note(LEDGER, []).replace(note(LEDGER, []).splitlines()[2], "A" * 43 + "=")
        body = empty.split("\n\n")[0] + "\n"
        path = self.write((body + "\n" + signature_line(LEDGER, SEED, body)).encode())
        self.check(self.bundle(), "TAMPERED", None, "--since", path)

    def test_step_5_lines_that_do_not_hold_by_themselves(self) -> None:
        def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
            return lambda line: line.replace(old, new, 1)

        for change, step in (
            (swap(b'"text"', b'"tex"'), "step 5"),
            (swap(b'"salt":"', b'"salt":"00'), "step 2"), (swap(b'"note"', b'"not"'), "step 5"),
            (swap(b'"actor":"user:alice"', b'"actor":"user:bob"'), "step 5"),
            (swap(b'"hash":"', b'"hash":"0'), "step 2"), (swap(b'"data"', b'"date"'), "step 2"),
            (swap(b'"list":[1,', b'"list":[1.0,'), "step 3"),
            (swap(b'"list":[1,', b'"list": [1,'), "step 3"),
            (swap(b'"list":[1,', b'"list":[1,1,],['), "step 3"),
            (swap(b'"v":1', b'"v":2'), "step 4"), (swap(b'"schema":1', b'"schema":0'), "step 4"),
            (swap(b'"seq":13', b'"seq":013'), "step 4"),
            (swap(b'"seq":13', b'"seq":9007199254740992'), "step 4"),
            (swap(b"2026-11-23", b"2026-11-31"), "step 4"),
            (swap(b"2026-11-23", b"2026-13-23"), "step 4"),
            (swap(b"T09", b"T24"), "step 4"), (swap(b"run/01JD", b"run/81JD"), "step 4"),
            (swap(b"user:alice", b"admin:alice"), "step 4"),
            (swap(b'"streamVersion"', b'"streamversion"'), "step 4"),
            (lambda line: line[:-1] + b"\r\n", "step 1"),
            (lambda line: line[:-1] + b" \n", "step 2"),
            (lambda line: b" " + line, "step 2"), (lambda line: b"\n" + line, "step 1"),
            (lambda line: b"\xef\xbb\xbf" + line, "step 1"),
            (swap("naïve".encode(), b"na\xefve"), "step 1"),
            (swap("naïve".encode(), b"na\\u00efve"), "step 3"),
            (swap(b'"text":"', b'"text":"' + b"x" * 70_000), "step 3"),
            (swap(b'"text":"', b'"text":"' + b"x" * 200_000), "step 1"),
            (swap(b'{"list"', b'{"a":' + b"[" * 200 + b"]" * 200 + b',"list"'), "step 3"),
            (lambda line: re.sub(rb'"payload":.*', b'"payload":null,"salt":null}x', line),
             "step 3"),
            (lambda line: re.sub(rb'"payload":.*', b'"payload":[],"salt":""}', line), "step 3"),
            (lambda line: re.sub(rb'"payloadHash":"[^"]*"', b'"payloadHash":"' + b"0" * 64 + b'"',
                                 line), "step 5"),
            (lambda line: b"{}\n", "step 2"), (lambda line: b"\0" * 100 + b"\n", "step 2"),
        ):
            def edit(lines: List[bytes], change: Callable[[bytes], bytes] = change) -> None:
                before, lines[1] = lines[1], change(lines[1])
                self.assertNotEqual(before, lines[1])
            self.check(self.changed_events(edit), "TAMPERED", 13, reason=step)
        self.check(self.changed_events(
            lambda lines: lines.__setitem__(2, lines[2].replace(b'"n":', b'"m":'))),
            "TAMPERED", 14, reason="step 5")

    def test_step_5_lines_out_of_place(self) -> None:
        def duplicate(lines: List[bytes]) -> None:
            lines.insert(4, lines[3])

        def swapped(lines: List[bytes]) -> None:
            lines[4], lines[5] = lines[5], lines[4]

        self.check(self.changed_events(lambda lines: lines.pop(4)), "TAMPERED", 16, reason="step 8")
        self.check(self.changed_events(duplicate), "TAMPERED", 16, reason="step 8")
        self.check(self.changed_events(swapped), "TAMPERED", 16, reason="step 8")
        self.check(self.changed_events(lambda lines: lines.pop(0)), "INCOMPLETE", 12)
        self.check(self.changed_events(lambda lines: lines.clear()), "INCOMPLETE", 12)
        self.check(self.changed_events(lambda lines: lines.pop()), "INCOMPLETE", 23)
        self.check(self.changed_events(lambda lines: lines.append(lines[-1])), "TAMPERED", 24)
        self.check(self.changed_events(
            lambda lines: lines.append(text_line(self.ledger.lines[24]))), "TAMPERED", 24,
            reason="the manifest says 12 events")
        self.check(self.changed_events(
            lambda lines: lines.insert(0, text_line(self.ledger.lines[11]))), "TAMPERED", 12)

    def test_step_5_how_the_file_ends(self) -> None:
        for suffix in (b"x", b"\n", b"\0", b"y" * 300_000):
            bundle = self.bundle()
            bundle["events.ndjson"] += suffix
            self.check(reseal(bundle), "TAMPERED", 24)
        for cut in (1, 2, 500):
            bundle = self.bundle()
            bundle["events.ndjson"] = bundle["events.ndjson"][:-cut]
            self.check(reseal(bundle), "INCOMPLETE", 23, reason="within a line")
        bundle = self.bundle()
        bundle["events.ndjson"] = bundle["events.ndjson"][:-1] + b"z" * 200_000
        self.check(reseal(bundle), "TAMPERED", 23)
        bundle = make_bundle(self.ledger, 12.25, 12.5)
        bundle["events.ndjson"] = b"x"
        self.check(reseal(bundle), "TAMPERED", 15)

    def rewritten(self, change: Callable[[Ledger], None], start: float = 12,
                  end: float = 24) -> Bundle:
        """A bundle from a ledger that was changed and chained anew, signed by its owner."""
        ledger = example_ledger()
        change(ledger)
        for line in ledger.lines:
            rehash(line)
        ledger.chain(0)
        return make_bundle(ledger, start, end)

    def test_step_5_chains_that_break_rules_though_their_owner_signed_them(self) -> None:
        def set_header(seq: int, **members: Any) -> Callable[[Ledger], None]:
            return lambda ledger: ledger.lines[seq]["header"].update(members)

        for change, seq, step in (
            (set_header(15, ledger=OTHER_LEDGER), 15, "step 7"),
            (set_header(18, recordedAt=at(14)), 18, "step 10"),
            (set_header(16, recordedAt=at(15.5)), 16, "step 11"),
            (set_header(16, stream="dag/sbom"), 16, "step 11"),
            (set_header(16, commitSeq=12), 16, "step 11"),
            (set_header(16, commitSeq=17), 16, "step 11"),
            (set_header(16, streamVersion=77), 16, "step 12"),
            (set_header(12, commitSeq=11), 12, "step 13"),
        ):
            self.check(self.rewritten(change), "TAMPERED", seq, reason=step)
        for members in ({"type": "LedgerClosed"}, {"stream": "ledger/other"}, {"streamVersion": 2}):
            self.check(self.rewritten(set_header(0, **members), 0, 12), "TAMPERED", 0,
                       reason="step 14")
        # An event whose time lies outside the window, though no neighbour says so.
        bundle = self.bundle()
        bundle["manifest.json"]["window"]["to"] = at(21)
        self.check(bundle, "TAMPERED", 21, reason="step 16")
        bundle["manifest.json"]["window"] = {"from": at(13), "to": at(24)}
        self.check(bundle, "TAMPERED", 12, reason="step 16")

    def test_step_5_commits_that_are_too_large(self) -> None:
        header = v.cut_line(text_line(self.ledger.lines[3])[:-1]).header

        def follow(sizes: Sequence[int]) -> None:
            """A chain of one commit whose events have these sizes."""
            chain, prev = v.Chain(), header.prev
            for i, size in enumerate(sizes):
                moved = header._replace(seq=header.seq + i, prev=prev,
                                        stream_version=header.stream_version + i)
                prev = b"%064x" % i
                chain.follow(v.Event(moved, bytes.fromhex(prev.decode()), size, False))

        follow([1] * 1_000)
        follow([65_536] * 64)
        for sizes in ([1] * 1_001, [65_536] * 64 + [1]):
            with self.assertRaisesRegex(v.Malformed, "step 11"):
                follow(sizes)

    def test_step_5_what_the_manifest_says_of_the_last_line(self) -> None:
        self.check(self.changed_manifest(lastHash="ab" * 32), "TAMPERED", 23, reason="lastHash")
        self.check(self.changed_manifest(erased=1), "TAMPERED", None, reason="erased")
        self.check(self.changed_manifest(prev="ab" * 32), "TAMPERED", 12, reason="step 9")

    def changed_boundary(self, change: Callable[[List[bytes]], None]) -> Bundle:
        bundle = self.bundle()
        lines = bundle["boundary.ndjson"].splitlines(keepends=True)
        change(lines)
        bundle["boundary.ndjson"] = b"".join(lines)
        return reseal(bundle)

    def test_step_6_boundary_form(self) -> None:
        for change in (
            lambda lines: lines.reverse(), lambda lines: lines.append(lines[1]),
            lambda lines: lines.insert(0, lines[0]), lambda lines: lines.append(b"x"),
            lambda lines: lines.append(b"\n"), lambda lines: lines.append(b"x" * 20_000),
            lambda lines: lines.__setitem__(1, lines[1][:-1]),
            lambda lines: lines.__setitem__(1, lines[1].replace(b'"right"', b'"north"')),
            lambda lines: lines.__setitem__(1, lines[1].replace(b'{"hash"', b'{ "hash"')),
            lambda lines: lines.__setitem__(1, lines[1].replace(b"user:alice", b"user:bob")),
            lambda lines: lines.__setitem__(0, b"x" * 9_000 + b"\n"),
        ):
            self.check(self.changed_boundary(change), "TAMPERED", None, reason="step 6")
        first = make_bundle(self.ledger, 0, 12)
        first["boundary.ndjson"] = self.middle["boundary.ndjson"]
        self.check(reseal(first), "TAMPERED", None, reason="step 6")

    def test_step_6_neighbours_that_are_missing(self) -> None:
        self.check(self.changed_boundary(lambda lines: lines.pop(0)), "INCOMPLETE", 11)
        self.check(self.changed_boundary(lambda lines: lines.pop(1)), "INCOMPLETE", 24)
        self.check(self.changed_boundary(lambda lines: lines.clear()), "INCOMPLETE", 11)

    def boundary_line(self, seq: int, side: str, **members: Any) -> bytes:
        """A neighbour's line, forged: its hash is that of its changed header."""
        header = {**self.ledger.lines[seq]["header"], **members}
        event_hash = derived("ledger event v1", canonical(header))
        return canonical({"hash": event_hash, "header": header, "side": side}) + b"\n"

    def test_step_6_neighbours_that_are_forged(self) -> None:
        def put(place: int, line: bytes) -> Callable[[List[bytes]], None]:
            return lambda lines: lines.__setitem__(place, line)

        for place, line, verdict, seq in (
            (0, self.boundary_line(10, "left"), "TAMPERED", 11),
            (0, self.boundary_line(11, "left", actor="user:eve"), "TAMPERED", 11),
            (1, self.boundary_line(25, "right"), "TAMPERED", 24),
            (1, self.boundary_line(24, "right", prev="ab" * 32), "TAMPERED", 24),
            (1, self.boundary_line(24, "right", ledger=OTHER_LEDGER), "TAMPERED", 24),
            (1, self.boundary_line(24, "right", commitSeq=23), "TAMPERED", 24),
            (1, self.boundary_line(24, "right", recordedAt=at(23)), "INCOMPLETE", 24),
            (1, self.boundary_line(24, "right", recordedAt=at(1000)), "TAMPERED", 12),
        ):
            self.check(self.changed_boundary(put(place, line)), verdict, seq)

    def test_step_6_events_left_out_at_the_edges(self) -> None:
        # Bundles of narrower windows that say they are of wider ones.
        bundle = self.bundle()
        bundle["manifest.json"]["window"]["from"] = at(9)
        self.check(bundle, "INCOMPLETE", 11, reason="left neighbour")
        bundle = self.bundle()
        bundle["manifest.json"]["window"]["to"] = at(27)
        self.check(bundle, "INCOMPLETE", 24, reason="right neighbour")

    def test_step_7_tree(self) -> None:
        manifest = self.middle["manifest.json"]
        for members in (
            {"left": manifest["left"][1:]}, {"left": manifest["left"] + ["ab" * 32]},
            {"right": []}, {"right": manifest["right"] * 200}, {"left": ["ab" * 32] * 500},
            {"right": manifest["right"][::-1]},
            {"left": ["ab" * 32] + manifest["left"][1:]},
        ):
            self.check(self.changed_manifest(**members), "TAMPERED", 12, reason="step 7")

    def test_step_7_the_right_neighbour_is_beyond_the_tree(self) -> None:
        bundle = self.bundle()
        bundle["checkpoint"] = note(LEDGER, self.ledger.hashes()[:24]).encode()
        bundle["manifest.json"].update(treeSize=24, right=[])
        self.check(reseal(bundle), "INCOMPLETE", 24, reason="step 7")

    def test_step_7_the_whole_chain_written_anew(self) -> None:
        forged = self.rewritten(
            lambda ledger: ledger.lines[14].update(payload={"outputs": {"n": 0}}))
        forged["checkpoint"] = self.middle["checkpoint"]
        self.check(reseal(forged), "TAMPERED", 12, reason="step 7")

    def test_step_7_a_checkpoint_of_another_tree(self) -> None:
        bundle = self.bundle()
        bundle["checkpoint"] = note(LEDGER, self.ledger.hashes()[::-1]).encode()
        self.check(reseal(bundle), "TAMPERED", 12, reason="step 7")

    def erased_bundle(self) -> Bundle:
        ledger = example_ledger()
        ledger.erase([13, 14], at(50))
        ledger.erase([16], at(51))
        return make_bundle(ledger, 12, 24)

    def test_step_8_erasures_nobody_logged(self) -> None:
        ledger = example_ledger()
        ledger.erase([16, 17], at(50), log=False)
        self.check(make_bundle(ledger, 12, 24), "TAMPERED", 16, reason="step 8")
        bundle = self.erased_bundle()
        lines = bundle["erasures.ndjson"].splitlines(keepends=True)
        bundle["erasures.ndjson"] = lines[0]
        self.check(reseal(bundle), "TAMPERED", 16, reason="step 8")
        bundle["erasures.ndjson"] = lines[1]
        self.check(reseal(bundle), "TAMPERED", 13, reason="step 8")

    def test_step_8_lines_of_erasures(self) -> None:
        def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
            return lambda text: text.replace(old, new, 1)

        for change, seq in (
            (lambda text: text + b"x", None), (lambda text: text[:-1], None),
            (lambda text: text + b"\n", None), (swap(b'"event"', b'"evnt"'), None),
            (swap(b'"proof":["', b'"proof":["0'), None), (swap(b'"proof"', b'"prof"'), None),
            (lambda text: text + b"z" * 400_000 + b"\n", None),
            (swap(b'{"runId"', b'{ "runId"'), None),
            (swap(b'"reason":"asked"', b'"reason":"other"'), 39),
            (swap(b'"seqs":[13,14]', b'"seqs":[13,14,16]'), 39),
            (lambda text: re.sub(rb'"proof":\["..', b'"proof":["00', text, 1), 39),
            (lambda text: re.sub(rb'"proof":\[[^]]*\]', b'"proof":[]', text, 1), 39),
            (lambda text: b"".join(reversed(text.splitlines(keepends=True))), 39),
            (lambda text: text.splitlines(keepends=True)[0] + text, 39),
        ):
            bundle = self.erased_bundle()
            before = bundle["erasures.ndjson"]
            bundle["erasures.ndjson"] = change(before)
            self.assertNotEqual(before, bundle["erasures.ndjson"])
            self.check(reseal(bundle), "TAMPERED", seq, reason="step 8")

    def test_step_8_events_that_are_no_erasures(self) -> None:
        run, good = RUN[4:], {"reason": "asked"}
        for stream, kind, data, payload in (
            (RUN, "DataErased", {"runId": run, "seqs": [13]}, good),
            ("ledger/other", "DataErased", {"runId": run, "seqs": [13]}, good),
            ("ledger/acme", "LedgerSealed", {"runId": run, "seqs": [13]}, good),
            ("ledger/acme", "DataErased", {"seqs": [13]}, good),
            ("ledger/acme", "DataErased", {"runId": "x", "seqs": [13]}, good),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": 13}, good),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": [13, 13]}, good),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": [14, 13]}, good),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": [13, -1]}, good),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": [13, 39]}, good),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": []}, good),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": ["13"]}, good),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": [13]}, {"reason": 1}),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": [13]}, {}),
            ("ledger/acme", "DataErased", {"runId": run, "seqs": [13]}, None),
        ):
            ledger = example_ledger()
            ledger.erase([13], at(50), log=False)
            ledger.append(stream, at(51), (kind, data, payload))
            bundle = make_bundle(ledger, 12, 24)
            proof = [h.hex() for h in naive_inclusion(39, ledger.hashes())]
            bundle["erasures.ndjson"] = canonical(
                {"event": ledger.lines[39], "proof": proof}) + b"\n"
            self.check(reseal(bundle), "TAMPERED", 39, reason="step 8")

    def test_step_8_a_reason_that_was_erased(self) -> None:
        ledger = example_ledger()
        ledger.erase([13], at(50))
        ledger.erase([39], at(51))
        self.check(make_bundle(ledger, 12, 24), "TAMPERED", 39, reason="without its reason")

    def test_step_8_the_seq_of_a_header_that_breaks_a_rule(self) -> None:
        for old, new, seq in ((b"user:alice", b"user:al ice", 39),
                              (b"2026-11-23", b"2026-11-33", 39),
                              (b'"schema":1', b'"schema":2', 39), (b'"v":1', b'"w":1', None)):
            bundle = self.erased_bundle()
            bundle["erasures.ndjson"] = bundle["erasures.ndjson"].replace(old, new, 1)
            self.check(reseal(bundle), "TAMPERED", seq, reason="step 8")

    def test_step_9_digests(self) -> None:
        for name in v.DIGESTED_FILES:
            for member, value in (("bytes", 1), ("blake3", "ab" * 32), ("sha256", "ab" * 32)):
                bundle = self.bundle()
                bundle["manifest.json"]["files"][name][member] = value
                self.check(bundle, "TAMPERED", None, reason=f"step 9: {name}")

    def test_another_tenant_under_this_name(self) -> None:
        other = make_bundle(example_ledger(OTHER_LEDGER), 12, 24)
        self.check(other, "UNTRUSTED", None)
        self.check(other, "VERIFIED", None, "--key", vkey(OTHER_LEDGER, SEED))
        other["checkpoint"] = self.middle["checkpoint"]
        self.check(reseal(other), "TAMPERED", None, reason="step 3")
        other["manifest.json"]["ledger"] = LEDGER
        self.check(other, "TAMPERED", 12, reason="step 7")

    def test_random_damage_is_never_verified_and_never_crashes(self) -> None:
        source = random.Random(11)
        good = self.erased_bundle()
        for _ in range(120):
            bundle = copy.deepcopy(good)
            bundle["manifest.json"] = canonical(bundle["manifest.json"]) + b"\n"
            name = source.choice(v.BUNDLE_FILES)
            content, place = bytearray(bundle[name]), source.randrange(len(bundle[name]))
            kind = source.randrange(4)
            if kind == 0:
                content[place] ^= 1 << source.randrange(8)
            elif kind == 1:
                del content[place]
            elif kind == 2:
                content.insert(place, source.randrange(256))
            else:
                del content[place:]
            bundle[name] = bytes(content)
            code, report, err = run_main([self.write(bundle), "--key", self.KEY])
            self.assertIn(code, (11, 12, 13), (name, kind, place, err, report))


# ---------------------------------------------------------------------------------------------
# Receipts


SUCCEEDED, FAILED, CANCELLED = (f"run/01KAR5T000000000000000000{n}" for n in (1, 2, 3))


def golden_ledger(name: str) -> Ledger:
    """A ledger of `fixtures/ledgers/`, to be signed, continued or damaged here."""
    ledger = Ledger()
    with open(os.path.join(FIXTURES, "ledgers", name + ".ndjson"), "rb") as file:
        lines = file.read().splitlines(keepends=True)
    ledger.lines = [json.loads(line) for line in lines]
    assert list(map(text_line, ledger.lines)) == lines  # so that `canonical` gives their very bytes
    for line in ledger.lines:
        ledger.versions[line["header"]["stream"]] = line["header"]["streamVersion"]
    return ledger


def proven(ledger: Ledger, seq: int, size: int) -> Dict[str, Any]:
    """An event with its inclusion proof in the tree of this size."""
    proof = naive_inclusion(seq, ledger.hashes()[:size])
    return {"event": copy.deepcopy(ledger.lines[seq]), "proof": [h.hex() for h in proof]}


def make_receipt(ledger: Ledger, run: str, size: Optional[int] = None) -> Dict[str, Any]:
    """The receipt of a run (a stream) as of a tree size."""
    size = len(ledger.lines) if size is None else size
    seqs = [n for n in range(size) if ledger.lines[n]["header"]["stream"] == run]
    erased = {n for n in seqs if is_erased(ledger.lines[n])}
    explaining = [n for n in range(size) if ledger.lines[n]["header"]["type"] == "DataErased"
                  and erased & set(ledger.lines[n]["data"]["seqs"])]
    return {
        "checkpoint": note(ledger.name, ledger.hashes()[:size]),
        "erasures": [proven(ledger, n, size) for n in explaining],
        "events": [proven(ledger, n, size) for n in seqs],
        "format": 1, "ledger": ledger.name, "runId": run[4:], "treeSize": size,
    }


# Where to write the receipts that are verified here, with their verdicts, for another verifier.
RECEIPTS = os.environ.get("STELLA_RECEIPTS")


def record_receipt(folder: str, test: str, text: bytes, options: List[str],
                   report: Dict[str, Any]) -> None:
    """Add a case: the receipt under the digest of its bytes, what it was verified with, the verdict."""
    os.makedirs(folder, exist_ok=True)
    name = hashlib.sha256(text).hexdigest()[:16] + ".json"
    with open(os.path.join(folder, name), "wb") as file:
        file.write(text)
    given = list(zip(options, options[1:]))
    step = re.match(r"step (\d)", report["reason"])
    case = {
        "test": test.rsplit(".", 1)[-1], "receipt": name,
        "keys": [value for option, value in given if option == "--key"],
        "witnesses": [value for option, value in given if option == "--witness"],
        "verdict": report["verdict"], "seq": report["seq"],
        "step": None if step is None else int(step.group(1)),
        "ended": report.get("ended"),
    }
    with open(os.path.join(folder, "cases.ndjson"), "a", encoding="utf-8") as cases:
        cases.write(json.dumps(case, sort_keys=True) + "\n")


class Receipts(BundleCase):
    """Section 11: built from the golden ledgers and signed here, whole and damaged."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.ledger = golden_ledger("retries_and_a_cancel")
        cls.good = make_receipt(cls.ledger, FAILED)
        erased = golden_ledger("retries_and_a_cancel")
        erased.erase([5], at(100), run=FAILED)
        erased.erase([8], at(101), run=FAILED)
        cls.erased = make_receipt(erased, FAILED)

    def receipt(self, **changed: Any) -> Dict[str, Any]:
        """The receipt of the run that failed (seq 5 to 16), with members replaced."""
        return {**copy.deepcopy(self.good), **changed}

    def verify(self, receipt: Any, *options: str) -> Tuple[int, Dict[str, Any], str]:
        """A receipt, as members or as the bytes of its file."""
        text = canonical(receipt) + b"\n" if isinstance(receipt, dict) else receipt
        keys = [] if "--key" in options else ["--key", self.KEY]
        told = run_main(["--receipt", self.write(text), *keys, *options])
        # Another verifier's limit is not changed here.
        if RECEIPTS is not None and "verdict" in told[1] and v.MAX_RECEIPT_BYTES == 32 << 20:
            record_receipt(RECEIPTS, self.id(), text, [*keys, *options], told[1])
        return told

    def check(self, receipt: Any, verdict: str, seq: Optional[int] = None, *options: str,
              reason: str = "") -> None:
        code, report, err = self.verify(receipt, *options)
        self.assertEqual((report.get("verdict"), report.get("seq")), (verdict, seq),
                         report.get("reason", err))
        self.assertEqual(code, v.EXIT_CODES[verdict])
        self.assertIn(reason, report["reason"])

    def test_runs_that_have_ended(self) -> None:
        for name, run, first, last, kind in (
            ("a_run_that_succeeds", SUCCEEDED, 3, 16, "RunSucceeded"),
            ("retries_and_a_cancel", FAILED, 5, 16, "RunFailed"),
            ("retries_and_a_cancel", CANCELLED, 18, 23, "RunCancelled"),
        ):
            receipt = make_receipt(golden_ledger(name), run)
            for options in ([], ["--pure"]):
                code, report, err = self.verify(receipt, *options)
                self.assertEqual((code, report.get("verdict")), (0, "VERIFIED"),
                                 report.get("reason", err))
                self.assertEqual(
                    [report[name] for name in ("ledger", "runId", "events", "erased", "firstSeq",
                                               "lastSeq", "lastType", "ended", "key")],
                    [LEDGER, run[4:], last - first + 1, 0, first, last, kind, True, self.KEY])
                self.assertEqual(report["treeSize"], receipt["treeSize"])
                self.assertEqual(report["root"], receipt["checkpoint"].split("\n")[2])

    def test_a_run_at_every_tree_size(self) -> None:
        for size in range(6, 26):
            code, report, _ = self.verify(make_receipt(self.ledger, FAILED, size))
            self.assertEqual((code, report["treeSize"]), (0, size))
            self.assertEqual((report["lastSeq"], report["ended"]), (min(size, 17) - 1, size > 16))
            self.assertIn("there may be more" if size < 17 else "all events", report["reason"])

    def test_events_of_others_in_between(self) -> None:
        ledger = Ledger()
        ledger.append("ledger/acme", at(0), ("LedgerOpened", {}, None))
        for n in range(4):
            kind = "RunCreated" if n == 0 else "StepQueued"
            for stream in (RUN, OTHER_RUN):
                ledger.append(stream, at(n), (kind, {}, {"text": "naïve 😀 ]},"}))
        self.check(make_receipt(ledger, OTHER_RUN), "VERIFIED")

    def test_text_for_people(self) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            v.main(["--receipt", self.write(canonical(self.good) + b"\n"), "--key", self.KEY])
        for line in ("VERIFIED\n", f"  runId     {FAILED[4:]}\n", "  firstSeq  5\n",
                     "  lastType  RunFailed\n", "  ended     yes\n", f"  key       {self.KEY}\n"):
            self.assertIn(line, out.getvalue())

    def test_step_1_white_space_and_what_follows(self) -> None:
        good = canonical(self.good) + b"\n"
        for text in (
            b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"{", good[:-1], good + b"\n", good + b"x",
            good * 2, good[:-1] + b" \n", good[:-1] + b"\r\n", b" " + good, b"\xef\xbb\xbf" + good,
            good.replace(b",", b", ", 1), good.replace(b'"events":[', b'"events":[ '),
            good[:-1] + b"trailing\n", good.replace(b'"format":1', b'"format":1.0'),
            good.replace(b'"format":1', b'"format":1,"format":1'), good.replace(b"]", b",]"),
            good.replace(b'"proof":["', b'"proof":["\xff', 1), good[:200], good[:-20] + b"\n",
            good.replace(b'"format"', b'"form\\u0061t"'), json.dumps(self.good).encode() + b"\n",
        ):
            self.check(text, "TAMPERED", reason="step 1")
        for end in (b" ", b"\r", b"x"):
            self.check(good[:-1] + end, "TAMPERED", reason="step 1")

    def test_step_1_members_and_types(self) -> None:
        event = self.good["events"][0]
        for changed in (
            {"more": 1}, {"checkpoint": 1}, {"checkpoint": []}, {"erasures": None},
            {"erasures": {}}, {"events": {}}, {"events": None}, {"events": [1]}, {"events": [{}]},
            {"events": [[event]]}, {"events": [{**event, "more": 1}]},
            {"events": [{"event": canonical(event["event"]).decode(), "proof": []}]},
            {"events": [{**event, "proof": "ab" * 32}]}, {"events": [{"event": event["event"]}]},
            {"events": [{**event, "proof": ["AB" * 32]}]}, {"events": [{**event, "proof": [1]}]},
            {"erasures": [{**event, "proof": ["ab" * 31]}]}, {"erasures": [1]},
            {"ledger": "acme"}, {"ledger": 1}, {"runId": "x"}, {"runId": FAILED}, {"runId": None},
            {"treeSize": "25"}, {"treeSize": -1}, {"treeSize": 2**53}, {"treeSize": 25.5},
            {"treeSize": True}, {"format": "1"}, {"format": None}, {"format": [1]},
        ):
            self.check(self.receipt(**changed), "TAMPERED", reason="step 1")
        for name in self.good:
            receipt = self.receipt()
            del receipt[name]
            self.check(receipt, "TAMPERED", reason="step 1")

    def test_step_1_a_later_format(self) -> None:
        for form in (0, 2, 2**53 - 1):
            self.check(self.receipt(format=form), "UNTRUSTED", reason="step 1")
            self.check({"format": form, "more": [{}]}, "UNTRUSTED", reason="step 1")
        self.check({"format": 2**53}, "TAMPERED", reason="step 1")

    def test_step_1_too_large(self) -> None:
        limit = v.MAX_RECEIPT_BYTES
        self.assertEqual(limit, 33_554_432)
        self.addCleanup(lambda: setattr(v, "MAX_RECEIPT_BYTES", limit))
        v.MAX_RECEIPT_BYTES = len(canonical(self.good)) + 1
        self.check(self.good, "VERIFIED")
        v.MAX_RECEIPT_BYTES -= 1
        self.check(self.good, "TAMPERED", reason="step 1")

    def test_data_as_deep_as_it_may_be(self) -> None:
        for depth, verdict in ((127, "VERIFIED"), (128, "TAMPERED")):
            ledger, value = Ledger(), []  # type: Ledger, Any
            for _ in range(depth - 2):
                value = [value]
            ledger.append("ledger/acme", at(0), ("LedgerOpened", {}, None))
            ledger.append(RUN, at(1), ("RunCreated", {"deep": value}, None))
            self.check(make_receipt(ledger, RUN), verdict)

    def test_step_2_keys(self) -> None:
        receipt = self.receipt()
        for key in (vkey(LEDGER, OTHER_SEED), vkey(OTHER_LEDGER, SEED), self.KEY + "@26-",
                    self.KEY + "@0-24"):
            self.check(receipt, "UNTRUSTED", None, "--key", key, reason="step 2")
        self.check(receipt, "VERIFIED", None, "--key", self.KEY + "@25-25")
        self.check(receipt, "VERIFIED", None, "--key", vkey(LEDGER, OTHER_SEED), "--key", self.KEY)
        other = note(LEDGER, self.ledger.hashes(), OTHER_SEED)
        self.check(self.receipt(checkpoint=other), "UNTRUSTED", reason="step 2")
        wrong = receipt["checkpoint"].splitlines()[-1] + "\n"
        self.check(self.receipt(checkpoint=note(LEDGER, self.ledger.hashes()[::-1], extra=wrong)),
                   "UNTRUSTED", reason="wrong signature")

    def test_step_2_checkpoints(self) -> None:
        good = self.good["checkpoint"]
        for text in ("", good[:-1], good + "\n", good.replace("\n", "\r\n"), "rubbish"):
            self.check(self.receipt(checkpoint=text), "TAMPERED", reason="step 2")
        self.check(self.receipt(checkpoint=good.replace("\n25\n", "\n26\n")), "UNTRUSTED")
        self.check(self.receipt(treeSize=24), "TAMPERED", reason="step 2: treeSize")
        self.check(self.receipt(treeSize=26), "TAMPERED", reason="step 2: treeSize")
        self.check(self.receipt(ledger=OTHER_LEDGER), "TAMPERED", reason="step 2: the receipt")

    def test_step_2_witnesses(self) -> None:
        witness = vkey("witness.example", OTHER_SEED, 4)
        self.check(self.good, "UNTRUSTED", None, "--witness", witness, "--key", self.KEY)
        body = "".join(self.good["checkpoint"].splitlines(keepends=True)[:3])
        line = signature_line("witness.example", OTHER_SEED, body, 1_700_000_000)
        self.check(self.receipt(checkpoint=self.good["checkpoint"] + line), "VERIFIED", None,
                   "--witness", witness, "--key", self.KEY)

    def test_step_2_comes_before_the_events(self) -> None:
        receipt = self.receipt(events=[])
        self.check(receipt, "UNTRUSTED", None, "--key", vkey(LEDGER, OTHER_SEED))
        self.check(receipt, "TAMPERED", reason="step 4")

    def test_step_3_events_that_were_changed(self) -> None:
        for place, part, value in (
            (0, "payload", {"inputs": {}, "labels": {}}), (0, "salt", "ab" * 16),
            (2, "data", {"attempt": 9}), (2, "hash", "ab" * 32), (0, "salt", None),
            (2, "payload", {}), (3, "more", 1),
        ):
            receipt = self.receipt()
            receipt["events"][place]["event"][part] = value
            self.check(receipt, "TAMPERED", reason=f"step 3: event {place + 1} ")
        for member, value in (("actor", "user:eve"), ("seq", 6), ("type", "StepSucceeded"),
                              ("streamVersion", 0), ("recordedAt", "2026-02-30T09:00:00.000000Z")):
            receipt = self.receipt()
            receipt["events"][3]["event"]["header"][member] = value
            self.check(receipt, "TAMPERED", reason="step 3: event 4 ")

    def test_step_3_events_of_others(self) -> None:
        receipt = self.receipt()
        receipt["events"][4] = proven(self.ledger, 19, 25)
        self.check(receipt, "TAMPERED", 19,
                   reason="step 3: event 5 of the receipt: an event of a")
        self.check(self.receipt(runId=CANCELLED[4:]), "TAMPERED", 5, reason="of another stream")
        receipt = self.receipt()
        receipt["events"].append(proven(self.ledger, 17, 25))
        self.check(receipt, "TAMPERED", 17, reason="of another stream")
        other = make_receipt(self.renamed(), FAILED)
        self.check(other, "VERIFIED", None, "--key", vkey(OTHER_LEDGER, SEED))
        self.check(self.receipt(events=other["events"]), "TAMPERED", 5, reason="of another ledger")

    def renamed(self) -> Ledger:
        """The same events in another ledger."""
        ledger = golden_ledger("retries_and_a_cancel")
        ledger.name = OTHER_LEDGER
        for line in ledger.lines:
            line["header"]["ledger"] = OTHER_LEDGER
        ledger.chain(0)
        return ledger

    def test_step_4_events_left_out_and_moved(self) -> None:
        for change, seq in (
            (lambda events: events.pop(0), 6), (lambda events: events.pop(5), 11),
            (lambda events: events.insert(3, events.pop(4)), 9),
            (lambda events: events.reverse(), 16),
            (lambda events: events.insert(3, events[3]), 8), (lambda events: events.clear(), None),
            (lambda events: events.__delitem__(slice(0, -1)), 16),
        ):
            receipt = self.receipt()
            change(receipt["events"])
            self.check(receipt, "TAMPERED", seq, reason="step 4")

    def test_step_4_the_last_events_left_out(self) -> None:
        receipt = self.receipt()
        receipt["events"].pop()
        _, report, _ = self.verify(receipt)
        self.assertEqual((report["verdict"], report["ended"]), ("VERIFIED", False))

    def test_step_4_what_a_ledger_should_not_hold(self) -> None:
        # Signed by the key, and wrong: versions that jump, times that go back, no RunCreated.
        for seq, member, value in (
            (5, "type", "StepQueued"), (5, "streamVersion", 2), (9, "streamVersion", 4),
            (9, "streamVersion", 6), (9, "recordedAt", at(0)),
        ):
            ledger = golden_ledger("retries_and_a_cancel")
            ledger.lines[seq]["header"][member] = value
            ledger.chain(seq)
            self.check(make_receipt(ledger, FAILED), "TAMPERED", seq, reason="step 4")
        ledger = golden_ledger("retries_and_a_cancel")
        ledger.lines[5]["header"]["streamVersion"] = 2
        ledger.chain(5)
        self.check(make_receipt(ledger, FAILED, 6), "TAMPERED", 5, reason="step 4: the first event")
        ledger = golden_ledger("retries_and_a_cancel")
        receipt = make_receipt(ledger, FAILED)
        moved = copy.deepcopy(ledger)
        moved.lines[9]["header"]["seq"] = 3
        rehash(moved.lines[9])
        receipt["events"][4]["event"] = moved.lines[9]
        self.check(receipt, "TAMPERED", 3, reason="step 4")

    def test_step_5_proofs(self) -> None:
        for change in (
            lambda proof: proof.pop(), lambda proof: proof.pop(0), lambda proof: proof.clear(),
            lambda proof: proof.append("ab" * 32), lambda proof: proof.reverse(),
            lambda proof: proof.__setitem__(0, "ab" * 32),
            lambda proof: proof.extend(["ab" * 32] * 100),
        ):
            for place in (0, 7, 11):
                receipt = self.receipt()
                change(receipt["events"][place]["proof"])
                self.check(receipt, "TAMPERED", place + 5,
                           reason=f"step 5: the proof of the event at seq {place + 5} ")
        receipt = self.receipt()
        receipt["events"][3]["proof"] = receipt["events"][4]["proof"]
        self.check(receipt, "TAMPERED", 8, reason="step 5")

    def test_step_5_events_that_the_key_never_signed(self) -> None:
        forged = golden_ledger("retries_and_a_cancel")
        forged.lines[16]["header"]["type"] = "RunSucceeded"
        forged.chain(16)
        receipt = make_receipt(forged, FAILED)
        self.check(receipt, "VERIFIED")
        receipt["checkpoint"] = self.good["checkpoint"]
        self.check(receipt, "TAMPERED", 5, reason="step 5")
        # An event that the tree of a smaller checkpoint does not hold.
        receipt = self.receipt(checkpoint=note(LEDGER, self.ledger.hashes()[:16]), treeSize=16)
        self.check(receipt, "TAMPERED", 5, reason="step 5")

    def test_step_6_erasures(self) -> None:
        _, report, _ = self.verify(self.erased)
        self.assertEqual((report["verdict"], report["erased"]), ("VERIFIED_WITH_ERASURES", 2))
        self.check(self.erased, "VERIFIED_WITH_ERASURES")
        erasures = self.erased["erasures"]
        self.assertEqual(len(erasures), 2)
        longer = [{**erasures[0], "proof": erasures[0]["proof"] + ["ab" * 32]}, erasures[1]]
        for changed, seq in (
            ([], 5), (erasures[:1], 8), (erasures[1:], 5), (erasures[::-1], 25),
            (erasures[:1] * 2, 25), (longer, 25), (self.good["events"], 5),
            (erasures + [{**erasures[1], "proof": ["ab" * 32] * 2_200}], None),
            (json.loads(json.dumps(erasures).replace("asked", "other")), 25),
            ([{"event": {}, "proof": []}], None),
        ):
            self.check({**self.erased, "erasures": changed}, "TAMPERED", seq, reason="step 6")

    def test_step_6_payloads_removed_quietly(self) -> None:
        receipt = self.receipt()
        receipt["events"][3]["event"].update(payload=None, salt=None)
        self.check(receipt, "TAMPERED", 8, reason="step 6")

    def test_step_6_an_erasure_that_names_nothing_here(self) -> None:
        receipt = copy.deepcopy(self.erased)
        before = golden_ledger("retries_and_a_cancel")
        for place, seq in ((0, 5), (3, 8)):
            receipt["events"][place]["event"] = before.lines[seq]
        self.check(receipt, "VERIFIED")

    def test_many_events_by_several_processes(self) -> None:
        before = v.PARALLEL_FROM_BYTES
        self.addCleanup(lambda: setattr(v, "PARALLEL_FROM_BYTES", before))
        v.PARALLEL_FROM_BYTES = 0
        self.check(self.good, "VERIFIED", None, "--jobs", "2")
        blocks = v.RECEIPT_BLOCK_EVENTS
        self.addCleanup(lambda: setattr(v, "RECEIPT_BLOCK_EVENTS", blocks))
        for size in (1, 5, 12):
            v.RECEIPT_BLOCK_EVENTS = size
            self.check(self.good, "VERIFIED", None, "--jobs", "1")

    def test_usage(self) -> None:
        path, key = self.write(canonical(self.good) + b"\n"), ["--key", self.KEY]
        for arguments in (
            ["--receipt", path], ["--receipt", path + "x", *key], ["--receipt", path, path, *key],
            ["--receipt", self.folder, *key], ["--receipt", path, "--since", path, *key],
            ["--receipt", path, "--key", "rubbish"], ["--receipt"],
        ):
            code, report, err = run_main(arguments)
            self.assertEqual((code, report), (2, {}), arguments)
            self.assertNotIn("an error of the verifier", err)

    def test_random_damage_is_never_verified_and_never_crashes(self) -> None:
        source = random.Random(12)
        good = canonical(self.erased) + b"\n"
        for _ in range(150):
            content, place = bytearray(good), source.randrange(len(good))
            kind = source.randrange(4)
            if kind == 0:
                content[place] ^= 1 << source.randrange(8)
            elif kind == 1:
                del content[place]
            elif kind == 2:
                content.insert(place, source.randrange(256))
            else:
                del content[place:]
            if content != good:
                code, report, err = self.verify(bytes(content))
                self.assertIn(code, (12, 13), (kind, place, err, report))


# ---------------------------------------------------------------------------------------------
# Archives, plain exports, the command line


def tar_of(bundle: Bundle, names: Sequence[str] = v.BUNDLE_FILES, prefix: bytes = b"",
           kind: bytes = b"0") -> bytes:
    """A ustar archive as section 10.4 describes it; `prefix` is the folder of its files."""
    text = b""
    for name in names:
        content = bundle[name]
        content = canonical(content) + b"\n" if isinstance(content, dict) else content
        header = bytearray(512)
        header[0:len(name)] = name.encode()
        header[100:108], header[108:116], header[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
        header[124:136], header[136:148] = b"%011o\0" % len(content), b"%011o\0" % 0
        header[148:156], header[156:157], header[257:265] = b" " * 8, kind, b"ustar\x0000"
        header[345:345 + len(prefix)] = prefix
        header[148:156] = b"%06o\0 " % sum(header)
        text += bytes(header) + content + bytes(-len(content) % 512)
    return text + bytes(1_024)


def zstd_compressor() -> Optional[Callable[[bytes], bytes]]:
    """What writes zstd here; whoever can write it can read it."""
    try:
        import zstandard
        return zstandard.ZstdCompressor().compress
    except ImportError:
        pass
    try:
        from compression import zstd
        return zstd.compress
    except ImportError:
        return None


class Archives(BundleCase):
    """`.tar.zst`: needs something that writes zstd."""

    def setUp(self) -> None:
        super().setUp()
        compress = zstd_compressor()
        if compress is None:
            self.skipTest("neither zstandard nor Python 3.14")
        self.compress = compress

    def test_archives(self) -> None:
        bundle, good = self.bundle(), tar_of(self.bundle())
        wrong_sum = bytearray(good)
        wrong_sum[0] ^= 1
        names = v.BUNDLE_FILES
        for content, verdict in (
            (self.compress(good), "VERIFIED"),
            (self.compress(tar_of(bundle, names[::-1])), "VERIFIED"),
            (self.compress(good[:-1_024]), "VERIFIED"),
            (self.compress(tar_of(bundle, names[1:])), "INCOMPLETE"),
            (self.compress(tar_of(bundle, prefix=b"folder")), "INCOMPLETE"),
            (self.compress(tar_of(bundle, kind=b"x")), "TAMPERED"),
            (self.compress(good) + self.compress(b"more"), "TAMPERED"),
            (self.compress(good) + b"more", "TAMPERED"),
            (self.compress(good[:-3_000]), "INCOMPLETE"), (self.compress(b""), "INCOMPLETE"),
            (self.compress(good)[:-100], "INCOMPLETE"),
            (self.compress(good)[:4] + b"\xff" * 900, "TAMPERED"),
            (self.compress(bytes(wrong_sum)), "TAMPERED"),
            (self.compress(tar_of(bundle, [*names, names[1]])), "TAMPERED"),
            (self.compress(tar_of(bundle, [names[1]] * 1_001)), "TAMPERED"),
        ):
            path = self.write(content)
            os.rename(path, path + ".tar.zst")
            code, report, err = run_main([path + ".tar.zst", "--key", self.KEY])
            self.assertEqual(report.get("verdict"), verdict, (report, err))

    def test_what_is_no_archive_gets_no_verdict(self) -> None:
        path = self.write(b"no zstd at all")
        os.rename(path, path + ".tar.zst")
        code, _, err = run_main([path + ".tar.zst", "--key", self.KEY])
        self.assertEqual(code, 2)
        self.assertIn("is no bundle", err)

    def test_other_entries_and_too_many_of_them(self) -> None:
        bundle = self.bundle()
        bundle["link"], bundle["../events.ndjson"] = b"", b"x"
        names = [*v.BUNDLE_FILES, "link", "../events.ndjson"]
        code, report, _ = run_main([self.write(self.compress(tar_of(bundle, names))),
                                    "--key", self.KEY])
        self.assertEqual(report["verdict"], "VERIFIED")
        for links, verdict in ((995, "VERIFIED"), (996, "TAMPERED")):
            text = self.compress(tar_of(bundle, [*v.BUNDLE_FILES, *["link"] * links]))
            code, report, _ = run_main([self.write(text), "--key", self.KEY])
            self.assertEqual(report["verdict"], verdict)


class PlainExports(BundleCase):
    """Section 6: the chain alone."""

    def plain(self, *contents: bytes) -> Tuple[int, Dict[str, Any]]:
        code, report, _ = run_main([self.write(content) for content in contents])
        return code, report

    def lines(self) -> List[bytes]:
        return list(map(text_line, self.ledger.lines))

    def test_the_ledgers_among_the_fixtures(self) -> None:
        folder = os.path.join(FIXTURES, "ledgers")
        for name in sorted(os.listdir(folder)):
            code, report, err = run_main([os.path.join(folder, name)])
            self.assertEqual((code, report.get("verdict")), (0, "CONSISTENT"), (name, err))

    def test_files_that_continue_each_other(self) -> None:
        lines = self.lines()
        code, report = self.plain(b"".join(lines[:12]), b"", b"".join(lines[12:]))
        self.assertEqual((code, report["firstSeq"], report["lastSeq"]), (0, 0, 38))
        self.assertEqual(report["lastHash"], self.ledger.lines[-1]["hash"])
        code, report = self.plain(b"".join(lines[12:20]))
        self.assertEqual((code, report["prev"]), (0, self.ledger.lines[11]["hash"]))

    def test_an_erasure_is_counted(self) -> None:
        ledger = example_ledger()
        ledger.erase([7, 13], at(50))
        code, report = self.plain(b"".join(map(text_line, ledger.lines)))
        self.assertEqual((code, report["erased"], report["erasedSeqs"]), (0, 2, [7, 13]))

    def test_broken_files(self) -> None:
        lines = self.lines()
        for contents, seq in (
            ([b"".join(lines[:5] + lines[6:])], 5), ([b"".join(lines)[:-1]], 38),
            ([b"".join(lines[:12]), b"".join(lines[13:])], 12), ([b"\n"], None),
            ([b"".join(lines[13:])], None), ([b"x" * 300_000], None),
            ([b"".join(lines[:3]) + lines[3].replace(b"alice", b"bobby")], 3),
        ):
            code, report = self.plain(*contents)
            self.assertEqual((code, report["verdict"], report["seq"]), (4, "BROKEN", seq))

    def test_a_prev_that_is_not_the_hash_before(self) -> None:
        for seq, step in ((0, "step 14"), (5, "step 9")):
            ledger = example_ledger()
            ledger.lines[seq]["header"]["prev"] = "ab" * 32
            rehash(ledger.lines[seq])
            ledger.chain(seq + 1)
            code, report = self.plain(b"".join(map(text_line, ledger.lines)))
            self.assertEqual((code, report["seq"]), (4, seq or None))
            self.assertIn(step, report["reason"])

    def test_many_blocks(self) -> None:
        before = v.BLOCK_BYTES
        self.addCleanup(lambda: setattr(v, "BLOCK_BYTES", before))
        for size in (1, 7, 600, 1_000):
            v.BLOCK_BYTES = size
            self.assertEqual(self.plain(b"".join(self.lines()[:9]))[0], 0)


class CommandLine(BundleCase):
    """Wrong usage is exit code 2, and never a verdict."""

    def test_usage(self) -> None:
        bundle, plain = self.write(self.bundle()), self.write(b"")
        neutral = vkey(LEDGER, SEED, 1, (1).to_bytes(32, "little"))
        witness = vkey("w", SEED, 4)
        for arguments in (
            [], [bundle], [plain, "--key", self.KEY], [bundle, plain, "--key", self.KEY],
            [bundle + "x", "--key", self.KEY], [bundle, "--key", "rubbish"],
            [bundle, "--key", self.KEY[:-1]], [bundle, "--key", self.KEY.replace("+a", "+b")],
            [bundle, "--key", neutral], [bundle, "--key", witness],
            [bundle, "--key", vkey("not a ledger", SEED)],
            [bundle, "--key", vkey("no-ledger", SEED)], [bundle, "--key", self.KEY + "@5-3"],
            [bundle, "--key", self.KEY + "@5"], [bundle, "--key", self.KEY + "@-5"],
            [bundle, "--key", self.KEY, "--since", bundle + "x"],
            [bundle, "--key", self.KEY, "--witness", self.KEY],
            [bundle, "--key", self.KEY, "--witness", witness, "--witnesses-needed", "2"],
            [bundle, "--key", self.KEY, "--witnesses-needed", "1"],
        ):
            code, report, err = run_main(arguments)
            self.assertEqual((code, report), (2, {}), arguments)
            self.assertTrue(err)
            self.assertNotIn("an error of the verifier", err)

    def test_text_shows_the_verdict_and_no_control_characters(self) -> None:
        bundle = self.bundle()
        bundle["checkpoint"] = "\x1b[2J\n1\nx\n\n\u2014 a b\n".encode()
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            v.main([self.write(bundle), "--key", self.KEY])
        self.assertTrue(out.getvalue().startswith("TAMPERED\n"))
        self.assertNotIn("\x1b", out.getvalue())


# ---------------------------------------------------------------------------------------------
# The tamper corpus


class TamperCorpus(unittest.TestCase):
    """Every folder of `fixtures/tampered/` that has an `expected.json`."""

    FOLDER = os.path.join(FIXTURES, "tampered")

    def test_corpus(self) -> None:
        names = sorted(os.listdir(self.FOLDER)) if os.path.isdir(self.FOLDER) else []
        cases = [n for n in names if os.path.isfile(os.path.join(self.FOLDER, n, "expected.json"))]
        self.assertTrue(cases, "fixtures/tampered holds no case")
        for name in cases:
            with self.subTest(name):
                self.check_case(os.path.join(self.FOLDER, name))

    def check_case(self, folder: str) -> None:
        """One case: the verdict and the seq that `expected.json` names."""
        with open(os.path.join(folder, "expected.json"), encoding="utf-8") as file:
            expected = json.load(file)
        if zstd_compressor() is None and any(n.endswith(".zst") for n in expected["bundles"]):
            self.skipTest("neither zstandard nor Python 3.14")
        arguments = [os.path.join(folder, name) for name in expected["bundles"]]
        if expected["receipt"] is not None:
            arguments += ["--receipt", os.path.join(folder, expected["receipt"])]
        for key in expected["keys"]:
            arguments += ["--key", key]
        if expected.get("since") is not None:
            arguments += ["--since", os.path.join(folder, expected["since"])]
        for witness in expected.get("witnesses") or []:
            arguments += ["--witness", witness]
        if expected.get("witnessesNeeded") is not None:
            arguments += ["--witnesses-needed", str(expected["witnessesNeeded"])]
        _, report, err = run_main(arguments)
        self.assertEqual((report.get("verdict"), report.get("seq")),
                         (expected["verdict"], expected["seq"]), report.get("reason", err))


if __name__ == "__main__":
    unittest.main()
