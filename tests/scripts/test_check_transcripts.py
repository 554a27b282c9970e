#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""check-transcripts names what is stale, with file and line, and nothing else."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/check-transcripts"

# Where a line says `<<`, what follows it is found stale in that line.
STALE = """\
# Stale
Type `make frobnicate`,  << frobnicate: no target of the Makefile
or `make boot SCENARIO=none HOST=sparc KERNEL=2.4 FOO=1`.  << none: no scenario
 << sparc: no host << 2.4: no kernel << FOO=1: no variable of the Makefile

    tests/lab/run boot --scenario secure-boot --fast      # --slow  << --fast: no option of tests/lab/run
    tests/lab/run bake  << bake: no command of tests/lab/run
    tests/lab/run boot --scenario secure-boot \\ << lose: no run of a scenario << 9.9: no kernel
        --runs keep,lose --kernel 9.9 2>&1 | cat --all
    ./configure --with-ease  << --with-ease: no option of configure
    scripts/gone --help  << scripts/gone: no file
    tests/lab/soak --count 3 --scenario secure-boot --slowly  << --slowly: no option of tests/lab/soak

Once there was `tdp_root_unknown`.  << tdp_root_unknown: no name of a source
And `mmu_unknown` and `qemu_unknown*`.  << mmu_unknown: no name of a source << qemu_unknown*: no name of a source

    -accel kvm,root-retention=forever,root-magic=on  << forever: no value of root-retention= << root-magic: no property of -accel kvm

Set `slot-nap=on`, or `slot-zap=auto|none`.  << slot-nap: no property of -accel kvm << none: no value of slot-zap=

    -> { "execute": "query-kvm-magic" }  << query-kvm-magic: no QMP command
    <- { "return": { "effective": { "magic": "on" } } }  << magic: no QMP member
    <- { "event": "KVM_MAGIC", "data": {} }  << KVM_MAGIC: no QMP event

    -> { "execute": "query-stats", "arguments": { "target": "vm" } }
    <- { "return": [ { "stats": [ { "name": "mmu_lock" } ] } ] }  << mmu_lock: no statistic

    (qemu) info kvm-roots
                      asked for   granted  << granted: no word that info kvm-roots prints
    root-magic        auto        keep  << root-magic: no word that info kvm-roots prints
    (qemu) quit
Or:

    $ scripts/kvm-roots --once /run/vm1.qmp
    root-magic        on (auto)  << root-magic: no word that kvm-roots prints

    VM                            now or total    per minute  << minute: no word that kvm-roots prints
    tdp_root_magic                           2  << tdp_root_magic: no statistic

And:

    $ make boot
    boot                                 default            keep  default/keep
      MMU context resets                  12,460          12,460            1x
      MMU magic                           12,460               2        6,230x  << MMU magic: no row of the report
"""

FRESH = """\
# Fresh
Once there was `make`, make frobnicate, slot-nap=on and tdp_root_unknown, says prose.
`make boot HOST=amd|intel`, `make edit-qemu, refresh-qemu`, `-machine q35,foo-bar=on`, `tdp_root*`,
`slot-zap=slot`, `--kernel`, `KERNEL=7.2-debug`, `root-quota=64M`, `tests/lab/run boot --scenario
pc-seabios --runs keep`

    make boot SCENARIO=pc-seabios HOST=intel   the Intel host, frobnicated --fast
    tests/lab/run boot --scenario secure-boot --kernel BZIMAGE --runs plain   # --fast
    tests/lab/soak --count 3 --scenario secure-boot --size 0

    $ make check
    make frobnicate
    9 passed, 0 failed

Or:

    -> { "execute": "query-kvm-root-retention" }
    <- { "return": { "requested": { "root-retention": "auto" } } }

    (qemu) info kvm-roots
                      asked for   in effect
    root-retention    auto        keep
    slot-zap          auto        slot

Some seconds later:

    slot-zap          slot (auto)

    VM                            now or total    per second
    tdp_roots                                2
    tdp_root_pages                         143           0.0

    vCPU, per second    mmu_resets  mmu_root_loads
    device[0]                133.1             0.0

And:

    boot                                 default            keep  default/keep
      whole-VM root invalidations             18               0      all gone
      guest time                          7.83 s          7.44 s         1.05x
    ...
"""


def split(text):
    """The document, and {line number: what is to be found}."""
    lines, expected = [], []
    for line in text.splitlines():
        line, *found = line.split("<<")
        if line.strip() or not found:
            lines.append(line.rstrip())
        expected += [f"{len(lines)}: {what.strip()}" for what in found]
    return "\n".join(lines) + "\n", expected


class Check(unittest.TestCase):
    def run_on(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder).resolve() / "page.md"
            path.write_text(text, encoding="utf-8")
            r = subprocess.run([sys.executable, SCRIPT, path], text=True,
                               capture_output=True, check=False)
        return r.returncode, r.stdout, r.stderr.replace(f"{path}:", "")

    def test_stale(self):
        text, expected = split(STALE)
        status, out, err = self.run_on(text)
        self.assertEqual((status, out), (1, "0 passed, 1 failed\n"))
        self.assertEqual(sorted(err.splitlines()), sorted(expected))

    def test_fresh(self):
        self.assertEqual(self.run_on(FRESH), (0, "1 passed, 0 failed\n", ""))


if __name__ == "__main__":
    unittest.main()
