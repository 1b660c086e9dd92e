"""Go templates as Helm's charts have them, as far as deploy/helm needs them: text, pipelines, if, with, range, define, include,
variables, and the functions below. Anything else is an error that names its place; what Helm would take and this does not is not used.
"""
import copy
import json
import re

import yaml

TOKEN = re.compile(r"""\s*(?:("(?:[^"\\]|\\.)*")|(`[^`]*`)|(-?\d+)|(:=|=|[|(),])|(\$?[A-Za-z_][\w]*(?:\.[\w]+)*|\$(?:\.[\w]+)*|\.[\w]+(?:\.[\w]+)*|\.))""")


class TemplateError(Exception):
    pass


def to_yaml(value):
    return yaml.safe_dump(value, default_flow_style=False, sort_keys=True, allow_unicode=True, width=10**6).removesuffix("\n...\n").rstrip("\n")


def truth(value):
    return not (value is None or value is False or value == 0 or value == "" or value == [] or value == {})


def show(value):
    return "" if value is None else {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def indent(count, text):
    return "\n".join(" " * count + line for line in text.split("\n"))


def fail(message):
    raise TemplateError(message)


def merged(into, over):
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merged(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
    return into


def both(*values):
    return next((v for v in values if not truth(v)), values[-1])


def either(*values):
    return next((v for v in values if truth(v)), values[-1])


FUNCTIONS = {
    "toYaml": to_yaml, "indent": lambda n, t: indent(n, t), "nindent": lambda n, t: "\n" + indent(n, t),
    "quote": lambda v: json.dumps(show(v), ensure_ascii=False), "squote": lambda v: "'" + show(v) + "'",
    "default": lambda d, v=None: v if truth(v) else d, "printf": lambda f, *a: f.replace("%v", "%s") % tuple(a),
    "eq": lambda a, *b: any(a == x for x in b), "ne": lambda a, b: a != b, "and": both, "or": either, "not": lambda v: not truth(v),
    "trunc": lambda n, t: t[:n], "trimSuffix": lambda s, t: t.removesuffix(s), "fail": fail, "list": lambda *v: list(v),
    "dict": lambda *v: dict(zip(v[::2], v[1::2])), "add": lambda *v: sum(v), "div": lambda a, b: a // b,
    "deepCopy": copy.deepcopy, "mergeOverwrite": merged,
}


def lex(text):
    out, at = [], 0
    text = text.strip()
    while at < len(text):
        found = TOKEN.match(text, at)
        if not found:
            raise TemplateError(f"cannot read {text[at:]!r}")
        string, raw, number, mark, name = found.groups()
        out.append(("value", json.loads(string)) if string is not None else ("value", raw[1:-1]) if raw is not None
                   else ("value", int(number)) if number is not None else ("mark", mark) if mark is not None else ("name", name))
        at = found.end()
        while at < len(text) and text[at].isspace():
            at += 1
    return out


class Template:
    """One set of files: `define`s are of all."""

    def __init__(self, files):
        self.defines, self.files = {}, {}
        for name, text in files.items():
            self.where = name
            pieces = self.split(text)
            nodes, end, _ = self.parse(pieces, 0, ())
            if end != len(pieces):
                raise TemplateError(f"{name}: an end too many")
            self.files[name] = nodes

    def split(self, text):
        """[("text", …) | ("action", words)]: dashes take white space with them."""
        out, at = [], 0
        for found in re.finditer(r"\{\{(-?)\s*(/\*.*?\*/|.*?)\s*(-?)\}\}", text, re.S):
            before = text[at:found.start()]
            if out and out[-1] == ("trim", None):
                out.pop()
                before = before.lstrip()
            out.append(("text", before.rstrip() if found[1] else before))
            if not found[2].startswith("/*"):
                out.append(("action", found[2]))
            if found[3]:
                out.append(("trim", None))
            at = found.end()
        rest = text[at:]
        if out and out[-1] == ("trim", None):
            out.pop()
            rest = rest.lstrip()
        return [*out, ("text", rest)]

    def parse(self, pieces, at, ends):
        nodes = []
        while at < len(pieces):
            kind, content = pieces[at]
            at += 1
            if kind == "text":
                nodes.append(("text", content))
                continue
            word, _, rest = content.partition(" ")
            if word in ends:
                return nodes, at, content
            if word in ("if", "with", "range"):
                body, at, end = self.parse(pieces, at, ("else", "end"))
                branches, other = [(rest, body)], []
                while end.startswith("else"):
                    if end.startswith("else if "):
                        body, at, next_end = self.parse(pieces, at, ("else", "end"))
                        branches.append((end.removeprefix("else if "), body))
                    else:
                        other, at, next_end = self.parse(pieces, at, ("end",))
                    end = next_end
                nodes.append((word, branches, other))
            elif word == "define":
                body, at, _ = self.parse(pieces, at, ("end",))
                self.defines[json.loads(rest.strip())] = body
            else:
                nodes.append(("do", content))
        if ends:
            raise TemplateError(f"{self.where}: an end is missing")
        return nodes, at, ""

    def render(self, name, root):
        self.where = name
        return self.run(self.files[name], root, {"$": root})

    def run(self, nodes, dot, variables):
        out = []
        for node in nodes:
            if node[0] == "text":
                out.append(node[1])
            elif node[0] == "do":
                out.append(self.do(node[1], dot, variables))
            elif node[0] == "range":
                out.append(self.range(node, dot, variables))
            else:
                for condition, body in node[1]:
                    value = self.value(condition, dot, variables)
                    if truth(value):
                        out.append(self.run(body, value if node[0] == "with" else dot, dict(variables)))
                        break
                else:
                    out.append(self.run(node[2], dot, dict(variables)))
        return "".join(out)

    def do(self, text, dot, variables):
        found = re.match(r"(\$\w+)\s*:?=\s*(.*)", text, re.S)
        if found:
            variables[found[1]] = self.value(found[2], dot, variables)
            return ""
        return show(self.value(text, dot, variables))

    def range(self, node, dot, variables):
        (text, body), = node[1]
        found = re.match(r"(?:(\$\w+)\s*,\s*)?(\$\w+)\s*:=\s*(.*)", text, re.S)
        value = self.value(found[3] if found else text, dot, variables)
        items = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value or []))
        out = []
        for key, item in items:
            inside = dict(variables)
            if found:
                inside[found[2]] = item
                if found[1]:
                    inside[found[1]] = key
            out.append(self.run(body, item, inside))
        return "".join(out) if items else self.run(node[2], dot, dict(variables))

    def value(self, text, dot, variables):
        try:
            tokens = lex(text)
            out, at = self.pipeline(tokens, 0, dot, variables)
            if at != len(tokens):
                raise TemplateError(f"too much in {text!r}")
            return out
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise TemplateError(f"{self.where}: {text!r}: {error!r}") from error

    def pipeline(self, tokens, at, dot, variables):
        out, at = self.call(tokens, at, dot, variables, ())
        while at < len(tokens) and tokens[at] == ("mark", "|"):
            out, at = self.call(tokens, at + 1, dot, variables, (out,))
        return out, at

    def call(self, tokens, at, dot, variables, last):
        kind, word = tokens[at]
        if kind == "name" and not word.startswith((".", "$")) and word not in ("true", "false", "nil"):
            arguments = []
            at += 1
            while at < len(tokens) and tokens[at] not in (("mark", "|"), ("mark", ")")):
                value, at = self.term(tokens, at, dot, variables)
                arguments.append(value)
            if word == "include":
                return self.run(self.defines[arguments[0]], arguments[1], {"$": arguments[1]}), at
            if word not in FUNCTIONS:
                raise TemplateError(f"{self.where}: there is no function {word} here")
            return FUNCTIONS[word](*arguments, *last), at
        return self.term(tokens, at, dot, variables)

    def term(self, tokens, at, dot, variables):
        kind, word = tokens[at]
        if kind == "value":
            return word, at + 1
        if (kind, word) == ("mark", "("):
            out, at = self.pipeline(tokens, at + 1, dot, variables)
            if tokens[at] != ("mark", ")"):
                raise TemplateError(f"{self.where}: a parenthesis is not closed")
            return out, at + 1
        if kind != "name":
            raise TemplateError(f"{self.where}: {word!r} is no value")
        if word in ("true", "false", "nil"):
            return {"true": True, "false": False, "nil": None}[word], at + 1
        first, *path = word.split(".")
        out = variables[first] if first else dot
        for name in filter(None, path):
            # As in Go, what a map lacks is nothing; what nothing has is an error.
            out = out.get(name) if isinstance(out, dict) else fail(f"{self.where}: {word}: nothing has no .{name}")
        return out, at + 1
