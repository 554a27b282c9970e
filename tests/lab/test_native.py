#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs on a machine's own KVM: what it is, what it refuses, what it runs.

Machines are folders, QEMU is a script that says what QEMU says: nothing here needs
a KVM, and none is touched.
"""

import contextlib
import errno
import glob
import importlib.machinery
import importlib.util
import io
import json
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import guest, native, programs, qemu, scenario, secureboot  # noqa: E402
from labcore import tracing, verdict        # noqa: E402
from labcore.errors import LabError         # noqa: E402
from labcore.machine import KVM_CAP_X86_SMM, Machine     # noqa: E402

SCENARIOS = os.path.join(LAB, "scenarios")
BENCH = os.path.join(LAB, "../../scripts/perennial-bench")

AMD = {"proc/cpuinfo": """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC 7543 32-Core Processor
stepping\t: 1
microcode\t: 0xa0011d1
flags\t\t: fpu svm npt

processor\t: 1
model name\t: another
""", "proc/meminfo": "MemTotal:       16777216 kB\n",
       "proc/sys/kernel/osrelease": "6.12.1-amd64\n",
       "proc/sys/kernel/hostname": "secret-name\n",
       "etc/os-release": 'NAME="x"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
       "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
       "sys/devices/system/cpu/vulnerabilities/retbleed": "Mitigation: IBPB\n",
       "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
       "sys/module/kvm/parameters/tdp_mmu": "Y\n",
       "sys/module/kvm_amd/parameters/npt": "Y\n",
       "sys/module/kvmgt/parameters/other": "1\n",
       "dev/kvm": ""}
INTEL = AMD | {
    "proc/cpuinfo": AMD["proc/cpuinfo"].replace(
        "AuthenticAMD", "GenuineIntel").replace("svm", "hypervisor"),
    "sys/module/kvm_intel/parameters/ept": "Y\n",
    "sys/module/kvm_intel/parameters/unrestricted_guest": "Y\n"}
del INTEL["sys/module/kvm_amd/parameters/npt"]

# Debian's names for what follows; the certificate is a subject and nothing else.
SUBJECT = b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02CA"


def der(tag, contents):
    return bytes((tag, 0x82)) + struct.pack(">H", len(contents)) + contents


CERTIFICATE = der(0x30, der(0x30, b"\xa0\x03\x02\x01\x02" + b"\x02\x01\x07" +
                            b"\x30\x00" + b"\x30\x03\x0c\x01I" + b"\x30\x00" +
                            SUBJECT + b"\x30\x00"))
STORE = secureboot.STORE + struct.pack("<IBBHI", 1 << 16, 0x5a, 0xfe, 0, 0) + \
    b"\xff" * ((1 << 16) - 28)


def shim():
    """A PE image with one section, .vendor_ce, which PE cuts at eight."""
    table = struct.pack("<IIII", len(CERTIFICATE), 0, 16, 0) + CERTIFICATE
    head = b"MZ".ljust(0x3c, b"\0") + struct.pack("<I", 64)
    head += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 0, 0)
    at = len(head) + 40
    return head + b".vendor_"[:8] + struct.pack(
        "<IIII16x", len(table), 0, len(table), at) + table


def bzimage(release="6.12.1-test", signed=SUBJECT):
    image = bytearray(0x1000)
    struct.pack_into("<I", image, 0x3c, 0x80)
    image[0x80:0x84] = b"PE\0\0"
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x20e, 0x300)
    image[0x500:0x500 + len(release) + 9] = release.encode() + b" (x@y) #1"
    if signed:
        struct.pack_into("<II", image, 0x80 + 24 + 112 + 32, len(image), len(signed))
    return bytes(image) + signed


# What the kernel makes of trace.c's triggers.
DEFINES = "hist:keys=vcpu_id:vals=hitcount:since=common_timestamp.usecs:" \
    "sort=hitcount:size=2048:clock=global if entering == 1"
READS = "hist:keys=vcpu_id:vals=hitcount:us=common_timestamp.usecs-$since:" \
    "sort=hitcount:size=2048:clock=global:onmax($us).save(smbase) if entering == 0"

# What a QEMU says: to a probe on stdio, and in a run on its pipes.
QEMU = r'''#!/usr/bin/python3
import json, os, sys
OURS, RUN = @OURS@, @RUN@
PROPERTIES = ["kernel-irqchip"] + ["root-retention", "slot-zap"] * OURS
RETENTION = {"host": {"policies": @POLICIES@, "slot-zap": ["all", "slot"]}}
ANSWERS = {"query-target": {"arch": "@ARCH@"},
           "query-version": {"qemu": {"major": @MAJOR@, "minor": 0, "micro": 3},
                             "package": ""},
           "qom-list-properties": [{"name": name} for name in PROPERTIES],
           "query-kvm": {"enabled": @KVM@, "present": True}}
if OURS:
    ANSWERS["query-kvm-root-retention"] = RETENTION
GREETING = '{"QMP": {}}\n'
asked = 0


def answer(line):
    global asked
    command = json.loads(line)
    name = command["execute"]
    if name == "query-stats":
        asked += 1
        return {"return": [{"provider": "kvm", "stats": [
            {"name": "exits", "value": 1000 * asked},
            {"name": "unwanted", "value": 1}]}]}
    if name not in ANSWERS and name not in ("qmp_capabilities", "quit"):
        return {"error": {"class": "CommandNotFound", "desc": name}}
    return {"return": ANSWERS.get(name, {})}


if "stdio" in sys.argv:
    print(GREETING, end="")
    for line in sys.stdin:
        print(json.dumps(answer(line)))
    sys.exit()
if RUN == "exit":
    sys.exit(os.path.basename(sys.argv[0]) + ": no SMM")


def send(name, text):
    with open(name + ".out", "w") as pipe:
        pipe.write(text)


# The files that it was given are there.
for word in sys.argv:
    for part in word.split(","):
        if part.startswith("file="):
            open(part[5:]).close()
open(sys.argv[sys.argv.index("-kernel") + 1]).close()
qmp, go = open("qmp.in"), open("mark.in")
send("qmp", GREETING)
send("qmp", json.dumps(answer(qmp.readline())) + "\n")
send("console", "hello\n")
workload = "lab.size=" in " ".join(sys.argv)
for phase in ("boot", "fill", "uefi-vars") if workload else ("boot",):
    send("mark", f"@digest name=cpuid value=1\n@phase {phase}\n")
    for _ in range(2):
        send("qmp", json.dumps(answer(qmp.readline())) + "\n")
    go.readline()
if RUN == "hang":
    import time
    time.sleep(600)
send("qmp", '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}\n')
'''


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, data=b"", mode=0o644):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data.encode() if isinstance(data, str) else data)
        os.chmod(path, mode)
        return path

    def machine(self, files):
        for name, text in files.items():
            self.write(f"root/{name}", text)
        return Machine(self.path("root"))

    def qemu(self, name="qemu-system-x86_64", **words):
        text = QEMU
        for key, value in {"ours": False, "run": "pass", "policies": ["default"],
                           "arch": "x86_64", "major": 10, "kvm": True,
                           **words}.items():
            text = text.replace(f"@{key.upper()}@", value if key == "arch"
                                else repr(value))
        return self.write(name, text, 0o755)

    def vm(self):
        """Process 7 has one."""
        self.write("root/proc/7/comm", "qemu\n")
        self.write("root/proc/7/stat", "7 (q) e) S 3 0")
        os.makedirs(self.path("root/proc/7/fd"))
        os.symlink("anon_inode:kvm-vm", self.path("root/proc/7/fd/9"))

    def refused(self, says, function, *arguments, **named):
        with self.assertRaises(LabError) as caught:
            function(*arguments, **named)
        self.assertIn(says, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))


class Facts(Folder):
    def test_amd(self):
        facts = self.machine(AMD).facts()
        self.assertEqual(
            {key: facts[key] for key in ("cpu", "microcode", "cpus", "nested",
                                         "memory_mib", "governor", "huge_pages",
                                         "distribution", "kernel", "patched")},
            {"cpu": "AMD EPYC 7543 32-Core Processor", "microcode": "0xa0011d1",
             "cpus": 2, "nested": False, "memory_mib": 16384,
             "governor": "performance", "huge_pages": "madvise",
             "distribution": "Debian GNU/Linux 13 (trixie)",
             "kernel": "6.12.1-amd64", "patched": False})
        self.assertEqual(facts["kvm"], {"kvm": {"tdp_mmu": "Y"},
                                        "kvm_amd": {"npt": "Y"}})
        self.assertEqual(facts["mitigations"], {"retbleed": "Mitigation: IBPB"})

    def test_patched_and_nested(self):
        facts = self.machine(INTEL | {
            "sys/module/kvm/parameters/tdp_root_policy": "0\n"}).facts()
        self.assertTrue(facts["patched"])
        self.assertTrue(facts["nested"])

    def test_nothing_says_whose_it_is(self):
        self.assertNotIn("secret", json.dumps(self.machine(AMD).facts()))

    def test_what_is_not_there_is_left_out(self):
        facts = self.machine({"proc/cpuinfo": "processor : 0\n"}).facts()
        self.assertNotIn("governor", facts)
        self.assertNotIn("microcode", facts)


class Refusals(Folder):
    def test_good_ones_are_not_refused(self):
        for number, files in enumerate((AMD, INTEL)):
            with self.subTest(number):
                self.folder = self.path(str(number))
                machine = self.machine(files)
                machine.check_device()
                machine.check_kvm()
                machine.check_huge_pages(True)

    def test_no_device(self):
        for files, module in ((AMD, "modprobe kvm_amd"), (INTEL, "VMX")):
            files = dict(files)
            del files["dev/kvm"]
            with self.subTest(module):
                self.folder = self.path(module)
                self.refused(module, self.machine(files).check_device)

    def test_no_rights(self):
        machine = self.machine(AMD)
        device = machine.path("dev/kvm")
        for mode, says in ((0o660, "adduser USER kvm"), (0o600, "be root")):
            os.chmod(device, mode)
            self.refused(says, machine.check_device, access=lambda *_: False)

    def test_parameters(self):
        for files, module, name in (
                (AMD, "kvm_amd", "npt"), (INTEL, "kvm_intel", "ept"),
                (INTEL, "kvm_intel", "unrestricted_guest")):
            for value in ("N", "0"):
                with self.subTest((name, value)):
                    self.folder = self.path(name + value)
                    machine = self.machine(files | {
                        f"sys/module/{module}/parameters/{name}": value + "\n"})
                    self.refused(f"{module}: {name} is {value}",
                                 machine.check_kvm)

    def test_another_kvm(self):
        files = dict(INTEL)
        for name in list(files):
            if "kvm_intel" in name:
                del files[name]
        files["sys/module/kvm_pvm/parameters/x"] = "1"
        self.refused("not kvm_intel here but kvm_pvm", self.machine(files).check_kvm)

    def test_another_processor(self):
        machine = self.machine({"proc/cpuinfo": "vendor_id : CentaurHauls\n"})
        self.refused("CentaurHauls; accepted are", machine.check_kvm)

    def test_smm(self):
        machine = self.machine(AMD)
        asked = []

        def none(_, request, argument):
            asked.append((request, argument))
            return 0

        needs = scenario.load(SCENARIOS, "secure-boot")
        self.refused("no System Management Mode", machine.check_smm, needs, none)
        self.assertEqual(asked, [(0xae03, KVM_CAP_X86_SMM)])
        machine.check_smm(needs, lambda *_: 1)
        machine.check_smm(scenario.load(SCENARIOS, "pc-seabios"), none)

    def test_huge_pages(self):
        machine = self.machine(AMD | {
            "sys/kernel/mm/transparent_hugepage/enabled":
            "always madvise [never]\n"})
        self.refused("--huge-pages on", machine.check_huge_pages, True)
        machine.check_huge_pages(False)


class Probe(Folder):
    def test_what_it_offers(self):
        ours = qemu.probe("--qemu", self.qemu(ours=True))
        self.assertEqual((ours.version, ours.ours), ("QEMU 10.0.3", True))
        self.assertIsNone(ours.why_not("kvm,root-retention=default"))
        self.assertIsNone(ours.why_not("kvm"))
        self.assertIn("offers no root-retention=keep",
                      ours.why_not("kvm,root-retention=keep,slot-zap=slot"))
        self.assertIn("no x-odd", ours.why_not("kvm,x-odd=on"))
        patched = qemu.probe("--qemu", self.qemu(
            ours=True, policies=["default", "keep"]))
        self.assertIsNone(patched.why_not("kvm,root-retention=keep,slot-zap=slot"))

    def test_runs(self):
        one = scenario.load(SCENARIOS, "secure-boot")
        stock = qemu.probe("--qemu", self.qemu())
        runs, why = native.default_runs(one, stock)
        self.assertEqual(runs, ["plain"])
        self.assertIn("this QEMU has no root-retention", why)
        patched = qemu.probe("--qemu", self.qemu(
            ours=True, policies=["default", "keep"]))
        self.assertEqual(native.default_runs(one, patched),
                         (["default", "keep"], ""))
        self.refused("--runs keep: this QEMU has no", native.check_run, one,
                     "keep", stock, None)
        self.refused("--runs plain-exits", native.check_run, one, "plain-exits",
                     patched, "only root may trace")
        native.check_run(one, "plain-exits", patched, None)

    def test_refusals(self):
        for says, words in (("emulates aarch64", {"arch": "aarch64"}),
                            ("QEMU 7.0.3; accepted is 7.1", {"major": 7}),
                            ("can't use KVM", {"kvm": False})):
            with self.subTest(says):
                self.refused(says, qemu.probe, "--qemu", self.qemu(**words))
        for name, text in (("silent", "#!/bin/sh\nexit 3\n"),
                           ("babbler", "#!/bin/sh\necho '{'\n"),
                           ("garbage", "\x7fELF")):
            with self.subTest(name):
                self.refused(f"--qemu {self.path(name)}: ", qemu.probe, "--qemu",
                             self.write(name, text, 0o755))
        self.refused("--qemu nosuch: no such program", qemu.find, "--qemu", "nosuch")


class Parts(Folder):
    """A folder with all that an installed program has."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.keys = os.path.join(folder.name, "keys")

    def setUp(self):
        super().setUp()
        self.write("fw/OVMF_CODE_4M.secboot.fd")
        self.write("fw/OVMF_VARS_4M.fd", STORE)
        self.write("fw/shimx64.efi", shim())
        self.write("guest", b"init")
        self.write("boot/vmlinuz", bzimage())
        self.write("lib/modules/6.12.1-test/kernel/fs/efivarfs/efivarfs.ko.xz",
                   lzma.compress(b"module"))

        self.source = native.Installed(LAB)
        self.source.programs = self.folder
        self.source.keys = lambda _: self.keys


