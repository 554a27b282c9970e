# SPDX-License-Identifier: GPL-2.0-or-later
"""What a flash holds after each command of a trace (QEMU's pflash_io_write)."""

import re

BLOCK = 4096
LINE = re.compile(r"pflash_io_write (\S+): offset:0x([0-9a-f]+) size:1 "
                  r"value:0x([0-9a-f]+) wcycle:(\d)$")


def commands(lines, name):
    """(offset, None) erases a block, (offset, value) programs a byte, None is else."""
    command = None
    for line in lines:
        match = LINE.search(line.rstrip("\n"))
        if not match or match[1] != name:
            continue
        offset, value, cycle = int(match[2], 16), int(match[3], 16), match[4]
        if cycle == "0":
            command = value
            yield (offset & -BLOCK, None) if value == 0x20 else None
        elif command in (0x10, 0x40):
            yield offset, value
        else:
            yield None


def find_state(before, after, trace):
    """(number, last) of the last command after which BEFORE has become AFTER.

    LAST is how many the trace has; number is None if there was no such moment.
    """
    image = bytearray(before)
    different = sum(a != b for a, b in zip(image, after))
    found = 0 if not different else None
    number = 0
    for number, command in enumerate(trace, 1):
        if command:
            offset, value = command
            new = b"\xff" * BLOCK if value is None else bytes((value,))
            end = offset + len(new)
            if len(new) == 1:
                different += (new[0] != after[offset]) - \
                    (image[offset] != after[offset])
            else:
                different += sum(a != b for a, b in zip(new, after[offset:end])) - \
                    sum(a != b for a, b in zip(image[offset:end], after[offset:end]))
            image[offset:end] = new
        if not different:
            found = number
    return found, number
