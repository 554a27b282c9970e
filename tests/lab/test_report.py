# SPDX-License-Identifier: GPL-2.0-or-later
"""The report: what it accepts, what it refuses, and what it makes of the numbers."""

import contextlib
import copy
import html.parser
import importlib.util
import io
import json
import os
import re
import tempfile
import unittest

import report
import report_model as model
import report_text

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "testdata", "report")
TWO_RUNS = os.path.join(DATA, "two-runs.json")


def sample():
    with open(TWO_RUNS, encoding="utf-8") as stream:
        return json.load(stream)


class Refusal(unittest.TestCase):
    """Each kind of bad input ends with one message that names the key."""

    # (the key that the message must name, what breaks a good report)
    CASES = (
        ("scenario: missing", lambda v: v.pop("scenario")),
        ("scenario: expected a name", lambda v: v.update(scenario=["x"])),
        ("scenario: expected a name", lambda v: v.update(scenario="a\x1b[31m")),
        ("host: missing", lambda v: v.pop("host")),
        ("host.kernel: missing", lambda v: v["host"].pop("kernel")),
        ("host.vendor: expected one line", lambda v: v["host"].update(vendor="a\nb")),
        ("runs: missing", lambda v: v.pop("runs")),
        ("runs: expected a list", lambda v: v.update(runs={})),
        ("runs: expected at least one", lambda v: v.update(runs=[])),
        ("runs[1]: expected an object", lambda v: v["runs"].__setitem__(1, 7)),
        ("runs[1].name: 'default' is listed twice",
         lambda v: v["runs"][1].update(name="default")),
        ("runs[0].phases: expected at least one", lambda v: v["runs"][0].update(phases={})),
        ("runs[1].phases: boot differ", lambda v: v["runs"][1]["phases"].pop("uefi-vars")),
        ("runs[0].phases.boot.tdp_maps: missing", lambda v: boot(v).pop("tdp_maps")),
        ("boot.tdp_maps: expected a whole number", lambda v: boot(v).update(tdp_maps="7")),
        ("boot.tdp_maps: expected a whole number", lambda v: boot(v).update(tdp_maps=7.5)),
        ("boot.tdp_maps: expected a whole number", lambda v: boot(v).update(tdp_maps=True)),
        ("boot.tdp_maps: expected a whole number", lambda v: boot(v).update(tdp_maps=-1)),
        ("boot.tdp_maps: expected a whole number", lambda v: boot(v).update(tdp_maps=1 << 53)),
        ("boot.guest_ns: expected a whole number", lambda v: boot(v).update(guest_ns=1.5)),
        ("boot.slot_deletes: 9999 is more", lambda v: boot(v).update(slot_deletes=9999)),
        ("boot.extra: is not in both", lambda v: boot(v, 1).update(extra=1)),
        ("boot.extra: expected a whole number", lambda v: boot(v).update(extra=None)),
        ("boot.roles: expected a list", lambda v: boot(v).update(roles={})),
        ("boot.roles[0].role: expected 0x", lambda v: boot(v)["roles"][0].update(role=14212)),
        ("boot.roles[0].role: expected 0x",
         lambda v: boot(v)["roles"][0].update(role="0x123456789")),
        ("boot.roles[1].pages_max: missing",
         lambda v: boot(v)["roles"][1].pop("pages_max")),
        ("boot.roles[1].role: 0x00003784 is listed twice",
         lambda v: boot(v)["roles"][1].update(role="0x3784")),
        ("boot.stats: expected an object", lambda v: boot(v).update(stats=[])),
        ("boot.stats.mmu_resets: expected a whole",
         lambda v: boot(v)["stats"].update(mmu_resets="11760")),
    )

    def test_table(self):
        for message, spoil in self.CASES:
            with self.subTest(message):
                value = sample()
                spoil(value)
                with self.assertRaises(model.ReportError) as caught:
                    model.parse(value)
                self.assertIn(message, str(caught.exception))
                self.assertEqual(str(caught.exception).count("\n"), 0)

    def test_top_level(self):
        for value in (None, 3, [], "x"):
            with self.assertRaisesRegex(model.ReportError, "^top level: expected an object"):
                model.parse(value)

    def test_sample_is_good(self):
        self.assertEqual(model.parse(sample()).phase_names, ("boot", "uefi-vars"))


def boot(value, run=0):
    return value["runs"][run]["phases"]["boot"]


