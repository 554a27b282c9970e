#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""kvm-roots: what it makes of what QEMU says."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts/kvm-roots"

INFO = {
    "requested": {"root-retention": "quota", "root-quota": 5000,
                  "slot-zap": "auto", "new-property": "auto"},
    "effective": {"new-property": "some", "slot-zap": "slot",
                  "reset-elision": True, "root-quota": 8192,
                  "policy": "quota"},
    "host": {"policies": ["default", "quota"]},
}
TYPES = {
    "vm": {"tdp_roots": "instant", "tdp_root_allocs": "cumulative",
           "tdp_root_new": "cumulative", "pages_4k": "instant"},
    "vcpu": {"mmu_resets": "cumulative", "mmu_new": "instant",
             "mmu_hist": "log2-histogram", "exits": "cumulative"},
}
OURS = {"vm": ["tdp_roots", "tdp_root_allocs", "tdp_root_new"],
        "vcpu": ["mmu_resets", "mmu_new"]}
PATHS = ["/machine/unattached/device[0]", "/machine/unattached/device[7]"]
GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10},
                                "package": ""}, "capabilities": []}}


class Server:
    """A QMP server whose counters grow by 1000 with every sample.

    `error` is its answer to every command, `greeting` what it begins with, and
    it hangs up instead of an answer to the command `deaf`.
    """

    def __init__(self, path, roots=True, error=None, greeting=GREETING,
                 deaf=None):
        self.roots, self.error, self.deaf = roots, error, deaf
        self.greeting = greeting
        self.samples = 0
        self.asked = []
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(1)
        threading.Thread(target=self.run, daemon=True).start()

    def names(self, target):
        return [n for n in TYPES[target] if self.roots or "root" not in n]

    def values(self, target, names):
        base = 1000 * self.samples
        return [{"name": n, "value": base + i} for i, n in enumerate(names)
                if n in self.names(target)]

    def answer(self, name, arguments):
        if name == "qmp_capabilities":
            return {"return": {}}
        if self.error:
            return {"error": {"class": "GenericError", "desc": self.error}}
        if name == "query-kvm-root-retention":
            self.samples += 1
            return {"return": INFO}
        if name == "query-stats-schemas":
            return {"return": [
                {"provider": "kvm", "target": t, "stats": [
                    {"name": n, "type": TYPES[t][n], "exponent": 0}
                    for n in reversed(self.names(t))]} for t in TYPES]}
        assert name == "query-stats", name
        target = arguments["target"]
        stats = self.values(target, arguments["providers"][0]["names"])
        if target == "vm":
            return {"return": [{"provider": "kvm", "stats": stats}]}
        # QEMU lists the newest one first.
        return {"return": [{"provider": "kvm", "qom-path": p, "stats": stats}
                           for p in reversed(PATHS)]}

    def run(self):
        with contextlib.suppress(OSError), self.sock:
            client, _ = self.sock.accept()
            with client, client.makefile("rw") as stream:
                self.serve(stream)

    def serve(self, stream):
        def send(what):
            stream.write(json.dumps(what) + "\r\n")
            stream.flush()

        send(self.greeting)
        for line in stream:
            command = json.loads(line)
            if command["execute"] == self.deaf:
                return
            self.asked.append(command)
            answer = self.answer(command["execute"], command["arguments"])
            # An event may come at any time, once QMP has begun.
            if command["execute"] != "qmp_capabilities":
                send({"event": "STOP", "timestamp":
                      {"seconds": 1, "microseconds": 2}})
            send(answer)


