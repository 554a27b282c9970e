# SPDX-License-Identifier: GPL-2.0-or-later
"""Enrol one certificate as PK, KEK and db in an empty OVMF variable store.

The store's own tool (virt-fw-vars) is not in Debian 12.  Formats: UEFI 2.10,
32.4.1 (EFI_SIGNATURE_LIST); edk2 MdeModulePkg, AuthenticatedVariableFormat.h.
"""

import struct
import uuid

from .errors import LabError

STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
SECURITY = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
ENABLE = "f0a30bc7-af08-4556-99c4-001009c93a44"
X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
OWNER_NAME = "20549000-9c1c-4b5e-8d4e-5c0e1b3a7f11"
OWNER = uuid.UUID(OWNER_NAME).bytes_le

NV_BS, NV_BS_RT = 0x03, 0x07
TIME_BASED = 0x20
VALID = 0x3f
TIME = struct.pack("<HBBBBBBIhBB", 2026, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)


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
    time = TIME if attributes & TIME_BASED else b"\0" * 16
    return struct.pack("<HBBIQ16sIII16s", 0x55aa, VALID, 0, attributes, 0,
                       time, 0, len(encoded), len(data),
                       uuid.UUID(guid).bytes_le) + encoded + data


def enrol(store, certificate):
    """The empty variable store with Secure Boot on, trusting CERTIFICATE."""
    at = store.find(STORE)
    if at < 0 or store[at + 28:at + 30] != b"\xff\xff":
        raise LabError("OVMF_VARS: not an empty variable store")
    signatures = X509 + struct.pack("<III", 28 + 16 + len(certificate), 0,
                                    16 + len(certificate)) + OWNER + certificate
    keys = NV_BS_RT | TIME_BASED
    out = bytearray(store)
    at += 28
    for one in (variable(GLOBAL, "PK", keys, signatures),
                variable(GLOBAL, "KEK", keys, signatures),
                variable(SECURITY, "db", keys, signatures),
                variable(ENABLE, "SecureBootEnable", NV_BS, b"\1")):
        at = (at + 3) & ~3
        out[at:at + len(one)] = one
        at += len(one)
    return bytes(out)