class CommandLine(unittest.TestCase):
    """Files, exit statuses and what is left behind."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.page = os.path.join(self.folder.name, "boot.html")

    def run_report(self, *args):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = report.main(list(args))
        return status, out.getvalue(), err.getvalue()

    def write(self, content):
        path = os.path.join(self.folder.name, "boot.json")
        with open(path, "wb") as stream:
            stream.write(content)
        return path

    def test_unreadable(self):
        cases = (b"", b"{", b"\xff\xfe", b"[" * 100000, b'{"scenario": 1, "scenario": 2}')
        for content in cases:
            with self.subTest(content[:30]):
                path = self.write(content)
                status, out, err = self.run_report(path, "--html", self.page)
                self.assertEqual((status, out), (1, ""))
                self.assertTrue(err.startswith(f"report: {path}: "), err)
                self.assertEqual(err.count("\n"), 1)
                self.assertEqual(os.listdir(self.folder.name), ["boot.json"])

    def test_absent(self):
        for path in (os.path.join(self.folder.name, "none.json"), self.folder.name):
            status, out, err = self.run_report(path)
            self.assertEqual((status, out), (1, ""))
            self.assertTrue(err.startswith(f"report: {path}: "), err)

    def test_bad_value_keeps_the_old_page(self):
        with open(self.page, "w", encoding="utf-8") as stream:
            stream.write("old")
        value = sample()
        boot(value).pop("mmu_resets")
        path = self.write(json.dumps(value).encode())
        status, out, err = self.run_report(path, "--html", self.page)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, f"report: {path}: runs[0].phases.boot.mmu_resets: missing\n")
        with open(self.page, encoding="utf-8") as stream:
            self.assertEqual(stream.read(), "old")

    def test_write_whole(self):
        report.write_whole(self.page, "new")
        with open(self.page, encoding="utf-8") as stream:
            self.assertEqual(stream.read(), "new")
        self.assertEqual(os.listdir(self.folder.name), ["boot.html"])
        nowhere = os.path.join(self.folder.name, "none", "boot.html")
        with self.assertRaisesRegex(model.ReportError, "none/boot.html: can't write"):
            report.write_whole(nowhere, "new")
        # A folder in the way: the temporary file must not stay behind either.
        os.mkdir(os.path.join(self.folder.name, "dir"))
        with self.assertRaises(model.ReportError):
            report.write_whole(os.path.join(self.folder.name, "dir"), "new")
        self.assertEqual(sorted(os.listdir(self.folder.name)), ["boot.html", "dir"])

    def test_table_on_stdout(self):
        status, out, err = self.run_report(TWO_RUNS)
        self.assertEqual((status, err), (0, ""))
        with open(os.path.join(DATA, "two-runs.txt"), encoding="ascii") as stream:
            self.assertEqual(out, stream.read())


class Text(unittest.TestCase):
    """Shapes of the table that the golden file does not have."""

    def test_width(self):
        text = report_text.render(model.parse(sample()))
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        self.assertTrue(text.isascii())

    def test_one_run_has_no_ratio(self):
        value = sample()
        del value["runs"][1]
        text = report_text.render(model.parse(value))
        self.assertIn("  MMU unloads                         11,764\n", text)
        self.assertNotIn("default/", text)

    def test_three_runs_each_against_the_first(self):
        value = sample()
        third = copy.deepcopy(value["runs"][0])
        third["name"] = "drop"
        third["phases"]["boot"]["root_loads"] = 12818
        value["runs"].append(third)
        text = report_text.render(model.parse(value))
        self.assertRegex(text, r"default/keep +default/drop\n")
        self.assertRegex(text, r"root loads +6,409 +4 +12,818 +1,602x +0.50x\n")

    def test_no_time_unless_all_have_it(self):
        value = sample()
        boot(value, 1)["guest_ns"] = None
        self.assertIsNone(model.guest_times(model.parse(value), "boot"))
        self.assertEqual(report_text.render(model.parse(value)).count("guest time"), 1)

    def test_roles_absent_and_one_sided(self):
        value = sample()
        boot(value, 0).pop("roles")
        boot(value, 1)["roles"] = []
        self.assertNotIn("boot: TDP roots", report_text.render(model.parse(value)))
        boot(value, 1)["roles"] = [{"role": "0x3784", "loads": 6, "reused": 4, "teardowns": 0,
                                    "pages_torn_down": 0, "pages_max": 1234}]
        self.assertRegex(report_text.render(model.parse(value)),
                         r"default( +-){5}\n +keep +6 +4 +0 +0 +1,234\n")

    def test_extra_counter_and_foreign_stat(self):
        value = sample()
        for run in (0, 1):
            boot(value, run)["npf_exits"] = 1234 * (run + 1)
        boot(value, 0)["stats"]["alone"] = 9
        text = report_text.render(model.parse(value))
        self.assertRegex(text, r"  npf_exits +1,234 +2,468 +0.50x\n")
        self.assertRegex(text, r"  alone +9 +-\n")


class Numbers(unittest.TestCase):
    """Ratios and roles."""

    def test_ratio(self):
        self.assertEqual(model.ratio(10, 4), 2.5)
        self.assertIsNone(model.ratio(0, 0))
        self.assertEqual(model.ratio(5, 0), float("inf"))
        self.assertEqual(model.ratio(0, 5), 0)

    def test_ratio_text(self):
        cases = {(0, 0): "-", (5, 0): "all gone", (0, 5): "0x", (7, 7): "1x",
                 (1001, 1000): "1.00x", (3, 2): "1.50x", (9994, 1000): "9.99x",
                 (9996, 1000): "10.0x", (99949, 1000): "99.9x", (99951, 1000): "100x",
                 (11760, 16): "735x", (797221, 43): "18,540x", (10 ** 9, 1): "1.0e+09x",
                 (1, 3): "0.33x", (1, 100): "0.01x", (1, 700): "1e-03x"}
        for (first, other), text in cases.items():
            self.assertEqual(model.ratio_text(first, other), text)

    def test_role_words(self):
        cases = {
            0x00003784: "normal mode, 4 levels, direct, rwx, NX, WP",
            0x01003784: "SMM, 4 levels, direct, rwx, NX, WP",
            0x00023785: "normal mode, nested guest, 5 levels, direct, rwx, NX, WP",
            0x00013f84: "normal mode, 4 levels, direct, rwx, invalid, NX, WP, no A/D bits",

            0x02000512: "SMM (as_id 2), 2 levels, shadow, r-x, 4-byte guest PTEs",
            0x0004c064: "normal mode, 4 levels, shadow, ---, SMEP without WP, "
                        "SMAP without WP, passthrough, quadrant 3",
            0x00080001: "normal mode, 1 levels, shadow, ---, unknown bits 0x80000",
        }
        for role, words in cases.items():
            self.assertEqual(model.role_words(role), words)


class _Page(html.parser.HTMLParser):
    """Collects what a page names, refers to and shows."""

    def __init__(self):
        super().__init__()
        self.ids, self.refs, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            elif key in ("href", "src", "xlink:href"):
                self.refs.append(value)
            elif key == "aria-labelledby":
                self.refs += ["#" + word for word in value.split()]
            else:
                self.refs += re.findall(r"url\(([^)]*)\)", value or "")


@unittest.skipUnless(importlib.util.find_spec("matplotlib"), "needs matplotlib")
class Html(unittest.TestCase):
    """The page stands alone and holds every number."""

    def page(self, value):
        import report_html  # pylint: disable=import-outside-toplevel
        text = report_html.render(model.parse(value))
        parsed = _Page()
        parsed.feed(text)
        return text, parsed

    def test_self_contained(self):
        text, parsed = self.page(sample())
        self.assertEqual(len(parsed.ids), len(set(parsed.ids)), "an id is there twice")
        for ref in parsed.refs:
            self.assertTrue(ref.startswith("#"), ref)
            self.assertIn(ref[1:], parsed.ids)
        for foreign in ("http:", "https:", "<script", "@import", "<link"):
            self.assertNotIn(foreign, text)
        self.assertEqual(parsed.tags.count("title"), 3)
        self.assertEqual(parsed.tags.count("desc"), 2)

    def test_colours_are_the_page_s(self):
        text, _ = self.page(sample())
        for svg in re.findall(r"<svg viewBox.*?</svg>", text, flags=re.S):
            self.assertEqual(re.findall(r"#[0-9a-f]{6}\b", svg), [])

    def test_numbers(self):
        text, _ = self.page(sample())
        for number in ("797,221", "18,540×", "5,882×", "all gone", "55.20 s", "2,313"):
            self.assertIn(number, text)

    def test_same_input_same_page(self):
        self.assertEqual(self.page(sample())[0], self.page(sample())[0])

    def test_text_is_escaped(self):
        value = sample()
        value["host"]["emulator"] = "<b onload=x> & \"y\""
        text, parsed = self.page(value)
        self.assertIn("&lt;b onload=x&gt; &amp; &quot;y&quot;", text)
        self.assertNotIn("<b onload", text)

    def test_other_shapes(self):
        value = sample()
        for run in value["runs"]:
            for phase in run["phases"].values():
                phase.update({key: 0 for key, _, _ in model.COUNTERS}, guest_ns=0)
                phase.update(roles=[], stats={})
        self.page(value)
        del value["runs"][1]
        self.assertNotIn("÷", self.page(value)[0])
        value["runs"] = [dict(value["runs"][0], name=f"r{i}") for i in range(6)]
        self.page(value)


if __name__ == "__main__":
    unittest.main()
