#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""fetch: whose mirrors it uses, what it takes, how it fails."""

import hashlib
import unittest

from checkout import Checkout

ONE_LINE = """\
deb http://packages.example.org/apt bookworm main
deb http://mirror.example.org/debian bookworm main contrib
deb http://mirror.example.org/debian-security bookworm-security main
"""
DEB822 = """\
Types: deb
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main non-free-firmware

Types: deb deb-src
URIs: http://security.example.org/
Suites: bookworm-security
Components: main
"""
# Nothing listens on the discard port.
DEAD = "deb http://127.0.0.1:9/debian bookworm main\n"
DATA = b"a package\n"
SHOW = f"""\
Package: ovmf
Version: 2022.11-6+deb12u2
Filename: pool/main/e/edk2/ovmf_2022.11-6+deb12u2_all.deb
Size: {len(DATA)}
SHA256: {hashlib.sha256(DATA).hexdigest()}
"""
SID_SHOW = f"""\
Package: linux-source-7.2
Version: 7.2.13-1
Filename: pool/main/l/linux/linux-source-7.2_7.2.13-1_all.deb
Size: {len(DATA)}
SHA256: {hashlib.sha256(DATA).hexdigest()}
"""
SID_MADISON = """\
linux-source-7.2 | 7.2.13-1 | http://m/debian sid/main amd64 Packages
"""
TAR_SHOW = f"""\
Package: libvirt
Version: 11.3.0-3
Filename: libvirt_11.3.0.orig.tar.xz
Checksums-Sha256:
 {"1" * 64} 4321 libvirt_11.3.0-3.dsc
 {hashlib.sha256(DATA).hexdigest()} {len(DATA)} libvirt_11.3.0.orig.tar.xz
 {"2" * 64} 833 libvirt_11.3.0.orig.tar.xz.asc
 {"3" * 64} 99999 libvirt_11.3.0-3.debian.tar.xz
"""
TAR_MADISON = """\
libvirt | 11.3.0-3 | http://m/debian trixie/main Sources
libvirt | 11.3.0-3 | http://m/debian trixie/main amd64 Packages
libvirt | 12.0.0-1 | http://m/debian trixie/main Sources
"""
MADISON = """\
ovmf | 2022.11-6+deb12u2 | http://m/debian bookworm/main amd64 Packages
ovmf | 2022.11-6+deb12u1 | http://m/debian-security bookworm-security/main \
amd64 Packages
ovmf | 2025.02-8 | http://m/debian trixie/main amd64 Packages
ovmf | 2026.01-1 | http://m/debian bookworm/main Sources
"""


