#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/deb with a root that pretends: what it refuses, and what it builds of."""

import re
import shutil
import subprocess
import unittest

from checkout import TOP, Checkout


# "show linux-image-amd64=VERSION": a second upload has a name of its own.
KERNEL = r"""
case $4 in
linux-image-amd64=6.12.118-1) r=6.12.118+deb13 ;;
linux-image-amd64=6.12.118-2) r=6.12.118+deb13+1 ;;
*) exit 0 ;;
esac
echo "Package: linux-image-amd64"
echo "Depends: linux-image-$r-amd64 (= ${4#*=})"
"""


class Fetched(Checkout):
    def fetched(self):
        """As if scripts/fetch had been."""
        self.tool("id", "echo 0\n")
        self.tool("git", "echo 1000000000\n")
        self.tool("apt-cache", KERNEL)
        inputs = self.top / "build/inputs"
        inputs.mkdir(parents=True)
        for name in ("linux-deb13", "qemu", "libvirt-deb13"):
            (inputs / name).write_text("p 6.12.118-1 f s\n")
        lists = self.home / ".cache/perennial/apt"
        lists.mkdir(parents=True)
        (lists / "sources.list").write_text("")


class Refusals(Fetched):
    def deb(self, **env):
        return self.run_in("scripts/deb", **env)

    def test_not_root(self):
        self.tool("id", "echo 1000\n")
        self.refused(self.deb(), "deb: error:", "need root")
        self.assertFalse((self.top / "build").exists())

    def test_nothing_fetched(self):
        self.tool("id", "echo 0\n")
        self.refused(self.deb(), "build/inputs/linux-deb13", "make deb")

    def test_source_that_is_not_fetched(self):
        for name, what in (("kvm", "linux-deb13"), ("qemu", "qemu"),
                           ("libvirt", "libvirt-deb13")):
            self.refused(self.run_in("scripts/deb-source", "--inputs", name),
                         f"build/inputs/{what}", "make deb")

    def test_another_upload_is_another_package(self):
        """What is fetched counts, not the series alone."""
        self.fetched()
        shutil.copytree(TOP / "patches", self.top / "patches",
                        dirs_exist_ok=True)
        for name, what in (("kvm", "linux-deb13"), ("libvirt", "libvirt-deb13")):
            result = self.run_in("scripts/deb-source", "--inputs", name)
            self.assertIn(str(self.top / "build/inputs" / what),
                          result.stdout.splitlines())

    def test_source_of_no_package(self):
        self.refused(self.run_in("scripts/deb-source", "bash", self.home / "src"),
                     "'bash'", "kvm, tools, qemu or libvirt is accepted")

    def test_no_space(self):
        self.fetched()
        self.tool("df", "echo; echo / 9 9 99 9 /\n")
        result = self.deb()
        self.refused(result, "not enough disk space", "99 MiB available")


