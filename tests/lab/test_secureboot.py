#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The variable store with keys enrolled, and with deleted variables, read back."""

import os
import struct
import sys
import tempfile
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import nvram, secureboot       # noqa: E402
from labcore.errors import LabError     # noqa: E402

EMPTY = b"volume header".ljust(72, b"\0") + secureboot.STORE + \
    struct.pack("<IBBHI", 8192, 0x5a, 0xfe, 0, 0) + b"\xff" * 8164


def variables(store):
    """{name: (attributes, data)}; stops where the store is erased."""
    found, at = {}, 72 + 28
    while struct.unpack_from("<H", store, at)[0] == 0x55aa:
        attributes, = struct.unpack_from("<I", store, at + 4)
        names, size = struct.unpack_from("<II", store, at + 36)
        name = store[at + 60:at + 60 + names].decode("utf-16-le").rstrip("\0")
        found[name] = attributes, store[at + 60 + names:][:size]
        at = (at + 60 + names + size + 3) & ~3
    return found


class Enrol(unittest.TestCase):
    def test_keys_are_there(self):
        certificate = b"\x30\x82" + b"c" * 101
        store = secureboot.enrol(EMPTY, certificate)
        self.assertEqual(len(store), len(EMPTY))
        found = variables(store)
        self.assertEqual(list(found), ["PK", "KEK", "db", "SecureBootEnable"])
        for name in ("PK", "KEK", "db"):
            attributes, data = found[name]
            self.assertEqual(attributes, 0x27)
            self.assertTrue(data.endswith(secureboot.OWNER + certificate))
            self.assertEqual(struct.unpack_from("<I", data, 16)[0], len(data))
        self.assertEqual(found["SecureBootEnable"], (0x03, b"\1"))

    def test_exchange_keys(self):
        certificates = [b"\x30\x82" + bytes([i]) * (90 + i) for i in range(3)]
        found = variables(secureboot.enrol(EMPTY, certificates[0], certificates[1:]))
        at, data = 0, found["KEK"][1]
        for certificate in certificates:
            size, header, one = struct.unpack_from("<III", data, at + 16)
            self.assertEqual((header, one), (0, 16 + len(certificate)))
            self.assertEqual(data[at + 28:at + size],
                             secureboot.OWNER + certificate)
            at += size
        self.assertEqual(at, len(data))
        self.assertNotIn(certificates[1], found["db"][1] + found["PK"][1])

    def test_not_an_empty_store(self):
        used = EMPTY.replace(b"\xff\xff", b"\xaa\x55", 1)
        for store in (b"", b"rubbish" * 100, used):
            with self.assertRaisesRegex(LabError, "not an empty variable"):
                secureboot.enrol(store, b"\x30\x82")

    def test_shim_without_certificate(self):
        image = bytearray(512)
        struct.pack_into("<I", image, 0x3c, 64)
        with self.assertRaisesRegex(LabError, "shim: no section"):
            secureboot.vendor_certificate(bytes(image))


class Update(unittest.TestCase):
    def test_dbx(self):
        with tempfile.TemporaryDirectory() as folder:
            signer = secureboot.Signer(folder)
            updates = [signer.dbx(number, 24 << 10) for number in (0, 1)]
            self.assertLess(updates[0][4:20], updates[1][4:20])
            update = updates[0]
            length, revision, kind = struct.unpack_from("<IHH", update, 20)
            self.assertEqual((revision, kind), (0x0200, 0x0ef1))
            self.assertEqual(update[28:44], secureboot.PKCS7)
            pkcs7, data = update[44:20 + length], update[20 + length:]
            self.assertEqual(struct.unpack_from("<I", data, 16)[0], len(data))
            self.assertTrue(24 * 1024 - 48 < len(data) <= 24 * 1024)
            self.assertEqual(len(pkcs7), 4 + struct.unpack_from(">H", pkcs7, 2)[0])
            self.assertEqual(pkcs7[4:7], b"\x02\x01\x01")      # its version
            self.assertIn(signer.certificate, pkcs7)
            # The same key again, and the same bytes
            self.assertEqual(secureboot.Signer(folder).dbx(0, 24 << 10), update)


class Fragment(unittest.TestCase):
    def setUp(self):
        self.keys = secureboot.enrol(EMPTY, b"\x30\x82" + b"c" * 101)

    def test_deleted_variables_follow_the_keys(self):
        store, free = nvram.fragment(self.keys, 3, 1001)
        self.assertEqual(len(store), len(EMPTY))
        found = variables(store)
        self.assertEqual(list(found)[:4], list(variables(self.keys)))
        self.assertEqual(list(found)[4:],
                         [f"PerennialDeleted{i}" for i in range(3)])
        for i in range(3):
            self.assertEqual(found[f"PerennialDeleted{i}"],
                             (7, bytes([i]) * 1001))
        self.assertEqual(store.count(b"\xaa\x55\x3f"), 4)
        self.assertEqual(store.count(b"\xaa\x55\x3c"), 3)
        self.assertEqual(store[-free:], b"\xff" * free)
        self.assertNotEqual(store[-free - 8:-free], b"\xff" * 8)

    def test_kept_variables_are_in_between(self):
        found = list(variables(nvram.fragment(self.keys, 3, 100, 2)[0]))[4:]
        self.assertEqual(found, ["PerennialDeleted0", "PerennialDeleted1",
                                 "PerennialKept2", "PerennialDeleted3",
                                 "PerennialKept4"])

    def test_none(self):
        self.assertEqual(nvram.fragment(self.keys, 0, 1)[0], self.keys)

    def test_refused(self):
        for store, count, size, why in (
                (self.keys, 99, 1000, r"deleted = 99: variables of 1000 bytes "
                 "don't fit, 6 do"),
                (b"rubbish" * 100, 1, 1, "not a variable store")):
            with self.assertRaisesRegex(LabError, why):
                nvram.fragment(store, count, size)


if __name__ == "__main__":
    unittest.main()