class Guest(Parts):
    """What of the guest's parts is refused, and what is made of them."""

    def guest(self, **words):
        return native.Guest(self.source, self.path(), firmware=self.path("fw"),
                            kernel=self.path("boot/vmlinuz"), **words)

    def test_made_once(self):
        one = self.guest()
        store, initramfs = one.make()
        self.assertEqual(one.release, "6.12.1-test")
        self.assertIn(CERTIFICATE, store)
        blob = programs.read(initramfs)
        for content in (b"module", b"init", b"dbx.2"):
            self.assertIn(content, blob)
        self.assertIs(one.make(), one.made)

    def test_kernels(self):
        for says, image in (
                ("is no bzImage", bzimage().replace(b"HdrS", b"none")),
                ("has no signature", bzimage(signed=b"")),
                ("is not signed by the vendor of", bzimage(signed=b"Someone"))):
            with self.subTest(says):
                self.write("boot/vmlinuz", image)
                self.refused(says, lambda: self.guest().make())
        os.unlink(self.path("boot/vmlinuz"))
        self.refused("No such file", self.guest)

    def test_modules(self):
        self.write("boot/vmlinuz", bzimage("6.1.0-none"))
        self.refused("no module efivarfs in", lambda: self.guest().make())
        self.write("lib/modules/6.1.0-none/modules.builtin",
                   "kernel/fs/efivarfs/efivarfs.ko\n")
        self.guest().make()

    def test_without_uefi(self):
        shutil.rmtree(self.path("fw"))
        self.write("boot/vmlinuz", bzimage("6.1.0-none", signed=b""))
        one = self.guest(uefi=False)
        self.assertIsNone(one.make()[0])
        self.assertEqual(one.facts(), {"guest_kernel": "6.1.0-none"})

    def test_firmware(self):
        for name in ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.fd",
                     "shimx64.efi"):
            with self.subTest(name):
                os.rename(self.path("fw", name), self.path("away"))
                self.refused("install ovmf and shim-unsigned", self.guest().make)
                os.rename(self.path("away"), self.path("fw", name))