class Fetch(Checkout):
    def setUp(self):
        super().setUp()
        self.apt = self.home / ".cache/perennial/apt"
        self.cache = self.home / ".cache/perennial/download"
        self.deb = self.cache / "ovmf_2022.11-6+deb12u2_all.deb"

    def machine(self, text, name="a.list"):
        """apt, as if TEXT were all the sources of this machine."""
        etc = self.top.parent / "etc"
        (etc / "parts").mkdir(parents=True, exist_ok=True)
        for old in (etc / "parts").iterdir():
            old.unlink()
        (etc / "parts" / name).write_text(text)
        (etc / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "/dev/null";\n'
            f'Dir::Etc::sourceparts "{etc}/parts";\n'
            f'Dir::State::lists "{etc}/lists";\n')
        self.conf = str(etc / "apt.conf")

    def fetch(self, *names, **env):
        return self.run_in("scripts/fetch", *names, APT_CONFIG=self.conf,
                           **env)

    def mirrors(self, text, name, **env):
        self.machine(text, name)
        self.refused(self.fetch("meson", OFFLINE="yes", **env),
                     "--offline", "no list was ever downloaded")
        return {line.split()[2] + " " + line.split()[3] for line in
                (self.apt / "sources.list").read_text().splitlines()}

    def test_the_machines_mirrors(self):
        base = "http://mirror.example.org/debian"
        for text, name, env, security in (
                (ONE_LINE, "a.list", {}, base + "-security"),
                (DEB822, "a.sources", {}, "http://security.example.org"),
                # debootstrap leaves this, with no word of security.
                (f"deb {base} bookworm main\n", "a.list", {},
                 base + "-security"),
                (ONE_LINE, "a.list", {"SECURITY_MIRROR": "http://s.example/d"},
                 "http://s.example/d")):
            with self.subTest(text=text, **env):
                self.assertEqual(
                    self.mirrors(text, name, **env),
                    {f"{base} trixie", f"{base} bookworm",
                     f"{base} bookworm-backports",
                     f"{security} trixie-security",
                     f"{security} bookworm-security"})

    def test_no_debian_mirror(self):
        self.machine("deb http://packages.example.org/apt bookworm stable\n")
        self.refused(self.fetch("meson"), "bookworm main")

    def test_no_network(self):
        self.machine(DEAD)
        r = self.fetch("meson")
        self.assertIn("fetch: error: apt-get update: no network", r.stderr)
        self.assertEqual(len(r.stderr.splitlines()), 1, r.stderr)
        self.assertNotEqual(r.returncode, 0)
        self.assertFalse((self.apt / "updated").exists())
        self.assertEqual(list(self.cache.iterdir()), [])

    def test_an_unknown_input(self):
        self.pretend()
        self.refused(self.fetch("frobnicator"), "'frobnicator'")

    def test_no_disk_space(self):
        self.machine(DEAD)
        self.tool("df", "echo x; echo 'fs 1 1 77 1% /'\n")
        self.refused(self.fetch("meson"), "MiB needed", "77 MiB available")

    def pretend(self, madison=MADISON, data=DATA, show=SHOW):
        """Lists and a mirror that hold one package."""
        self.machine(DEAD)
        for name, text in (("madison", madison), ("show", show)):
            (self.home / name).write_text(text)
        (self.home / "data").write_bytes(data)
        package = show.split()[1]
        deb = show.split()[5].rpartition("/")[2]
        self.tool("apt-cache", f"""
while [ "$1" = -c ]; do shift 2; done
case $1 in
pkgnames) echo {package} ;;
madison) cat {self.home}/madison ;;
show|showsrc) cat {self.home}/show ;;
esac
""")
        self.tool("apt-get", f"""
case "$*" in
indextargets*|*--print-uris) exec /usr/bin/apt-get "$@" ;;
*update*) echo update >>{self.home}/calls ;;
*download*) echo download >>{self.home}/calls
    cat {self.home}/data >{deb} ;;
esac
""")

    def calls(self):
        return (self.home / "calls").read_text().split()

    def test_the_newest_of_the_suites(self):
        self.pretend()
        r = self.fetch("ovmf")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual(self.deb.read_bytes(), DATA)
        name, version, path, _ = (self.top / "build/inputs/ovmf"
                                  ).read_text().split()
        self.assertEqual((name, version, path),
                         ("ovmf", "2022.11-6+deb12u2", str(self.deb)))
        # What is there, and whole, is not fetched again.
        self.fetch("ovmf")
        self.assertEqual(self.calls(), ["update", "download"])

    def test_harmed_downloads_are_fetched_again(self):
        self.pretend()
        self.fetch("ovmf")
        self.deb.write_bytes(b"half")
        self.assertEqual(self.fetch("ovmf").returncode, 0)
        self.assertEqual(self.deb.read_bytes(), DATA)

    def test_none_of_the_series(self):
        self.pretend(madison="ovmf | 2022.11 | http://m/debian sid/main "
                     "amd64 Packages\n")
        self.refused(self.fetch("ovmf"), "'ovmf'", "'20[0-9.]+-.*'",
                     "bookworm,bookworm-security")
        self.assertFalse((self.top / "build/inputs/ovmf").exists())

    def test_what_arrives_is_not_what_was_promised(self):
        self.pretend(data=b"something else\n")
        r = self.fetch("ovmf")
        self.refused(r, "ovmf 2022.11-6+deb12u2", "not what the lists promise")
        self.assertEqual(list(self.cache.iterdir()), [])

    def test_upstreams_tar_file_alone(self):
        self.pretend(TAR_MADISON, show=TAR_SHOW)
        r = self.fetch("libvirt")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        name, version, path, _ = (self.top / "build/inputs/libvirt"
                                  ).read_text().split()
        self.assertEqual((name, version), ("libvirt", "11.3.0-3"))
        self.assertEqual(path, f"{self.cache}/libvirt_11.3.0.orig.tar.xz")

    def test_sid_has_lists_of_its_own(self):
        self.pretend(SID_MADISON, show=SID_SHOW)
        r = self.fetch("linux-7.2")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        lists = (self.apt.with_name("apt-moving") / "sources.list").read_text()
        self.assertEqual([line.split()[0::3] for line in lists.splitlines()],
                         [[kind, suite] for kind in ("deb-src", "deb")
                          for suite in ("sid", "trixie-backports")])
        self.assertFalse(self.apt.exists())
        self.assertIn("linux-source-7.2 7.2.13-1 ",
                      (self.top / "build/inputs/linux-7.2").read_text())

    def test_sid_moved_on(self):
        self.pretend(SID_MADISON.replace("7.2", "7.3"), show=SID_SHOW)
        self.refused(self.fetch("linux-7.2"), "sid,trixie-backports no longer have",
                     "--linux-7.2-src=DIR")
        self.assertFalse((self.top / "build/inputs/linux-7.2").exists())

    def test_sid_moved_on_after_the_download(self):
        self.pretend(SID_MADISON, show=SID_SHOW)
        self.fetch("linux-7.2")
        inputs = self.top / "build/inputs/linux-7.2"
        before = inputs.read_text()
        inputs.unlink()
        (self.home / "madison").write_text("")
        r = self.fetch("linux-7.2")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("7.2.13-1", r.stderr)
        self.assertEqual(inputs.read_text(), before)
        next(self.cache.iterdir()).write_bytes(b"half")
        self.refused(self.fetch("linux-7.2"), "sid,trixie-backports no longer have")

    def test_offline_with_lists_but_no_file(self):
        self.pretend()
        (self.home / "data").unlink()
        self.fetch("ovmf")
        self.refused(self.fetch("ovmf", OFFLINE="yes"), "--offline",
                     "ovmf 2022.11-6+deb12u2")


if __name__ == "__main__":
    unittest.main()
