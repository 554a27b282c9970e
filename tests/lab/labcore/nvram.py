# SPDX-License-Identifier: GPL-2.0-or-later
"""A UEFI variable store that has been in use: full of deleted variables.

The firmware reclaims such a store at boot, when what is free in it has become
less than one variable may take.  Formats: edk2 MdeModulePkg,
AuthenticatedVariableFormat.h; OVMF's store of 256 KiB is part of a larger one.
"""

import struct

from . import secureboot
from .errors import LabError

HEADER = 28             # VARIABLE_STORE_HEADER: GUID, u32 size, format, state, ...
VARIABLE = 60           # AUTHENTICATED_VARIABLE_HEADER
DELETED = 0x3c          # added, in deleted transition, deleted
KEYS = {"deleted", "deleted-size", "kept"}


def _end(store, at):
    """Where the variables that start at AT end."""
    while struct.unpack_from("<H", store, at)[0] == 0x55aa:
        names, size = struct.unpack_from("<II", store, at + 36)
        at = (at + VARIABLE + names + size + 3) & ~3
    return at


def fragment(store, deleted, size, kept=0):
    """(store, bytes free): with DELETED variables of SIZE bytes behind those it has.

    KEPT ones that are valid stand between them.
    """
    start = store.find(secureboot.STORE)
    if start < 0:
        raise LabError("[nvram]: not a variable store")
    limit = start + struct.unpack_from("<I", store, start + 16)[0]
    out = bytearray(store)
    at = _end(store, start + HEADER)
    count = deleted + kept
    for number in range(count):
        keep = (number + 1) * kept // count > number * kept // count
        variable = bytearray(secureboot.variable(
            secureboot.OWNER_NAME, f"Perennial{'Kept' if keep else 'Deleted'}{number}",
            secureboot.NV_BS_RT, bytes(number % 255 for _ in range(size))))
        if not keep:
            variable[2] = DELETED
        if at + len(variable) > limit:
            raise LabError(f"[nvram] deleted = {deleted}: variables of {size} bytes don't "
                           f"fit, {number} do")
        out[at:at + len(variable)] = variable
        at = (at + len(variable) + 3) & ~3
    return bytes(out), limit - at