class Builds(Fetched):
    """With a mirror, a chroot and sources that pretend."""

    def setUp(self):
        super().setUp()
        self.fetched()
        self.tool("apt-ftparchive", "exit 0\n")
        # The last but one argument: the root is made of one file.
        self.tool("mmdebstrap", """
for new; do case $new in *.new.tar) break ;; esac; done
d=$(mktemp -d); mkdir $d/boot $d/srv; : >"$d/boot/vmlinuz-6.12.118+deb13-amd64"
tar -C $d -cf "$new" .; rm -r $d
""")
        # --mount sh -euc SCRIPT sh ROOT COMMAND CCACHE ARCHIVES
        self.tool("unshare", f"""
echo "$7" | sed 's/.*; //' >>{self.home}/commands
[ ! -e {self.home}/broken ] || {{ echo error: it is broken; exit 1; }}
case $7 in
*packages) touch "$6/build/p.deb" ;;
*/srv/check*) mkdir "$6/srv/lab"; echo ok back ;;
esac
""")
        source = self.top / "scripts/deb-source"
        source.write_text(f"""#!/bin/sh
if [ "$1" = --inputs ]; then echo {self.home}/$2; exit; fi
mkdir -p "$2/src/debian"; : >"$2/src/debian/control"
""")
        for name in ("kvm", "tools", "qemu", "libvirt"):
            (self.home / name).write_text("1")
        (self.top / "packaging").mkdir()
        for name in ("build", "check"):
            (self.top / "packaging" / name).write_text("")

    def commands(self, status=0):
        """What ran inside of roots."""
        log = self.home / "commands"
        log.unlink(missing_ok=True)
        result = self.run_in("scripts/deb")
        self.assertEqual(result.returncode, status, result.stderr)
        return result, log.read_text().splitlines() if log.exists() else []

    def test_what_has_not_changed_is_not_done_again(self):
        _, first = self.commands()
        self.assertEqual([line.split()[1] for line in first],
                         ["/build.sh"] * 6 + ["/srv/check"])
        result, again = self.commands()
        self.assertEqual(again, [])
        self.assertIn("up to date", result.stdout)
        (self.home / "qemu").write_text("2")
        _, one = self.commands()
        self.assertEqual(one, ["sh /build.sh packages",
                               "sh /srv/check '6.12.118+deb13'"])

    def test_a_build_that_fails_is_done_again(self):
        self.commands()
        (self.home / "qemu").write_text("2")
        (self.home / "broken").touch()
        result, _ = self.commands(status=1)
        self.assertIn("it is broken", result.stderr)
        # What is there is of before, and installed as it was.
        self.assertTrue((self.top / "build/deb/qemu/p.deb").exists())
        (self.home / "broken").unlink()
        _, again = self.commands()
        self.assertEqual(len(again), 2)

    def source(self, version):
        (self.top / "build/inputs/linux-deb13").write_text(f"p {version} f s\n")

    def test_a_kernel_that_the_mirror_lacks(self):
        self.source("6.12.119-1")
        self.refused(self.run_in("scripts/deb"), "6.12.119-1", "./configure")

    def test_a_root_with_another_kernel(self):
        self.source("6.12.118-2")
        result, _ = self.commands(status=1)
        self.assertIn("trixie has no kernel 6.12.118+deb13+1", result.stderr)


class Packages(unittest.TestCase):
    def test_words_are_those_that_are_replaced(self):
        script = (TOP / "scripts/deb-source").read_text()
        for path in (TOP / "packaging").rglob("debian/*"):
            for word in re.findall(r"@[A-Z]+@", path.read_text()):
                self.assertIn(f"s|{word}|", script, path)

    def test_scripts_of_packages_are_sound(self):
        scripts = [*(TOP / "packaging").rglob("*.postinst"),
                   TOP / "packaging/build", TOP / "packaging/check",
                   TOP / "packaging/qemu/prepare"]
        self.assertEqual(len(scripts), 4)
        for path in scripts:
            subprocess.run(["sh", "-n", path], check=True)

    def test_the_way_back_is_the_documented_one(self):
        """What packaging/check does at its end, docs/install.md says."""
        check = (TOP / "packaging/check").read_text()
        page = (TOP / "docs/install.md").read_text()
        check, page = (" ".join(text.replace("\\\n", " ").split())
                       for text in (check, page))
        command = re.search(r"# docs.*? has this line. apt-get install -y (--purge .*?/p'\))",
                            check)[1]
        self.assertIn(f"apt install {command}", page)
        self.assertIn("perennial-kvm-dkms- perennial-tools- $(dpkg-query", command)

    def test_the_way_there_is_the_documented_one(self):
        check = (TOP / "packaging/check").read_text().replace("\\\n", " ")
        command = re.search(r"README has this line\..*?apt-get install -y (.*?)\nrm", check,
                            re.S)[1]
        for name in ("README.md", "docs/install.md"):
            self.assertIn("# apt install " + " ".join(command.split()),
                          (TOP / name).read_text())

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