class Plan(unittest.TestCase):
    def setUp(self):
        self.text = scenario.plan(scenario.load(SCENARIOS, "secure-boot"), "keep")

    def test_paths(self):
        lines = native.native_plan(self.text, "/opt/my qemu", "name").splitlines()
        self.assertIn("arg /opt/my qemu", lines)
        self.assertIn("arg guest/vmlinuz", lines)
        self.assertNotIn("/lab", "\n".join(lines))
        self.assertIn("compare-stats on", lines)
        self.assertEqual(lines[-1], "trace name")

    def test_without_tracing(self):
        lines = native.native_plan(self.text, "q", "off").splitlines()
        self.assertIn("compare-stats off", lines)
        self.assertEqual(lines[-1], "trace off")

    def test_words_are_those_of_the_runner(self):
        source = programs.read(os.path.join(LAB, "init/plan.c")).decode()
        for line in native.native_plan(self.text, "q", "off").splitlines():
            self.assertIn(f'"{line.split()[0]}"', source)


class Tracing(Folder):
    TREE = AMD | {"sys/kernel/tracing/kprobe_events": "",
                  "sys/kernel/tracing/instances/other/x": "",
                  "proc/3/stat": "3 (run ner) S 1 0"}

    def events(self):
        return programs.read(self.path(
            "root/sys/kernel/tracing/kprobe_events")).decode()

    def test_can(self):
        machine = self.machine(self.TREE)
        self.assertIsNone(tracing.why_not(machine, uid=0))
        name = tracing.own_name()
        self.assertEqual(self.events(), f"p:{name}/trial kvm_mmu_load\n"
                         f"-:{name}/trial\n")

    def test_can_not(self):
        machine = self.machine(AMD)
        self.assertIn("only root", tracing.why_not(machine, uid=1000))
        self.assertIn("tracefs", tracing.why_not(machine, uid=0))
        machine = self.machine(self.TREE)
        self.vm()
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            why = tracing.why_not(machine, uid=0)
        self.assertEqual(out.getvalue(), "'qemu', process 7, has a VM\n")
        self.assertEqual(why, "another process has a VM: tracing counts all")
        self.assertEqual(self.events(), "")

    def test_ones_own_vm_is_no_other(self):
        machine = self.machine(self.TREE)
        self.vm()
        self.assertEqual(tracing.other_vms(machine, 3), [])
        self.assertEqual(tracing.other_vms(machine, 4), [(7, "qemu")])

    def test_removal(self):
        machine = self.machine(self.TREE)
        for name in ("perennial_1", f"perennial_{os.getpid()}", "else_1"):
            for place in ("instances", f"events/{name}"):
                os.makedirs(self.path("root/sys/kernel/tracing", place,
                                      name if place == "instances" else "c0"))
        os.makedirs(self.path(f"root/proc/{os.getpid()}"))
        tracing.remove_stale(machine)
        self.assertEqual(self.events(), "-:perennial_1/c0\n")
        self.assertEqual(machine.names("sys/kernel/tracing/instances"),
                         ["else_1", "other", f"perennial_{os.getpid()}"])

    def test_removal_of_variables(self):
        """The kernel's rule: EBUSY while someone reads the variable, or has it."""
        machine = self.machine(self.TREE)
        trigger = "instances/perennial_1/events/kvm/kvm_smm_transition/trigger"
        path = self.write(f"root/sys/kernel/tracing/{trigger}",
                          f"# Available triggers:\n{DEFINES} [active]\n"
                          f"{READS} [active]\n")
        self.write("root/sys/kernel/tracing/events/perennial_1/c0/id")
        held = [DEFINES, READS]
        append, rmdir = tracing._append, os.rmdir

        def kernel(to, text):
            if to != path:
                append(to, text)
            elif text[1:] == DEFINES and READS in held:
                raise OSError(errno.EBUSY, "Device or resource busy")
            else:
                held.remove(text[1:])

        def instances(folder):
            if held:
                raise OSError(errno.EBUSY, "Device or resource busy")
            os.rename(folder, self.path("gone"))

        with mock.patch.object(tracing, "_append", kernel), \
                mock.patch.object(os, "rmdir", instances):
            tracing.remove(machine, "perennial_1")
        self.assertEqual(held, [])
        self.assertNotIn("perennial_1", machine.names(
            "sys/kernel/tracing/instances"))
        self.assertEqual(self.events(), "-:perennial_1/c0\n")

    def test_what_is_left_is_said(self):
        machine = self.machine(self.TREE)
        path = os.path.dirname(self.write(
            "root/sys/kernel/tracing/instances/perennial_1/x"))
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            tracing.remove(machine, "perennial_1")
        self.assertEqual(err.getvalue(), f"tracing: left behind: {path} "
                         "(Directory not empty)\n")


