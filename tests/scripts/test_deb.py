#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/deb with a root that pretends: what it refuses, and what it builds of."""

import re
import subprocess
import unittest

from checkout import TOP, Checkout


class Refusals(Checkout):
    def deb(self, **env):
        return self.run_in("scripts/deb", **env)

    def test_not_root(self):
        self.tool("id", "echo 1000\n")
        self.refused(self.deb(), "deb: error:", "need root")
        self.assertFalse((self.top / "build").exists())

    def test_nothing_fetched(self):
        self.tool("id", "echo 0\n")
        self.refused(self.deb(), "build/inputs/linux-deb13", "make deb")


class Packages(unittest.TestCase):
    def test_words_are_those_that_are_replaced(self):
        script = (TOP / "scripts/deb").read_text()
        for path in (TOP / "packaging").rglob("debian/*"):
            for word in re.findall(r"@[A-Z]+@", path.read_text()):
                self.assertIn(f"s|{word}|", script, path)

    def test_scripts_of_packages_are_sound(self):
        scripts = [*(TOP / "packaging").rglob("*.postinst"),
                   TOP / "packaging/check"]
        self.assertEqual(len(scripts), 2)
        for path in scripts:
            subprocess.run(["sh", "-n", path], check=True)

    def test_all_options_are_in_the_man_page(self):
        page = (TOP / "packaging/tools/kvm-roots.1").read_text()
        usage = subprocess.run([TOP / "scripts/kvm-roots", "--help"], text=True,
                               capture_output=True, check=True).stdout
        options = set(re.findall(r"--[a-z]+", usage)) - {"--help"}
        self.assertGreater(len(options), 2)
        for option in options:
            self.assertIn(option.replace("-", "\\-"), page)


if __name__ == "__main__":
    unittest.main()
