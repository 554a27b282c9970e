# SPDX-License-Identifier: GPL-2.0-or-later
"""Judge one host boot by what it wrote.  Pure: text in, Result out.

The verdict channel (the host's ttyS1) is written by tests/lab/init alone:

    0 begin scenario=secure-boot run=keep vendor=AMD kernel=6.12.117
    1 digest phase=boot name=cpuid value=...
      batches name=smi ops=32 ticks=...,...
    2 phase name=boot
    3 counter phase=boot name=mmu_resets value=11760
    4 role phase=boot role=0x... loads=... reused=... teardowns=... ...
    5 stat phase=boot name=tdp_roots value=2
    6 test name=boot result=pass reason=the guest got there
    7 tick ns=...
    8 end passed=1 failed=0 skipped=0

Lines are numbered from 0.  A gap, anything else on the channel, or no `end`
means that the lab itself can't be trusted: an infrastructure failure.
"""

import dataclasses
import fnmatch
import re

# In the order of how much they say about the lab rather than the guest.
STATUSES = (
    "pass", "boot-failure", "host-crash", "stall", "time-out",
    "infrastructure", "host-warning", "guest-crash", "qemu-exit",
    "test-failure", "unexpected-skip", "no-tests",
)

# A failed test's reason may begin with the class of its failure.
CLASSES = ("infrastructure", "guest-crash", "qemu-exit", "time-out")

PANIC = re.compile(r"Kernel panic - not syncing.*")
TROUBLE = re.compile(
    r"(user requested TSC rate below hardware speed"
    r"|WARNING: (?!See https:).*|BUG: .*|kernel BUG at .*|Oops: .*"
    r"|general protection fault.*|soft lockup.*|rcu: INFO: .*detected stalls.*"
    r"|unchecked MSR access error.*"
    r"|kmemleak: .*(?:suspected memory leaks|disabled|pool empty).*"
    r"|INFO: (?:trying to register non-static key|lockdep is turned off).*"
    r"|ODEBUG: .*|list_(?:add|del) corruption.*)")
# What a debug kernel says early, and what init asks it at the end.
DEBUG_CONSOLE = ("KernelAddressSanitizer initialized",)
DEBUG_TESTS = ("lockdep", "kmemleak")
LINE = re.compile(r"(\d+) ([a-z]+) (.*)")
WORDS = {
    "begin": ("scenario", "run", "vendor", "kernel"),
    "phase": ("name",),
    "counter": ("phase", "name", "value"),
    "stat": ("phase", "name", "value"),
    "role": ("phase", "role", "loads", "reused", "teardowns",
             "pages_torn_down", "pages_max"),
    "digest": ("phase", "name", "value"),
    "batches": ("name", "ops", "ticks"),
    "test": ("name", "result", "reason"),
    "tick": ("ns",),
    "end": ("passed", "failed", "skipped"),
}


@dataclasses.dataclass
class Result:
    """What one host boot came to."""

    status: str = "pass"
    reason: str = ""
    begin: dict = dataclasses.field(default_factory=dict)
    phases: dict = dataclasses.field(default_factory=dict)
    digests: dict = dataclasses.field(default_factory=dict)
    batches: dict = dataclasses.field(default_factory=dict)
    tests: list = dataclasses.field(default_factory=list)
    ended: bool = False

    def fail(self, status, reason):
        """Keep the first failure: what follows is mostly its consequence."""
        if self.status == "pass":
            self.status, self.reason = status, reason


def split_words(kind, rest):
    """`a=1 b=2 ...` of a KIND line, or None; `reason` takes the rest."""
    fields = WORDS[kind]
    values, pattern = {}, []
    for field in fields:
        pattern.append(f"{field}=(.*)" if field == "reason"
                       else rf"{field}=(\S+)")
    match = re.fullmatch(" ".join(pattern), rest)
    if not match:
        return None
    for field, value in zip(fields, match.groups()):
        values[field] = value
    return values


def parse_line(text, expected):
    """(kind, words) of one line; ValueError says what is wrong with it."""
    match = LINE.fullmatch(text)
    if not match or match[2] not in WORDS:
        raise ValueError(f"garbage on the verdict channel: {text[:80]!r}")
    if int(match[1]) != expected:
        raise ValueError(f"line {expected} is missing on the verdict channel, "
                         f"{match[1]} came instead")
    words = split_words(match[2], match[3])
    if words is None:
        raise ValueError(f"garbage on the verdict channel: {text[:80]!r}")
    return match[2], words