class KvmRoots(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.path = os.path.join(self.dir, "qmp")

    def run_script(self, *args):
        return subprocess.run([sys.executable, "-B", SCRIPT, *args],
                              capture_output=True, text=True, timeout=60)

    def once(self, *args):
        return self.run_script(self.path, "--once", *args)

    def refused(self, reason):
        r = self.once()
        self.assertEqual((r.returncode, r.stdout, r.stderr),
                         (1, "", f"kvm-roots: {reason}\n"))

    def watch(self, samples, *args):
        """The first lines of what it prints until it is stopped."""
        with subprocess.Popen([sys.executable, "-B", SCRIPT, self.path, *args],
                              text=True, stdout=subprocess.PIPE) as p:
            lines = [p.stdout.readline() for _ in range(samples)]
            p.terminate()
            p.wait(60)
        return lines

    def test_once(self):
        server = Server(self.path)
        r = self.once()
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertEqual([line.split() for line in r.stdout.splitlines()], [
            ["root-retention", "quota"],
            ["root-quota", "8", "KiB", "(4.883", "KiB)"],
            ["slot-zap", "slot", "(auto)"],
            ["reset-elision", "on"],
            ["new-property", "some", "(auto)"],
            [],
            ["VM", "now", "or", "total", "per", "second"],
            ["tdp_roots", "1000"], ["tdp_root_allocs", "1001"],
            ["tdp_root_new", "1002"],
            [],
            ["vCPU,", "total", "mmu_resets", "mmu_new"],
            ["device[0]", "1000", "1001"],
            ["device[7]", "1000", "1001"]])
        self.assertEqual([c["arguments"]["providers"][0]["names"]
                          for c in server.asked
                          if c["execute"] == "query-stats"],
                         [OURS["vm"], OURS["vcpu"]])

    def test_once_json(self):
        Server(self.path)
        r = self.once("--json")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        [line] = r.stdout.splitlines()
        got = json.loads(line)
        self.assertGreater(got.pop("time"), 0)
        self.assertEqual(got, {
            **INFO,
            "vm": {"tdp_roots": 1000, "tdp_root_allocs": 1001,
                   "tdp_root_new": 1002},
            "vcpus": [{"qom-path": p, "mmu_resets": 1000, "mmu_new": 1001}
                      for p in PATHS]})

    def test_rates(self):
        Server(self.path)
        first, second = map(json.loads,
                            self.watch(2, "--json", "--interval", "0.2"))
        self.assertNotIn("rates", first)
        span = second["time"] - first["time"]
        self.assertGreaterEqual(span, 0.2)
        self.assertEqual(set(second["rates"]), {"tdp_root_allocs", "tdp_root_new"})
        for rate in (second["rates"]["tdp_root_new"],
                     second["vcpus"][1]["rates"]["mmu_resets"]):
            self.assertAlmostEqual(rate, 1000 / span, delta=0.1)
        self.assertEqual(set(second["vcpus"][0]["rates"]), {"mmu_resets"})

    def test_rates_for_humans(self):
        Server(self.path)
        lines = [line.split() for line in
                 self.watch(30, "--interval", "0.2")]
        self.assertIn(["vCPU,", "total", "mmu_resets", "mmu_new"], lines)
        self.assertIn(["vCPU,", "per", "second", "mmu_resets", "mmu_new"],
                      lines)
        allocs = [line for line in lines if line[:1] == ["tdp_root_allocs"]]
        self.assertEqual([len(line) for line in allocs], [2, 3])

    def test_no_statistics(self):
        Server(self.path, roots=False)
        r = self.once()
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn("The host kernel has no statistics of roots\n", r.stdout)
        self.assertIn("mmu_resets", r.stdout)

    def test_refusal(self):
        error = "KVM root retention needs the accelerator KVM"
        Server(self.path, error=error)
        self.refused(error)

    def test_closed(self):
        for deaf in ("qmp_capabilities", "query-kvm-root-retention"):
            with self.subTest(deaf=deaf):
                Server(self.path, deaf=deaf)
                self.refused("QEMU closed the connection")
                os.unlink(self.path)

    def test_no_qmp(self):
        for greeting in ({}, [], 5, "QEMU 10.0.13 monitor"):
            with self.subTest(greeting=greeting):
                Server(self.path, greeting=greeting)
                self.refused("this is no QMP socket")
                os.unlink(self.path)

    def test_nobody_there(self):
        r = self.once()
        self.assertEqual((r.returncode, r.stdout), (1, ""))
        self.assertRegex(r.stderr, r"\Akvm-roots: .*No such file.*\n\Z")

    def test_bad_arguments(self):
        for args in ([], [self.path, "--interval", "0"],
                     [self.path, "--interval", "-1"],
                     [self.path, "--interval", "nan"],
                     [self.path, "--interval", "x"], [self.path, "more"]):
            with self.subTest(args=args):
                r = self.run_script(*args)
                self.assertEqual((r.returncode, r.stdout), (2, ""))
                self.assertIn("usage: kvm-roots", r.stderr)


if __name__ == "__main__":
    unittest.main()
