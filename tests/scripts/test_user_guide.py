#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The user guide against what the lab runs."""

import textwrap
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent


class UserGuide(unittest.TestCase):
    def test_libvirt_xml_is_what_the_lab_runs(self):
        domain = (TOP / "tests/lab/libvirt/guest.xml").read_text()
        start = domain.index("    <kvm>\n")
        end = domain.index("</kvm>\n") + len("</kvm>\n")
        block = textwrap.dedent(domain[start:end])
        guide = (TOP / "docs/user-guide.md").read_text()
        self.assertIn("\n" + textwrap.indent(block, "    "), guide)


if __name__ == "__main__":
    unittest.main()