def take(result, kind, words):
    """Add one parsed line to the result."""
    if kind == "begin":
        result.begin = words
    elif kind == "phase":
        result.phases[words["name"]] = {"roles": [], "stats": {}}
    elif kind == "counter":
        result.phases[words["phase"]][words["name"]] = int(words["value"])
    elif kind == "stat":
        result.phases[words["phase"]]["stats"][words["name"]] = \
            int(words["value"])
    elif kind == "role":
        phase = result.phases[words.pop("phase")]
        role = {"role": words.pop("role")}
        role.update((key, int(value)) for key, value in words.items())
        phase["roles"].append(role)
    elif kind == "digest":
        result.digests[f"{words['phase']}/{words['name']}"] = words["value"]
    elif kind == "batches":
        result.batches[words["name"]] = {
            "ops": int(words["ops"]),
            "ticks": [int(n) for n in words["ticks"].split(",")]}
    elif kind == "test":
        result.tests.append(words)
    elif kind == "end":
        result.ended = True
        judge_count(result, words)


def judge_count(result, words):
    for key, name in (("passed", "pass"), ("failed", "fail"),
                      ("skipped", "skip")):
        seen = sum(test["result"] == name for test in result.tests)
        if seen != int(words[key]):
            result.fail("infrastructure", f"{words[key]} tests {key}, says "
                        f"the end, but {seen} were seen")


def parse(result, verdict):
    lines = verdict.split("\n")
    tail = lines.pop()
    for expected, text in enumerate(lines):
        try:
            kind, words = parse_line(text.rstrip("\r"), expected)
            if result.ended:
                raise ValueError(f"something after the end: {text[:80]!r}")
            take(result, kind, words)
        except (ValueError, KeyError) as error:
            result.fail("infrastructure", str(error))
            return
    if tail:
        result.fail("infrastructure",
                    f"the verdict channel is cut off in {tail[:80]!r}")


def judge_tests(result, expected_skips):
    for test in result.tests:
        if test["result"] == "fail":
            prefix = test["reason"].split(":")[0]
            status = prefix if prefix in CLASSES else "test-failure"
            result.fail(status, f"{test['name']}: {test['reason']}")
    for test in result.tests:
        if test["result"] == "skip" and not any(
                fnmatch.fnmatchcase(test["name"], pattern)
                for pattern in expected_skips):
            result.fail("unexpected-skip",
                        f"{test['name']}: {test['reason']}")
    if not result.tests:
        result.fail("no-tests", "the host ran no test")


def judge_phases(result, planned):
    for name in planned:
        if name not in result.phases:
            result.fail("infrastructure", f"nothing was reported of the "
                        f"planned phase {name}")


def judge_host(result, verdict, console, stopped):
    """What the host's own end says, before any line of the verdict."""
    own = "\n".join(
        line for line in console.splitlines() if not line.startswith("guest|"))
    panic = PANIC.search(own)
    if panic:
        # With panic_on_warn the reason stands above.
        why = TROUBLE.search(own, 0, panic.start())
        result.fail("host-crash" if verdict else "boot-failure",
                    f"host: {why[0] + ': ' if why else ''}{panic[0]}")
    if stopped == "stall":
        result.fail("stall", "the host's virtual time stood still")
    elif stopped == "time-out":
        result.fail("time-out", "the emulator was still running")
    if not verdict:
        seen = "after it had written to the console" if console.strip() \
            else "and wrote nothing to the console either"
        result.fail("boot-failure", f"the host never reached init, {seen}")


def judge_console(result, console, tsc_check=True):
    for line in console.splitlines():
        if line.startswith(("guest|", "test|")):
            continue
        trouble = TROUBLE.search(line)
        if trouble and (tsc_check or "TSC rate" not in trouble[0]):
            result.fail("host-warning", f"host: {trouble[0]}")


def judge_debug(result, console):
    """A host that can't find anything proves nothing."""
    for text in DEBUG_CONSOLE:
        if text not in console:
            result.fail("infrastructure", "the host is no debug kernel: its "
                        f"console lacks `{text}`")
    for name in DEBUG_TESTS:
        if not any(test["name"] == name for test in result.tests):
            result.fail("infrastructure", f"the host was not asked for {name}")


def judge(verdict, console, stopped="exited", planned=(), expected_skips=(),
          tsc_check=True, debug=False):
    """STOPPED is exited, stall or time-out; PLANNED names the phases; DEBUG:
    the host has a debug kernel."""
    result = Result()
    judge_host(result, verdict, console, stopped)
    parse(result, verdict)
    if verdict and not result.begin:
        result.fail("infrastructure", "no `begin`: the host had no plan")
    if not result.ended:
        result.fail("infrastructure", "no `end` on the verdict channel")
    judge_tests(result, expected_skips)
    judge_phases(result, planned)
    judge_console(result, console, tsc_check)
    if debug:
        judge_debug(result, console)
    return result
