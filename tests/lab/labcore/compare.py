# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of tests/lab/selftests against those of an unpatched kernel. Pure.

A result is a dictionary: label, run, host, kernel, tests.  Those of the run
`reference` are of an unpatched kernel; two or more of a host are needed, for
a test is stable only if they agree.
"""

import dataclasses

from .errors import LabError

REFERENCE = "reference"


@dataclasses.dataclass
class Host:
    """The results of one host."""

    name: str
    references: list
    results: list

    def left_out(self):
        """{name: why}: of no interest, even where a result has it."""
        left_out = {}
        for r in self.references:
            left_out.update(r["left_out"])
        return left_out

    def names(self):
        return sorted(set().union(*(r["tests"] for r in
                                    self.references + self.results))
                      - self.left_out().keys())

    def reference(self, name):
        """The verdicts on the unpatched kernel, each once."""
        found = [verdict(r, name) for r in self.references]
        return sorted(set(found), key=found.index)

    def unstable(self):
        return [n for n in self.names() if len(self.reference(n)) > 1]

    def regressions(self):
        """(test, label, verdict) that passes unpatched, and here does not."""
        return [(name, r["label"], verdict(r, name))
                for name in self.names() if self.reference(name) == ["pass"]
                for r in self.results if verdict(r, name) != "pass"]


def verdict(result, name):
    return result["tests"].get(name, {"verdict": "absent"})["verdict"]


def joined(results):
    """The results, with those of one host and label, which are parts, as one."""
    whole = {}
    for part in results:
        name = part["host"], part["label"]
        if name not in whole:
            whole[name] = {**part, "tests": dict(part["tests"]),
                           "left_out": dict(part["left_out"])}
            continue
        tests = whole[name]["tests"]
        if not tests.keys().isdisjoint(part["tests"]) or any(
                whole[name][key] != part[key] for key in ("run", "kernel")):
            raise LabError(f"{part['host']}: two results are labelled "
                           f"{part['label']}, and are not parts of one")
        tests.update(part["tests"])
        whole[name]["left_out"].update(part["left_out"])
    return list(whole.values())


def hosts(results):
    """The hosts; LabError if a comparison of them would say nothing."""
    results = joined(results)
    found = []
    for name in sorted({r["host"] for r in results}):
        mine = [r for r in results if r["host"] == name]
        host = Host(name, [r for r in mine if r["run"] == REFERENCE],
                    [r for r in mine if r["run"] != REFERENCE])
        if len(host.references) < 2:
            raise LabError(f"{name}: {len(host.references)} results of the run "
                           "`reference`; two or more are needed")
        if not host.results:
            raise LabError(f"{name}: nothing but references")
        if not any(host.reference(n) == ["pass"] for n in host.names()):
            raise LabError(f"{name}: no test passes on the unpatched kernel")
        found.append(host)
    return found


HEAD = """\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Made by tests/lab/selftests compare; do not edit. -->
# Upstream's KVM selftests

Every x86 selftest of the kernel's source package that upstream runs by itself,
on the lab's emulated hosts: on an unpatched kernel (`reference`), and on the
patched one with each policy forced on all VMs by module parameters
(`tests/lab/scenarios/kvm-selftests.ini`).  What passes on the unpatched kernel
must pass in every column.  A host here that lacks those which
`tests/lab/selftests.conf` gives a time of their own has not run them.
"""


def markdown(found):
    parts = [HEAD]
    for host in found:
        parts += _host(host)
    return "\n".join(parts)


def _host(host):
    labels = [r["label"] for r in host.results]
    bad = host.regressions()
    yield f"## Host {host.name}\n"
    for r in host.references + host.results:
        yield f"- {r['label']}: Linux {r['kernel']}, {r['emulator']}"
    yield ""
    if bad:
        yield f"**{len(bad)} regressions.**\n"
        for name, label, what in bad:
            yield f"- {name}, {label}: {what}"
        yield ""
    else:
        good = sum(host.reference(n) == ["pass"] for n in host.names())
        yield (f"The {good} tests that pass on the unpatched kernel pass in "
               "every column.\n")
    yield f"| test | reference | {' | '.join(labels)} |"
    yield "|---|---|" + "---|" * len(labels)
    for name in host.names():
        row = [", ".join(host.reference(name))]
        row += [verdict(r, name) for r in host.results]
        if len(host.reference(name)) > 1:
            row[0] += " (unstable)"
        yield f"| {name} | {' | '.join(row)} |"
    yield ""
    yield from _reasons(host)


def _reasons(host):
    """Why something is not a pass on the unpatched kernel."""
    for title, wanted in (("Skipped on the unpatched kernel", ("skip",)),
                          ("Not passed on the unpatched kernel", None)):
        lines = []
        for name in host.names():
            if len(host.reference(name)) > 1:
                continue
            test = host.references[0]["tests"].get(name)
            if not test or test["verdict"] == "pass" or \
                    (test["verdict"] == "skip") != (wanted is not None):
                continue
            lines.append(f"- {name}: {test['verdict']}: "
                         f"{_plain(test['reason'])}")
        if lines:
            yield from (f"{title}:\n", *lines, "")
    if host.unstable():
        yield "Unstable, the runs of the unpatched kernel disagree:\n"
        for name in host.unstable():
            said = [f"{r['label']}: {verdict(r, name)}"
                    for r in host.references]
            yield f"- {name}: {', '.join(said)}"
        yield ""
    if host.left_out():
        yield "Left out:\n"
        yield from (f"- {name}: {why}"
                    for name, why in sorted(host.left_out().items()))
        yield ""


def _plain(text):
    """A reason that Markdown leaves as it is."""
    text = text.removeprefix("exit status 4: ").replace("|", "\\|")
    return text.replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")
