# SPDX-License-Identifier: GPL-2.0-or-later
"""Enrol one certificate as PK, KEK and db in an empty OVMF variable store, and
sign updates of dbx.

The store's own tool (virt-fw-vars) is not in Debian 12.  Formats: UEFI 2.10,
32.4.1 (EFI_SIGNATURE_LIST), 8.2.2 (EFI_VARIABLE_AUTHENTICATION_2); edk2 MdeModulePkg,
AuthenticatedVariableFormat.h.
"""

import os
import struct
import subprocess
import uuid

from .errors import LabError

STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
ENABLE = "f0a30bc7-af08-4556-99c4-001009c93a44"
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le
PKCS7 = uuid.UUID("4aafd29d-68df-49ee-8aa9-347d375665a7").bytes_le
OWNER_NAME = "20549000-9c1c-4b5e-8d4e-5c0e1b3a7f11"
OWNER = uuid.UUID(OWNER_NAME).bytes_le

NV_BS, NV_BS_RT = 0x03, 0x07
TIME_BASED = 0x20
VALID = 0x3f


def _time(month):
    return struct.pack("<HBBBBBBIhBB", 2026, month, 1, 0, 0, 0, 0, 0, 0, 0, 0)


def _section(image, name):
    """The contents of a section of a PE image."""
    pe = struct.unpack_from("<I", image, 0x3c)[0]
    count, = struct.unpack_from("<H", image, pe + 6)
    optional, = struct.unpack_from("<H", image, pe + 20)
    for i in range(count):
        at = pe + 24 + optional + 40 * i
        if image[at:at + 8].rstrip(b"\0") == name:
            size, _, _, offset = struct.unpack_from("<IIII", image, at + 8)
            return image[offset:offset + size]
    raise LabError(f"shim: no section {name.decode()} in it")


def vendor_certificate(shim):
    """The DER certificate that Debian built into its shim."""
    # PE cuts names at eight characters; the full one is .vendor_cert.
    section = _section(shim, _long_name(shim, b".vendor_cert"))
    size, _, offset, _ = struct.unpack_from("<IIII", section, 0)
    certificate = section[offset:offset + size]
    if certificate[:2] != b"\x30\x82":
        raise LabError("shim: no certificate in its .vendor_cert")
    return certificate


def _element(der, at):
    """(where its contents start, where they end) of the DER element at AT."""
    size, start = der[at + 1], at + 2
    if size & 0x80:
        start += size & 0x7f
        size = int.from_bytes(der[at + 2:start], "big")
    return start, start + size


def subject(certificate):
    """The name, in DER, of whom a certificate speaks of."""
    at = _element(certificate, _element(certificate, 0)[0])[0]
    # version, serial number, algorithm, issuer, validity
    for _ in range(5):
        at = _element(certificate, at)[1]
    return certificate[at:_element(certificate, at)[1]]


def _long_name(image, name):
    """`/offset` of a name that stands in the image's string table."""
    pe = struct.unpack_from("<I", image, 0x3c)[0]
    symbols, count = struct.unpack_from("<II", image, pe + 12)
    at = image.find(name + b"\0", symbols + 18 * count)
    if not symbols or at < 0:
        return name[:8]
    return b"/%d" % (at - symbols - 18 * count)


def variable(guid, name, attributes, data):
    encoded = (name + "\0").encode("utf-16-le")
    time = _time(1) if attributes & TIME_BASED else b"\0" * 16
    return struct.pack("<HBBIQ16sIII16s", 0x55aa, VALID, 0, attributes, 0,
                       time, 0, len(encoded), len(data),
                       uuid.UUID(guid).bytes_le) + encoded + data


def _list(kind, entries):
    """EFI_SIGNATURE_LIST of ENTRIES of one size."""
    size = 16 + len(entries[0])
    return kind + struct.pack("<III", 28 + size * len(entries), 0, size) + \
        b"".join(OWNER + entry for entry in entries)


def enrol(store, certificate, exchange=()):
    """The empty variable store with Secure Boot on, trusting CERTIFICATE.

    Whoever has the key to one of EXCHANGE may update db and dbx, too.
    """
    at = store.find(STORE)
    if at < 0 or store[at + 28:at + 30] != b"\xff\xff":
        raise LabError("OVMF_VARS: not an empty variable store")
    signatures = _list(X509, [certificate])
    kek = signatures + b"".join(_list(X509, [other]) for other in exchange)
    keys = NV_BS_RT | TIME_BASED
    out = bytearray(store)
    at += 28
    for one in (variable(GLOBAL, "PK", keys, signatures),
                variable(GLOBAL, "KEK", keys, kek),
                variable(SECURITY, "db", keys, signatures),
                variable(ENABLE, "SecureBootEnable", NV_BS, b"\1")):
        at = (at + 3) & ~3
        out[at:at + len(one)] = one
        at += len(one)
    return bytes(out)


def _openssl(*words, data=b""):
    try:
        done = subprocess.run(["openssl", *words], input=data, capture_output=True,
                              check=False)
    except FileNotFoundError:
        raise LabError("openssl is not installed; see `make setup`") from None
    if done.returncode:
        raise LabError(f"openssl {words[0]}: {done.stderr.decode().strip()}")
    return done.stdout


class Signer:
    """A key that is made once, in a FOLDER, and its certificate."""

    def __init__(self, folder):
        self.key = os.path.join(folder, "kek.key")
        self.pem = os.path.join(folder, "kek.pem")
        if not os.path.isfile(self.pem):
            os.makedirs(folder, exist_ok=True)
            self._make()
        self.certificate = _openssl("x509", "-in", self.pem, "-outform", "DER")

    def _make(self):
        _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
                 "-subj", "/CN=Perennial lab KEK", "-keyout", self.key,
                 "-out", self.pem)

    def dbx(self, number, size):
        """What an OS writes to efivarfs: a dbx of SIZE bytes, newer with each NUMBER."""
        attributes = struct.pack("<I", NV_BS_RT | TIME_BASED)
        time = _time(2 + number)
        data = _list(SHA256, [struct.pack("<II24x", number, i)
                              for i in range((size - 28) // 48)])
        signed = "dbx".encode("utf-16-le") + uuid.UUID(SECURITY).bytes_le + \
            attributes + time + data
        pkcs7 = _openssl("smime", "-sign", "-binary", "-noattr", "-nosmimecap", "-md",
                         "sha256", "-signer", self.pem, "-inkey", self.key,
                         "-outform", "DER", data=signed)
        # SignedData alone, without the ContentInfo around it: two headers of four
        # bytes, and the object identifier between them.
        pkcs7 = pkcs7[4 + 11 + 4:]
        return attributes + time + \
            struct.pack("<IHH", 24 + len(pkcs7), 0x0200, 0x0ef1) + PKCS7 + pkcs7 + data
