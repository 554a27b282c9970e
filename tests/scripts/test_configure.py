#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""configure and the Makefile's variables: one clear message, nothing done."""

import unittest

from checkout import Checkout

ALL_INSTALLED = "echo installed\n"
# What dpkg-query says on a machine without two of the packages.
TWO_MISSING = ('case "$*" in *ninja-build|*libfdt-dev) exit 1 ;; '
               '*) echo installed ;; esac\n')


class Configure(Checkout):
    def setUp(self):
        super().setUp()
        self.tool("dpkg-query", ALL_INSTALLED)
        self.tool("apt-get", f'echo "$@" >>{self.home}/apt-get.log\n')

    def configure(self, *args, **env):
        return self.run_in("./configure", *args, **env)

    def nothing_done(self):
        self.assertFalse((self.top / "build").exists())
        self.assertEqual(list(self.home.iterdir()), [])

    def test_all_is_there(self):
        r = self.configure("--offline")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        text = (self.top / "build/config.mk").read_text()
        self.assertIn("OFFLINE := yes\n", text)
        self.assertIn("CONFIGURE_ARGS := '--offline'\n", text)
        self.assertFalse((self.home / "apt-get.log").exists())

    def test_debians_python_whatever_path_offers(self):
        self.tool("python3", "exit 1\n")
        r = self.configure("--offline")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        text = (self.top / "build/config.mk").read_text()
        self.assertIn("PYTHON := /usr/bin/python3\n", text)

    def test_options(self):
        qemu = self.tree("qemu9", {"VERSION": "9.2.0\n",
                                   "qapi/qapi-schema.json": ""})
        # On the way to 10.1
        qemu10 = self.tree("qemu10.0.50", {"VERSION": "10.0.50\n",
                                           "qapi/qapi-schema.json": ""})
        linux = self.tree("linux61", {
            "Kconfig": "", "Makefile":
            "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 99\n"})
        libvirt = self.tree("libvirt11.4", {
            "src/libvirt_private.syms": "",
            "meson.build": "project(\n  'libvirt', 'c',\n"
            "  version: '11.4.0',\n"})
        spaced = self.tree("white space", {"VERSION": "10.0.2\n"})
        for args, words in (
                (["--frobnicate"], ["--frobnicate", "--qemu-src=DIR"]),
                (["--qemu-11.1-src=/tmp"], ["--qemu-11.1-src", "--qemu-10.2-src"]),
                (["--bash-src=/tmp"], ["--bash-src", "--qemu-src=DIR"]),
                ([f"--qemu-10.2-src={qemu}"], ["9.2.0", "10.2.x"]),
                ([f"--qemu-src={qemu10}"], ["10.0.50", "10.0.x"]),
                (["--qemu-src="], ["--qemu-src", "directory"]),
                (["--qemu-src=/nowhere"], ["--qemu-src=/nowhere"]),
                ([f"--qemu-src={linux}"], [str(linux), "10.0.x"]),
                ([f"--qemu-src={qemu}"], ["9.2.0", "10.0.x"]),
                ([f"--qemu-src={spaced}"], ["white space"]),
                ([f"--linux-src={qemu}"], [str(qemu), "6.12.x"]),
                ([f"--linux-src={linux}"], ["6.1.99", "6.12.x"]),
                ([f"--linux-7.2-src={linux}"], ["6.1.99", "7.2.x"]),
                ([f"--libvirt-src={linux}"], [str(linux), "11.3.0"]),
                ([f"--libvirt-src={libvirt}"], ["11.4.0", "11.3.0"]),
                (["--security-mirror=garbage"], ["garbage", "URI"])):
            with self.subTest(args):
                self.refused(self.configure(*args), *words)
                self.nothing_done()

    def test_trees_of_the_right_series(self):
        qemu = self.tree("qemu10", {"VERSION": "10.0.7\n",
                                    "qapi/qapi-schema.json": ""})
        linux = self.tree("linux612", {
            "Kconfig": "", "Makefile":
            "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 3\n"})
        newer = self.tree("linux72", {
            "Kconfig": "", "Makefile":
            "VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 13\n"})
        libvirt = self.tree("libvirt11", {
            "src/libvirt_private.syms": "",
            "meson.build": "project(\n  'libvirt', 'c',\n"
            "  version: '11.3.0',\n"})
        r = self.configure(f"--qemu-src={qemu}", f"--linux-src={linux}",
                           f"--linux-7.2-src={newer}",
                           f"--libvirt-src={libvirt}")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        text = (self.top / "build/config.mk").read_text()
        self.assertIn(f"SRC_qemu := {qemu}\n", text)
        self.assertIn(f"SRC_linux := {linux}\n", text)
        self.assertIn(f"SRC_linux-7.2 := {newer}\n", text)
        self.assertIn(f"SRC_libvirt := {libvirt}\n", text)

    def test_not_root_gets_one_command(self):
        self.tool("dpkg-query", TWO_MISSING)
        self.tool("id", "echo 1000\n")
        r = self.configure()
        self.assertNotEqual(r.returncode, 0)
        commands = [line.strip() for line in r.stderr.splitlines()
                    if "apt-get" in line]
        self.assertEqual(len(commands), 1, r.stderr)
        self.assertTrue(commands[0].endswith(
            "apt-get install -y --no-install-recommends libfdt-dev "
            "ninja-build"), commands)
        self.nothing_done()

    def test_offline_installs_nothing(self):
        self.tool("dpkg-query", TWO_MISSING)
        self.tool("id", "echo 0\n")
        r = self.configure("--offline")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("ninja-build", r.stderr)
        self.nothing_done()

    def test_root_installs_what_is_missing_and_no_more(self):
        self.tool("dpkg-query", TWO_MISSING)
        self.tool("id", "echo 0\n")
        r = self.configure()
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        calls = (self.home / "apt-get.log").read_text().splitlines()
        self.assertEqual(calls[-1], "install -y --no-install-recommends "
                         "libfdt-dev ninja-build")

    def test_no_network(self):
        self.tool("dpkg-query", TWO_MISSING)
        self.tool("id", "echo 0\n")
        self.tool("apt-get", "echo 'Temporary failure resolving mirror' >&2;"
                  "exit 100\n")
        self.refused(self.configure(), "no network")
        self.assertFalse((self.top / "build/config.mk").exists())

    def test_no_disk_space(self):
        self.tool("df", "echo x; echo 'fs 1 1 77 1% /'\n")
        self.refused(self.configure(), "MiB needed", "77 MiB available")
        self.nothing_done()

    def test_another_architecture(self):
        self.tool("dpkg", "echo arm64\n")
        self.refused(self.configure(), "arm64", "amd64")
        self.nothing_done()

    def test_nowhere_to_cache(self):
        self.refused(self.configure(HOME=None), "HOME")
        self.refused(self.configure(XDG_CACHE_HOME="cache"),
                     "XDG_CACHE_HOME='cache'", "absolute")

    def test_help_does_nothing(self):
        r = self.configure("--help")
        self.assertEqual(r.returncode, 0)
        self.assertIn("--offline", r.stdout)
        self.nothing_done()


