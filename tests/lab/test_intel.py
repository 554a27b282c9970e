# SPDX-License-Identifier: GPL-2.0-or-later
"""The Intel host: what is written for Bochs, and how its ends are told apart."""

import importlib.machinery
import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import types
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from hosts import intel                     # noqa: E402
from labcore.errors import LabError         # noqa: E402

SUPERVISE = os.path.join(LAB, "bochs", "supervise")
LOGS = os.path.join(LAB, "testdata", "bochs")


def load_supervise():
    loader = importlib.machinery.SourceFileLoader("supervise", SUPERVISE)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("supervise", loader))
    loader.exec_module(module)
    return module


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name


class Log(Folder):
    """What the log says, also when it comes in pieces."""

    def log(self, pieces):
        path = os.path.join(self.dir, f"log{len(os.listdir(self.dir))}")
        log = load_supervise().Log(path)
        self.assertFalse(log.follow(), "a log that is not there yet")
        with open(path, "w", encoding="utf-8") as stream:
            for piece in pieces:
                stream.write(piece)
                stream.flush()
                over = log.follow()
        self.addCleanup(log.stream.close)
        return log, over

    def saved(self, name):
        with open(os.path.join(LOGS, name), encoding="utf-8") as stream:
            return stream.read()

    def test_power_off(self):
        text = self.saved("power-off.log")
        log, over = self.log([text[i:i + 7] for i in range(0, len(text), 7)])
        self.assertEqual((log.powered_off, log.panicked, over), (True, False, False))

    def test_panic(self):
        log, over = self.log([self.saved("panic.log")])
        self.assertEqual((log.powered_off, log.panicked, over), (False, True, False))

    def test_reset(self):
        power_on = self.saved("power-off.log").splitlines(keepends=True)[0]
        log, over = self.log([power_on])
        self.assertFalse(over)
        log, over = self.log([power_on, power_on])
        self.assertTrue(over)

    def test_unfinished_line_says_nothing(self):
        log, _ = self.log(["1p[ACPI  ] >>PANIC<< ACPI control: soft power off"])
        self.assertFalse(log.powered_off)


class Ends(Folder):
    """supervise with a shell script in the place of Bochs."""

    def command(self, script):
        path = os.path.join(self.dir, "log")
        return [sys.executable, SUPERVISE, path,
                "sh", "-c", script.replace("LOG", shlex.quote(path))]

    def run_script(self, script):
        return subprocess.run(self.command(script), stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=60)

    def test_power_off(self):
        done = self.run_script(f"cat {LOGS}/power-off.log > LOG; exit 1")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_panic(self):
        done = self.run_script(f"cat {LOGS}/panic.log > LOG; exit 1")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stdout.startswith("bochs: panicked. The end of its log:\n"))
        self.assertIn(">>PANIC<<", done.stdout)

    def test_reset_ends_it(self):
        done = self.run_script(f"for i in 1 2; do head -n 1 {LOGS}/power-off.log; done > LOG; "
                               "exec sleep 600")
        self.assertEqual((done.returncode, done.stdout), (0, "bochs: the host reset itself\n"))

    def test_died(self):
        done = self.run_script("echo last words > LOG; kill -SEGV $$")
        self.assertEqual((done.returncode, done.stdout),
                         (1, "bochs: was killed by signal 11. The end of its log:\nlast words\n"))

    def test_never_started(self):
        command = [sys.executable, SUPERVISE, os.path.join(self.dir, "log"), "/none/bochs"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/none/bochs: No such file or directory", done.stdout)

    def test_it_has_a_terminal_and_a_loud_one_does_not_block(self):
        done = self.run_script("test -t 0 && test -t 1 && yes | head -c 1000000 && "
                               f"cat {LOGS}/power-off.log > LOG")
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_killed_takes_its_child_along(self):
        pid = os.path.join(self.dir, "pid")
        for number in (signal.SIGKILL, signal.SIGTERM):
            with subprocess.Popen(self.command(f"echo $$ > {pid}.new; mv {pid}.new {pid}; "
                                               "exec sleep 600"),
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
                self.wait_for(lambda: os.path.exists(pid))
                child.send_signal(number)
                child.wait(60)
            with open(pid, encoding="ascii") as stream:
                sleeper = stream.read().strip()
            self.wait_for(lambda: not alive(sleeper))
            os.unlink(pid)

    def wait_for(self, condition):
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end, "it did not come to pass")
            time.sleep(0.02)


def alive(pid):
    """A zombie that nobody has waited for yet is dead too."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Written(Folder):
    """bochsrc and command line."""

    def boot(self, **changes):
        values = {"dir": self.dir, "kernel": "/k", "initramfs": "/i", "memory": 1280,
                  "cmdline": "console=ttyS0 lab.run=keep",
                  "console": f"{self.dir}/console.log", "verdict": f"{self.dir}/verdict.log"}
        return types.SimpleNamespace(**{**values, **changes})

    def test_bochsrc(self):
        host = object.__new__(intel.Host)
        host._write_bochsrc(self.boot())        # pylint: disable=protected-access
        with open(f"{self.dir}/bochsrc", encoding="utf-8") as stream:
            text = stream.read()
        self.assertIn("memory: guest=1280, host=1280\n", text)
        self.assertIn(f'com1: enabled=1, mode=file, dev="{self.dir}/console.log"\n', text)
        self.assertIn(f'com2: enabled=1, mode=file, dev="{self.dir}/verdict.log"\n', text)
        self.assertNotRegex(text.replace("@WORDS@", ""), "@[A-Z]+@")

    def test_paths_that_bochs_would_misread(self):
        host = object.__new__(intel.Host)
        for bad in ("/a b/c", "/a,b", '/a"b', "/a$HOME"):
            with self.assertRaisesRegex(LabError, "Bochs takes no path"):
                host._write_bochsrc(self.boot(console=bad))  # pylint: disable=protected-access

    def test_isolinux_gets_the_whole_command_line(self):
        text = intel.fill("isolinux.cfg.in", {"CMDLINE": r"a=\1 b=@X@"})
        self.assertIn("append a=\\1 b=@X@\n", text)

    def test_mode_is_refused(self):
        with self.assertRaisesRegex(LabError, "^--mode icount: the intel host has one mode"):
            intel.Host(types.SimpleNamespace(mode="icount"))


if __name__ == "__main__":
    unittest.main()
