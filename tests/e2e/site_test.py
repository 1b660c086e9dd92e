"""The site that tools/site makes of docs/: every link of it leads somewhere within it, nothing is asked of another host, search finds."""
import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.parse

import harness


class Reader(html.parser.HTMLParser):
    """Links, what the page loads, and the anchors that it has."""

    def __init__(self):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("img", "script", "iframe") and "src" in values:
            self.loads.append(values["src"])
        if tag == "link" and "href" in values:
            self.loads.append(values["href"])


class Site(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-site-")
        cls.top = pathlib.Path(cls.folder.name) / "site"
        done = subprocess.run([str(harness.ROOT / "tools/site"), str(cls.top)], capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        cls.pages = {}
        for path in cls.top.rglob("*.html"):
            reader = Reader()
            reader.feed(path.read_text())
            cls.pages[path] = reader

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_every_link_leads_somewhere(self):
        lost = []
        for path, page in self.pages.items():
            for target in page.links + page.loads:
                if re.match(r"[a-z]+:", target):
                    continue
                name, _, anchor = target.partition("#")
                there = (path.parent / urllib.parse.unquote(name)).resolve() if name else path
                if not there.is_file():
                    lost.append(f"{path.relative_to(self.top)}: {target}")
                elif anchor and there.suffix == ".html" and anchor not in self.pages[there].anchors:
                    lost.append(f"{path.relative_to(self.top)}: {target}: no such heading")
        self.assertEqual(lost, [])

    def test_nothing_is_loaded_from_elsewhere(self):
        for path, page in self.pages.items():
            self.assertEqual([target for target in page.loads if re.match(r"([a-z]+:)?//", target)], [], path)
        for name in ("style.css", "search.js"):
            self.assertNotRegex((self.top / name).read_text(), r"https?://|@import|url\(|fetch\(|XMLHttp")

    def test_every_page_is_there_as_markdown_and_in_both_lists(self):
        listed, whole = (self.top / "llms.txt").read_text(), (self.top / "llms-full.txt").read_text()
        for source in (harness.ROOT / "docs").rglob("*.md"):
            place = str(source.relative_to(harness.ROOT / "docs")).replace("README.md", "docs_index.md")
            self.assertEqual((self.top / place).read_bytes(), source.read_bytes())
            self.assertTrue((self.top / place).with_suffix(".html").exists())
            self.assertIn(f"({place})", listed)
            self.assertIn(source.read_text().rstrip(), whole)

    def test_two_makings_are_the_same(self):
        again = self.top.parent / "again"
        subprocess.run([str(harness.ROOT / "tools/site"), str(again)], check=True, capture_output=True)
        self.assertEqual(subprocess.run(["diff", "-r", str(self.top), str(again)], capture_output=True, text=True).stdout, "")
        shutil.rmtree(again)

    def test_search_finds_pages_by_word_and_title(self):
        # The page's own script, with as much of a document as it touches.
        program = """
const fs = require('fs');
const element = () => ({children: [], listeners: {}, appendChild(c) { this.children.push(c); },
  addEventListener(n, f) { this.listeners[n] = f; }, set textContent(t) { this.text = t; if (t === '') this.children = []; }, get textContent() { return this.text; }});
const box = element(), found = element();
const document = {getElementById: (id) => (id === 'search' ? box : found), createElement: element, body: {dataset: {top: ''}}};
new Function('document', fs.readFileSync('pages.js') + fs.readFileSync('search.js'))(document);
const out = {};
for (const words of ['quickstart', 'libfabric', 'migration', 'zzzzqq', '']) {
  box.value = words; box.listeners.input();
  out[words] = found.children.map((c) => c.children.length ? c.children[0].href : c.textContent);
}
console.log(JSON.stringify(out));
"""
        done = subprocess.run(["node", "-e", program], cwd=self.top, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual(found["quickstart"][0], "quickstart.html")
        self.assertIn("kv_transfer.html", found["libfabric"])
        self.assertIn("migration.html", found["migration"][:3])
        self.assertEqual(found["zzzzqq"], ["nothing found"])
        self.assertEqual(found[""], [])


if __name__ == "__main__":
    harness.main()