class Variables(Checkout):
    def test_garbage_is_refused_before_anything_is_built(self):
        for word, said in (("HOST=arm", ["HOST='arm'", "amd, intel"]),
                           ("HOST=", ["HOST=''", "amd, intel"]),
                           ("KERNEL=6.1", ["KERNEL='6.1'", "7.2-debug"]),
                           ("KERNEL=7.9", ["KERNEL='7.9'", "6.12, 7.2"]),
                           ("QEMU=11.9", ["QEMU='11.9'", "10.0, 10.2"]),
                           ("QEMU=../10.0", ["QEMU='../10.0'"]),
                           ("LIBVIRT=99", ["LIBVIRT='99'", "11.3"]),
                           ("QEMU=10.2 KERNEL=deb13", ["QEMU='10.2'",
                                                       "lab-deb13"]),
                           ("SERIES=x", ["SERIES='x'", "kvm-tpr"]),
                           ("QEMU=10.2 deb", ["QEMU='10.2'", "deb"]),
                           ("SCENARIO=nonsense", ["'nonsense'",
                                                  "pc-seabios"]),
                           ("SCENARIO=../etc/passwd", ["../etc/passwd"]),
                           ("SCENARIO=it's *", ["it's *"]),
                           ("SCENARIO=$$(touch x)`touch x`;touch x",
                            ["accepted"])):
            with self.subTest(word):
                self.refused(self.run_in(
                    "make", "boot", *(word.split() if word.startswith(
                        "QEMU") else [word])), *said)
                self.assertFalse((self.top / "build").exists())
                self.assertFalse((self.top / "x").exists())

    def test_the_environment_has_no_say(self):
        r = self.run_in("make", "-n", "help", HOST="zsh", SCENARIO="x")
        self.assertEqual(r.returncode, 0, r.stderr)

    def test_help_and_clean_need_nothing(self):
        for goal in ("help", "clean", "distclean"):
            with self.subTest(goal):
                r = self.run_in("make", goal)
                self.assertEqual((r.returncode, r.stderr), (0, ""))
                self.assertFalse((self.top / "build").exists())

    def test_distclean_keeps_a_persons_work(self):
        work = self.top / "build/edit/linux"
        work.mkdir(parents=True)
        r = self.run_in("make", "distclean")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("build/edit/linux", r.stderr)
        self.assertTrue(work.exists())


if __name__ == "__main__":
    unittest.main()
