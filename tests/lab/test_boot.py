#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How the lab measures what an emulator uses."""

import os
import subprocess
import sys
import time
import unittest

LAB = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, LAB)

from labcore import boot        # noqa: E402

# A parent that sleeps, as tests/lab/bochs/supervise does, and a child that works.
BUSY = "while :; do :; done & echo; wait"
# One whose child has ended.
WORKED = "(for i in $(seq 1000000); do :; done); echo; read -r _"


class CpuSeconds(unittest.TestCase):
    def test_children_count(self):
        with subprocess.Popen(["sh", "-c", BUSY], stdout=subprocess.PIPE,
                              start_new_session=True) as parent:
            try:
                parent.stdout.readline()
                for _ in range(100):
                    used = boot.cpu_seconds(parent.pid)
                    if used > 0.2:
                        break
                    self.assertIsNone(parent.poll())
                    time.sleep(0.1)
                self.assertGreater(used, 0.2)
            finally:
                os.killpg(parent.pid, 9)

    def test_ended_children_count(self):
        with subprocess.Popen(["sh", "-c", WORKED], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as parent:
            parent.stdout.readline()
            self.assertGreater(boot.cpu_seconds(parent.pid), 0.1)
            parent.stdin.close()

    def test_a_process_that_is_no_more(self):
        with subprocess.Popen(["true"]) as gone:
            gone.wait()
            self.assertEqual(boot.cpu_seconds(gone.pid), 0)


if __name__ == "__main__":
    unittest.main()
