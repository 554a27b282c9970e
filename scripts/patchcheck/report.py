# SPDX-License-Identifier: GPL-2.0-or-later
"""Count verdicts, and show each: one line, below it what is wrong."""

from pathlib import Path

SHOWN = 20      # lines of one failure


def patch_number(patch):
    """0104 of any/folder/0104-subject.patch"""
    return Path(patch).name[:4]


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def verdict(self, name, problems):
        """PROBLEMS is a list of lines; empty is a pass."""
        if not problems:
            self.passed += 1
            print(f"  ok       {name}", flush=True)
            return
        self.failed += 1
        print(f"  FAIL     {name}")
        for line in problems[:SHOWN]:
            print(f"           {line}")
        if len(problems) > SHOWN:
            print(f"           ... and {len(problems) - SHOWN} more")
        print(end="", flush=True)
