#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a power cut may leave of a flash, told from the trace of its commands."""

import os
import sys
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import flash                   # noqa: E402

BEFORE = bytes(3 * flash.BLOCK)


def line(offset, value, cycle, name="vars"):
    return (f"pflash_io_write {name}: offset:0x{offset:04x} size:1 "
            f"value:0x{value:04x} wcycle:{cycle}\n")


def program(offset, value, name="vars"):
    return [line(offset, 0x10, 0, name), line(offset, value, 1, name)]


TRACE = [*program(5000, 0x11), *program(7, 0x99, "code"), line(5000, 0xff, 0),
         line(5001, 0x20, 0), line(5001, 0xd0, 1), *program(5001, 0x22),
         line(5000, 0x70, 0), "pflash_io_write vars: off"]


def state(number):
    """After so many of the commands to vars."""
    image = bytearray(BEFORE)
    if 2 <= number < 4:
        image[5000] = 0x11
    elif number >= 4:
        image[4096:8192] = b"\xff" * 4096
        if number >= 7:
            image[5001] = 0x22
    return bytes(image)


class Flash(unittest.TestCase):
    def find(self, after):
        return flash.find_state(BEFORE, after, flash.commands(TRACE, "vars"))

    def test_states(self):
        for number, last in ((0, 1), (2, 3), (4, 6), (7, 8)):
            self.assertEqual(self.find(state(number)), (last, 8))

    def test_no_state(self):
        torn = bytearray(state(4))
        torn[6000] = 0
        for after in (torn, b"\xff" * len(BEFORE), state(7)[:-1] + b"\1"):
            self.assertEqual(self.find(bytes(after)), (None, 8))

    def test_other_order(self):
        """The second byte without the first was never there."""
        image = bytearray(BEFORE)
        image[1] = 2
        trace = program(0, 1) + program(1, 2)
        self.assertEqual(flash.find_state(BEFORE, bytes(image), flash.commands(
            trace, "vars")), (None, 4))

    def test_nothing_traced(self):
        self.assertEqual(flash.find_state(BEFORE, BEFORE, iter(())), (0, 0))


if __name__ == "__main__":
    unittest.main()