class Bench(Parts):
    """The whole program, on a machine and with a QEMU that are made up."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.runner = os.path.join(folder.name, "runner")
        programs.compile_static(programs.sources(LAB, "runner"),
                                os.environ.get("LAB_CC", "cc"), cls.runner)
        loader = importlib.machinery.SourceFileLoader("perennial_bench", BENCH)
        spec = importlib.util.spec_from_loader("perennial_bench", loader)
        cls.bench = importlib.util.module_from_spec(spec)
        loader.exec_module(cls.bench)

    def setUp(self):
        super().setUp()
        os.symlink(self.runner, self.path("runner"))
        self.output = self.path("out/one.json")
        os.mkdir(self.path("out"))
        machine = self.machine(AMD)
        for patch in (mock.patch.object(self.bench, "Machine", lambda: machine),
                      mock.patch.object(native, "where", lambda _: self.source),
                      mock.patch.object(Machine, "check_smm",
                                        lambda *_: None),
                      mock.patch.object(tracing, "why_not",
                                        lambda _: "only root may trace")):
            patch.start()
            self.addCleanup(patch.stop)

    def call(self, *words):
        """(status, stdout, stderr)"""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = self.bench.main(list(words))
        return status, out.getvalue(), err.getvalue()

    def measure(self, *words, **qemu_words):
        return self.call("--qemu", self.qemu(**qemu_words), "--firmware",
                         self.path("fw"), "--guest-kernel",
                         self.path("boot/vmlinuz"), "--output", self.output,
                         "--no-page", "--logs", self.path("logs"), *words)

    def test_stock(self):
        status, out, err = self.measure("--repeat", "3")
        self.assertEqual((status, err), (0, ""), out)
        with open(self.output, encoding="utf-8") as f:
            result = json.load(f)
        [run] = result["runs"]
        self.assertEqual((run["name"], run["repetitions"]), ("plain", 3))
        boot = run["phases"]["boot"]
        self.assertEqual(len(boot["times"]), 3)
        self.assertEqual(boot["guest_ns"], sorted(boot["times"])[1])
        self.assertEqual(boot["stats"], {"exits": 3000})
        self.assertNotIn("tdp_maps", boot)
        self.assertNotIn("probes-missed", [test["name"] for test in run["tests"]])
        self.assertEqual(result["host"]["uncounted"], "only root may trace")
        self.assertEqual(result["machine"]["microcode"], "0xa0011d1")
        self.assertEqual(result["machine"]["guest_kernel"], "6.12.1-test")
        self.assertFalse(result["machine"]["qemu_ours"])
        self.assertIn("this QEMU has no root-retention, so run plain is all "
                      "there is", out)
        self.assertIn("not counted by tracing: only root may trace", out)
        self.assertIn("guest time: real seconds, the median of 3", out)
        self.assertFalse(os.path.exists(self.path("out/one.html")))

    def test_ours(self):
        status, out, _ = self.measure("--repeat", "1", ours=True,
                                      policies=["default", "keep"])
        self.assertEqual(status, 0, out)
        self.assertIn("default/keep", out)
        status, out, err = self.call("--compare", self.output)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("one:default", out)

    def traced(self, also=lambda: None):
        """Runs think that they are; each has an instance, and ALSO is called then."""
        plan, start = native.native_plan, native.Boot.start
        self.instance = self.path("root/sys/kernel/tracing/instances",
                                  tracing.own_name())

        def started(boot):
            start(boot)
            if boot.trace != "off":
                os.makedirs(self.instance)
                also()

        # The runner itself must leave this machine's tracing alone.
        for patch in (mock.patch.object(native, "native_plan",
                                        lambda *words: plan(*words[:2], "off")),
                      mock.patch.object(native.Boot, "start", started),
                      mock.patch.object(tracing, "why_not", lambda _: None)):
            patch.start()
            self.addCleanup(patch.stop)

    def test_counted(self):
        self.traced()
        status, out, err = self.measure("--repeat", "0")
        self.assertEqual((status, err), (0, ""), out)
        self.assertIn("plain, counted: pass", out)
        self.assertFalse(os.path.exists(self.instance))

    def test_another_vm_comes(self):
        self.traced(self.vm)
        status, out, err = self.measure("--repeat", "0", run="hang")
        self.assertEqual(status, 2)
        self.assertEqual(err, "perennial-bench: --repeat 0: nothing would be "
                         "counted: another process has a VM: tracing counts all; "
                         "give 1 or more\n")
        self.assertIn("'qemu', process 7, has a VM\nsecure-boot plain, counted: "
                      "given up", out)
        self.assertFalse(os.path.exists(self.instance))

    def test_the_timed_boots_follow(self):
        self.traced(self.vm)
        status, out, err = self.measure("--runs", "plain,plain-exits",
                                        "--repeat", "1")
        self.assertEqual((status, err), (0, ""), out)
        self.assertEqual(out.count("counted: "), 1)
        self.assertEqual(out.count("1 of 1: pass"), 2)
        result = programs.read(self.output).decode()
        self.assertIn("another process has a VM: tracing counts all", result)
        self.assertNotIn("process 7", result)

    def test_hung_up(self):
        for number in (signal.SIGHUP, signal.SIGTERM):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
            signal.signal(number, signal.SIG_DFL)
        self.traced(lambda: os.kill(os.getpid(), signal.SIGHUP))
        self.assertEqual(self.measure(run="hang")[0], 130)
        self.assertFalse(os.path.exists(self.instance))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.call("--list")
        self.assertEqual(signal.getsignal(signal.SIGHUP), signal.SIG_IGN)

    def test_without_uefi(self):
        shutil.rmtree(self.path("fw"))
        self.write("boot/vmlinuz", bzimage("6.1.0-none", signed=b""))
        status, out, err = self.measure("--scenario", "pc-seabios")
        self.assertEqual((status, err), (0, ""), out)

    def test_the_last_result_is_kept(self):
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.write("perennial-secure-boot.json", "kept")
        status, _, err = self.call("--no-page")
        self.assertEqual((status, err), (
            2, "perennial-bench: perennial-secure-boot.json exists already: keep "
            "it, and name this result with --output FILE.json\n"))

    def test_a_guest_that_fails(self):
        status, out, _ = self.measure(run="exit")
        self.assertEqual(status, 1)
        self.assertIn("qemu-exit: before the guest ran; "
                      "qemu-system-x86_64: no SMM", out)
        self.assertFalse(os.path.exists(self.output))

    def test_a_guest_that_hangs(self):
        status, out, _ = self.measure("--time-limit", "2", run="hang")
        self.assertEqual(status, 1)
        self.assertIn("time-out", out)
        self.assertEqual(tracing.other_vms(Machine(self.path("root"))), [])

    def test_one_line_each(self):
        for says, words in (
                ("--scenario flash: accepted are", ["--scenario", "flash"]),
                ("--repeat 101: accepted is 0 to 100", ["--repeat", "101"]),
                ("--vcpus 0: accepted is 1 to 32", ["--vcpus", "0"]),
                ("--size 7: scenario pc-seabios has no such number",
                 ["--scenario", "pc-seabios", "--size", "7"]),
                ("--runs odd: ", ["--runs", "odd"]),
                ("plain is named twice", ["--runs", "plain,plain"]),
                ("--repeat 0: nothing would be counted", ["--repeat", "0"]),
                ("--output x.txt", ["--output", "x.txt"]),
                ("--output /nosuch/x.json", ["--output", "/nosuch/x.json"]),
                ("--runs keep: this QEMU has no", ["--runs", "keep"])):
            with self.subTest(says):
                status, _, err = self.measure(*words)
                self.assertEqual(status, 2)
                self.assertIn(says, err)
                self.assertEqual(err.count("\n"), 1)
        self.assertFalse(os.path.exists(self.output))

    def test_no_matplotlib(self):
        with mock.patch.object(self.bench.python, "need",
                               side_effect=LabError("no module")):
            status, _, err = self.call("--output", self.output)
        self.assertEqual(status, 2)
        self.assertIn("python3-matplotlib, or give --no-page", err)
        self.assertEqual(err.count("\n"), 1)


class Installed(Folder):
    """As perennial-tools.install lays it out."""

    def test_it_runs(self):
        listed = os.path.join(LAB, "../../packaging/tools/debian",
                              "perennial-tools.install")
        for line in programs.read(listed).decode().splitlines():
            source, _, target = line.partition(" ")
            if source.startswith(("#", "programs/")):
                continue
            found = glob.glob(os.path.join(LAB, source.removeprefix("lab/"))
                              if source.startswith("lab/") else
                              os.path.join(LAB, "../../scripts", source))
            self.assertTrue(found, line)
            for path in found:
                os.makedirs(self.path(target), exist_ok=True)
                shutil.copy(path, self.path(target))
        bench = self.path("usr/bin/perennial-bench")
        for words, says in ((["--list"], "secure-boot"),
                            (["--scenario", "paths"], "accepted are nvram-large, "
                             "nvram-reclaim, pc-seabios, secure-boot")):
            done = subprocess.run([sys.executable, bench, *words], text=True,
                                  capture_output=True, check=False, env={})
            self.assertIn(says, done.stdout + done.stderr)
        self.assertEqual(glob.glob(self.path("**/__pycache__"), recursive=True), [])
        where = native.where(self.path("usr/share/perennial/lab"))
        self.assertEqual(where.program("runner"),
                         self.path("usr/lib/perennial/runner"))


class Variables(unittest.TestCase):
    def check(self, *words):
        done = subprocess.run([os.path.join(LAB, "../../scripts/check-variables"),
                               *words, "10.0", "11.3", ""], text=True,
                              capture_output=True, check=False)
        return done.stderr.strip()

    def test_of_make(self):
        self.assertEqual(self.check("secure-boot", "native", "6.12"), "")
        self.assertIn("SCENARIO='flash' needs an emulated host",
                      self.check("flash", "native", "6.12"))
        self.assertIn("KERNEL='7.2'", self.check("secure-boot", "native", "7.2"))


class Manual(unittest.TestCase):
    def test_all_options_are_in_it(self):
        page = programs.read(os.path.join(
            LAB, "../../packaging/tools/perennial-bench.1")).decode()
        usage = subprocess.run([sys.executable, BENCH, "--help"], text=True,
                               capture_output=True, check=True).stdout
        options = set(re.findall(r"--[a-z]+(?:-[a-z]+)*", usage)) - {"--help"}
        self.assertGreater(len(options), 15)
        for option in options:
            self.assertIn(option.replace("-", "\\-"), page)


    def test_documents_are_not_compressed(self):
        packaging = os.path.join(LAB, "../../packaging/tools")
        page = programs.read(os.path.join(packaging, "perennial-bench.1")).decode()
        name = page.rpartition("/usr/share/doc/perennial\\-tools/")[2].strip()
        self.assertTrue(os.path.exists(os.path.join(LAB, "../../docs", name)))
        self.assertIn("dh_compress -X.md", programs.read(
            os.path.join(packaging, "debian/rules")).decode())


# Linked with --wrap: no process of this machine is in danger.
WRAPPED = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
pid_t __real_fork(void);
pid_t __wrap_fork(void)
{
    errno = EAGAIN;
    return getenv("NO_FORK") ? -1 : __real_fork();
}
int __wrap_kill(pid_t pid, int number)
{
    fprintf(stderr, "kill %d %d\n", pid, number);
    return 0;
}
"""
WRAP = os.environ.get("LAB_CC", "cc") + " -Wl,--wrap=fork,--wrap=kill"


