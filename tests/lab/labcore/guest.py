# SPDX-License-Identifier: GPL-2.0-or-later
"""What the nested guest with a kernel of a distribution is made of."""

import gzip
import lzma
import os
import struct
import subprocess

from . import secureboot
from .cpio import Archive
from .errors import LabError

# As Secure Boot's databases are in 2026.
DBX_SIZE = 24 << 10
DBX_UPDATES = 3


def _zstd(data):
    try:
        return subprocess.run(["zstd", "-dc"], input=data, check=True,
                              capture_output=True).stdout
    except FileNotFoundError:
        raise LabError("efivarfs.ko.zst: the program zstd is needed; install "
                       "it") from None


UNPACK = {".ko": bytes, ".xz": lzma.decompress, ".gz": gzip.decompress,
          ".zst": _zstd}


def initramfs(init, module, updates):
    """INIT, the MODULE efivarfs or None, and signed UPDATES of dbx."""
    archive = Archive()
    archive.console()
    archive.file("init", init, 0o755)
    if module:
        archive.file("efivarfs.ko", module)
    for number, update in enumerate(updates):
        archive.file(f"dbx.{number}", update)
    return archive.bytes()


def efivarfs(modules):
    """The kernel's module, unpacked; None if MODULES, its folder, has none."""
    folder = os.path.join(modules, "kernel/fs/efivarfs")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        unpack = UNPACK.get(os.path.splitext(name)[1])
        if unpack:
            with open(os.path.join(folder, name), "rb") as f:
                return unpack(f.read())
    return None


def updates(signer):
    return [signer.dbx(i, DBX_SIZE) for i in range(DBX_UPDATES)]


def variables(store, shim, signer):
    """A variable store with Secure Boot on that trusts the distribution's kernels.

    SIGNER may update its databases.
    """
    return secureboot.enrol(store, secureboot.vendor_certificate(shim),
                            [signer.certificate])


def release(kernel):
    """What `uname -r` says in a bzImage; None if KERNEL, its bytes, is none."""
    if kernel[0x202:0x206] != b"HdrS":
        return None
    at, = struct.unpack_from("<H", kernel, 0x20e)
    return kernel[at + 0x200:at + 0x280].split(b"\0")[0].split(b" ")[0].decode(
        "ascii", "replace")


def signature(kernel):
    """The certificate table of a bzImage, which is a PE image, too; or nothing."""
    pe, = struct.unpack_from("<I", kernel, 0x3c)
    if kernel[pe:pe + 4] != b"PE\0\0":
        return b""
    at, size = struct.unpack_from("<II", kernel, pe + 24 + 112 + 4 * 8)
    return kernel[at:at + size]