class Children(Folder):
    """What is killed of a machine that has other processes."""

    def build(self, *files):
        programs.compile_static([self.write("wrapped.c", WRAPPED), *files], WRAP,
                                self.path("program"))

    def run_one(self, **environment):
        """(verdict, console)"""
        self.write("plan", "scenario s\nrun r\nkind nested\nhuge-pages off\n"
                   "phase boot 5\narg /bin/false\ntrace off\n")
        for name in ("console.log", "verdict.log"):
            self.write(name)
        subprocess.run([self.path("program"), self.folder], check=True,
                       env=environment)
        return [programs.read(self.path(name)).decode()
                for name in ("verdict.log", "console.log")]

    def test_none_where_there_is_none(self):
        self.build(*programs.sources(LAB, "runner"))
        for says, environment in (
                ("name=setup result=fail reason=infrastructure: fork: Resource "
                 "temporarily unavailable", {"NO_FORK": "1"}),
                ("reason=qemu-exit: before the guest ran", {})):
            with self.subTest(says):
                verdict_log, console = self.run_one(**environment)
                self.assertIn(says, verdict_log)
                self.assertNotIn("kill", console)

    def test_one_at_a_time(self):
        self.build(os.path.join(LAB, "init/util.c"), self.write("main.c", f"""
            #include <stdlib.h>
            #include "{LAB}/init/lab.h"
            int main(int argc, char **argv)
            {{
                kill_child(atoi(argv[argc - 1]));
                return 0;
            }}"""))
        for pid, said in (("7", "kill 7 9"), ("0", "pid > 0"), ("-1", "pid > 0")):
            done = subprocess.run([self.path("program"), pid], text=True,
                                  capture_output=True, check=False)
            self.assertIn(said, done.stderr)
            self.assertEqual("kill" in done.stderr.split(), pid == "7")


class Run(unittest.TestCase):
    """tests/lab/run"""

    def test_a_boot_is_stopped_however_it_ends(self):
        loader = importlib.machinery.SourceFileLoader(
            "lab_run", os.path.join(LAB, "run"))
        spec = importlib.util.spec_from_loader("lab_run", loader)
        run = importlib.util.module_from_spec(spec)
        loader.exec_module(run)
        one = mock.Mock(seconds=0, cpu_seconds=0)
        with contextlib.redirect_stdout(io.StringIO()):
            run.run_one(one)
        one.wait.side_effect = KeyboardInterrupt
        self.assertRaises(KeyboardInterrupt, run.run_one, one)
        self.assertEqual(one.stop.call_count, 2)


class Runner(unittest.TestCase):
    def test_one_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            output = os.path.join(folder, "runner")
            programs.compile_static(programs.sources(LAB, "runner"),
                                    os.environ.get("LAB_CC", "cc"), output)
            for words in ([], ["/nosuch"], [folder, folder]):
                done = subprocess.run([output, *words], capture_output=True,
                                      text=True, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn("one folder", done.stderr)
            done = subprocess.run([output, folder], capture_output=True,
                                  text=True, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("No such file", done.stderr)


class Verdict(unittest.TestCase):
    def test_no_counters_is_no_failure(self):
        text = ("0 begin scenario=s run=plain vendor=AMD kernel=6\n"
                "1 phase name=boot\n2 counter phase=boot name=guest_ns value=7\n"
                "3 test name=boot result=pass reason=x\n"
                "4 end passed=1 failed=0 skipped=0\n")
        result = verdict.judge(text, "", planned=["boot"], tsc_check=False)
        self.assertEqual((result.status, result.phases["boot"]["guest_ns"]),
                         ("pass", 7))


class Modules(Folder):
    def test_unpacked(self):
        for name, data in (("efivarfs.ko", b"m"),
                           ("efivarfs.ko.xz", lzma.compress(b"m"))):
            with self.subTest(name):
                folder = f"{name}/kernel/fs/efivarfs"
                self.write(f"{folder}/{name}", data)
                self.assertEqual(guest.efivarfs(self.path(name)), b"m")
        self.assertIsNone(guest.efivarfs(self.path("nosuch")))


if __name__ == "__main__":
    unittest.main()
