#!/usr/bin/env python3
"""Records what Jinja2 does with many small templates: writes cases.jsonl beside this file.

Needs the Python package jinja2 (3.1). The environment is set up as transformers sets it up for chat templates.
The tests only read cases.jsonl.
"""
import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = datetime.datetime(2026, 11, 20, 9, 5, 7)
VARIABLES = {
    "s": "Hello, World",
    "u": "Grüße, Ωmega 你好 ß",
    "n": 7,
    "f": 2.5,
    "none": None,
    "yes": True,
    "items": [3, 1, 2],
    "words": ["apple", "Banana", "cherry", "apple"],
    "d": {"b": 1, "a": {"x": [1, 2.0, None, True, "q'\"\n"]}, "items": "shadowed"},
    "m": [
        {"role": "system", "content": "Be  terse. "},
        {"role": "user", "content": "Hi\n<b>&</b>", "n": 1},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"k": [1, "é"]}}}]},
    ],
    "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
}

TEMPLATES = r'''
{{ s }}|{{ n }}|{{ f }}|{{ none }}|{{ yes }}|{{ missing }}|{{ items }}|{{ d }}
{{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1.0 }} {{ 100/3 }} {{ 1e300*1e10 }} {{ -0.0 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2**10 }} {{ 2**-1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }}
{{ 1_000 + 0x1F + 0b101 + 0o17 }} {{ true + 1 }} {{ 1 == true }} {{ 1 == 1.0 }} {{ "1" == 1 }} {{ none == false }}
{{ "a" ~ 1 ~ none ~ true ~ 1.5 ~ [1] }} {{ "ab" * 3 }} {{ [1] * 2 + [2] }} {{ (1,) + (2, 3) }} {{ () }} {{ (1,) }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 3 not in items }} {{ "ell" in s }} {{ "b" in d }} {{ [1,2] < [1,3] }} {{ "a" < "b" }}
{{ s[0] }}{{ s[-1] }}{{ s[1:4] }}{{ s[::-1] }}{{ s[::2] }}{{ s[-5:] }}{{ s[:-5] }}|{{ u[1:8] }}|{{ u[::-1] }}|{{ u|length }}|{{ s[100:] }}|{{ items[::-1] }}|{{ items[5:] }}
{{ s[100] }}|{{ items[10] is undefined }}|{{ d.zzz is undefined }}|{{ d["zzz"] is defined }}
{{ d.items() }}|{{ d["items"] }}|{{ d.keys()|list }}|{{ d.values()|list|length }}|{{ d.get("b") }}|{{ d.get("q") }}|{{ d.get("q", 5) }}
{{ d|tojson }}|{{ d|tojson(indent=2) }}|{{ m|tojson(indent=4, sort_keys=true) }}|{{ m|tojson(separators=(",", ":")) }}|{{ u|tojson(ensure_ascii=true) }}|{{ [1, 1.0, 1e100, none]|tojson }}|{{ {1: 2, none: 3, true: 4, 1.5: 6}|tojson }}|{{ []|tojson(indent=2) }}{{ {}|tojson(indent=2) }}
{{ "\u0001\t\"\\/\x7f"|tojson }} {{ "\U0001F600"|tojson(true) }}
{{ "a\tb\\n\101\x41\u00e9\q" }}
{{ s.upper() }}|{{ s.lower() }}|{{ "hELLO wORLD it's"|title }}|{{ "hELLO wORLD it's".title() }}|{{ "hELLO".capitalize() }}|{{ u.upper() }}|{{ u|capitalize }}|{{ u.swapcase() }}|{{ "ΑΣ".lower() }}|{{ u.casefold() }}
{{ "  x ".strip() ~ "|" ~ "  x ".lstrip() ~ "|" ~ "xxaxx".strip("x") ~ "|" ~ "abcba".rstrip("ab") ~ "|" ~ "éaé".strip("é") }}
{{ "a b  c".split() }} {{ "a b  c".split(" ") }} {{ "a,b,c".split(",", 1) }} {{ "a,b,c".rsplit(",", 1) }} {{ " a b ".split(none, 1) }} {{ "".split() }} {{ "".split(",") }} {{ "a\nb\r\nc\n".splitlines() }} {{ "a\nb\n".splitlines(true) }}
{{ s.startswith("Hell") }} {{ s.startswith(("x", "He")) }} {{ s.endswith("ld") }} {{ s.startswith("ell", 1) }} {{ s.find("o") }} {{ s.rfind("o") }} {{ s.find("zz") }} {{ s.count("l") }} {{ s.index("W") }} {{ u.find("你") }} {{ s.find("o", 5) }}
{{ s.replace("l", "L") }} {{ s.replace("l", "L", 1) }} {{ "ab".replace("", "-") }} {{ s|replace("o", "0") }} {{ s|replace("o", "0", 1) }} {{ 11|replace(1, 2) }}
{{ "x".join(["a", "b"]) }} {{ ["a", 1, none]|join("-") }} {{ m|join(",", attribute="role") }} {{ "abc"|join(".") }}
{{ "pre-x".removeprefix("pre-") }} {{ "x.py".removesuffix(".py") }} {{ "a=b=c".partition("=") }} {{ "a=b=c".rpartition("=") }} {{ "ab".center(7, "*") }} {{ "abc".center(6) }}| {{ "ab".ljust(4, ".") }} {{ "ab".rjust(4) }} {{ "-5".zfill(4) }}
{{ "abc".isalpha() }} {{ "ab1".isalnum() }} {{ "12".isdigit() }} {{ "".isdigit() }} {{ " ".isspace() }} {{ "Ab".istitle() }} {{ "AB".isupper() }} {{ "ab".islower() }} {{ "a\tb".expandtabs(4) }}
{{ "%s has %d, %.2f%% %5d|%-5s|%05d %x %r" % ("x", 3, 1.239, 42, "ab", 42, 255, "q") }} {{ "%s" % n }} {{ "%(a)s-%(b)s" % {"a": 1, "b": 2} }} {{ "%s %s"|format("a", "b") }}
{{ "{} {}".format(1, "a") }} {{ "{1}{0}".format("a", "b") }} {{ "{x:>5}|{x:<5}|{x:^5}|{n:05d}|{f:.3f}|{n:+d}|{b:,}".format(x="ab", n=42, f=1.5, b=1234567) }} {{ "{{}}".format() }} {{ "{0[b]} {0.a!r}".format({"b": 1, "a": 2}) }}
{{ [1,2,3]|sum }} {{ items|sort }} {{ items|sort(reverse=true) }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ words|unique|list }} {{ items|max }} {{ items|min }} {{ m|map(attribute="role")|list }} {{ m|sort(attribute="role")|map(attribute="role")|join(" ") }}
{{ m|selectattr("role", "equalto", "user")|list|length }} {{ m|selectattr("n")|list|length }} {{ m|rejectattr("n", "defined")|map(attribute="role")|list }} {{ [0, 1, none, "a"]|select|list }} {{ [1,2,3,4]|select("even")|list }} {{ [1,2,3]|reject("odd")|list }} {{ ["a","b"]|map("upper")|list }} {{ m|map(attribute="n", default=0)|list }} {{ words|map("replace", "a", "_")|list }}
{{ [1,2,3,4,5]|batch(2)|list }} {{ [1,2,3,4,5]|batch(2, 0)|list }} {{ [1,2,3,4,5]|slice(2)|list }} {{ [1,2,3]|first }} {{ [1,2,3]|last }} {{ []|first is undefined }} {{ "abc"|last }} {{ [1,2]|reverse|list }} {{ "abc"|reverse }} {{ d|dictsort }} {{ d|items|list|length }} {{ "abc"|list }}
{% for g in words|groupby("0") %}{{ g.grouper }}={{ g.list|join("+") }};{% endfor %}{% for k, v in m|groupby("role") %}{{ k }}:{{ v|length }} {% endfor %}
{{ missing|default("x") }} {{ none|default("x") }} {{ none|default("x", true) }} {{ ""|d("e", boolean=true) }} {{ "5"|int + 1 }} {{ "x"|int }} {{ "x"|int(9) }} {{ "0x1f"|int(base=16) }} {{ "2.7"|int }} {{ "1.5"|float }} {{ 3.7|int }} {{ 2.5|round }} {{ 3.14159|round(2) }} {{ 2.1|round(method="ceil") }} {{ 42|round }} {{ -3|abs }} {{ 1.25|round(1) }}
{{ "a b c d e f"|truncate(9) }} {{ "abcdefghijklmnop"|truncate(8, true) }} {{ "a\nb\n\nc"|indent(2) }}|{{ "a\nb"|indent(2, true) }}|{{ "a\n\nb"|indent("> ", blank=true) }}|{{ "one two"|wordcount }}|{{ "ab"|center(6) }}|{{ "<a href='x'>\"&"|escape }}|{{ "a b&c/d"|urlencode }}|{{ {"a": "b c", "d": 1}|urlencode }}|{{ 1000000|filesizeformat }} {{ 1024|filesizeformat(true) }} {{ 1|filesizeformat }}
{{ "<a>"|e ~ "<b>" }} {{ ("<a>"|safe) + "<b>" }} {{ "<b>" + ("<a>"|safe) }} {{ ["<x>"|safe] }} {{ ("<x>"|safe).upper() + "<" }} {{ ("%s<"|safe) % "<" }} {{ ("{}<"|safe).format("<") }} {{ ("-"|safe).join(["<", "<"|safe]) }} {{ ["<"|safe, "<"]|join("-") }} {{ ("a<"|safe)[1:] + "&" }} {{ "<"|e|e }} {{ ("x"|safe) is escaped }} {{ ("ab"|safe).replace("a", "<") }} {{ ("a b"|safe).split()[0] + "<" }} {{ ("a<b"|safe)|replace("b", ">") + "<" }} {{ ("a"|safe) * 2 + "<" }} {{ 5|e + "<" }}
{{ missing is defined }} {{ none is none }} {{ s is string }} {{ d is mapping }} {{ items is sequence }} {{ s is iterable }} {{ n is number }} {{ yes is boolean }} {{ yes is integer }} {{ n is integer }} {{ f is float }} {{ yes is true }} {{ n is odd }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ n is in items }} {{ 3 is in items }} {{ n is sameas n }} {{ "upper" is filter }} {{ "zz" is test }} {{ raise_exception is callable }} {{ s is lower }} {{ n is ge 7 }} {{ n is not none and true }} {{ n == 7 if n is defined else 0 }} {{ missing is mapping }}
{% if missing %}a{% elif n > 5 %}b{% else %}c{% endif %}{% if not none and (s or d) %}x{% endif %}{{ "t" if yes }}|{{ "t" if not yes }}|{{ none or "dflt" }}|{{ 0 and 1 }}|{{ [] or {} }}
{% for x in items %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle("a", "b") }}{{ loop.changed(x > 1) }}{{ loop.depth }};{% endfor %}
{% for x in [] %}x{% else %}empty{% endfor %}{% for k, v in d.items() %}{{ k }}{% if not loop.last %},{% endif %}{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x in range(10) if x is even %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}{% for x in range(5) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}{% for x in [1] %}{% continue %}{% else %}E{% endfor %}
{%- for t in tree recursive %}({{ t.v }}d{{ loop.depth }}{{ loop(t.c) }}){% endfor %}
{% for i in [1, 2] %}{% for j in [1, 2] %}{{ loop.index }}{% set outer = loop %}{% endfor %}{{ loop.index }};{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}{% set ns = namespace(x=1, y=missing) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.zzz is defined }}{{ ns['x'] }}
{% for i in [1, 2] %}{% if loop.first %}{% set a = 5 %}{% endif %}[{{ a }}]{% endfor %}{{ a }}{% if true %}{% set b = 3 %}{% endif %}{{ b }}
{% for i in [1] %}[{{ s }}]{% endfor %}{% set s = 5 %}{{ s }}
{% for i in [1, 2] %}{{ q }}{% set q = i %}{% endfor %}|{{ q }}{% if false %}{% set n = 0 %}{% endif %}{{ n }}{% if false %}{% set n = 0 %}{% elif true %}{% set n = 1 %}{% endif %}{{ n }}
{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}|{{ f(1, 5, 6, 7, z=3) }}|{{ f(b=1) }}|{{ f.name }}{{ f.arguments }}{{ f(*[1, 2], **{"c": 9}) }}
{% macro g(x) %}<{{ x }}>{{ caller("c") }}{% endmacro %}{% call(v) g(1) %}body {{ v }} {{ n }}{% endcall %}
{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * (fact(n - 1)|int) }}{% endif %}{% endmacro %}{{ fact(10) }}
{% set v = 1 %}{% macro late() %}{{ v }}{% endmacro %}{% set v = 2 %}{{ late() }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% set block %}  x {{ n }} {% endset %}[{{ block }}]{% set up | upper | trim %} abc {% endset %}[{{ up }}]{% filter upper %}abc {{ s }}{% endfilter %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}{% with %}{% set n = 9 %}{{ n }}{% endwith %}{{ n }}
{% generation %}gen {{ n }}{% set n = 3 %}{{ n }}{% endgeneration %}{{ n }}
{% raw %}{{ not }} {% if %}{% endraw %}|{# comment {{ x }} #}|{{ '{{' }}|{{ "}}" }}|{{ {"a": {"b": 1}} }}
a  {%- if true -%}  b  {%- endif -%}  c|  {{- n -}}  |{{ n }}  |
{% if true %}
x
{% endif %}
y
  {% if true %}
  indented
  {% endif %}
{%+ if true %}z{% endif +%}

{{ n }}
{#- c -#}
end
{% set a, b = 1, "x" %}{{ b }}{{ a }}{% set t = 1, %}{{ t }}{% set (p, q) = [3, 4] %}{{ p }}{{ q }}
{{ range(5)|list }} {{ range(1, 10, 3)|list }} {{ range(5, 0, -2)|list }} {{ range(3) }} {{ range(10)[2:5]|list }} {{ 3 in range(5) }} {{ range(3)|length }} {{ dict(a=1, b=2) }} {{ dict([("x", 1)]) }} {{ dict({"a": 1}, a=2) }}
{% set c = cycler("a", "b") %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set j = joiner("|") %}{{ j() }}x{{ j() }}y
{{ strftime_now("%d %b %Y %A %B %H:%M:%S %j %y %p %I %-d %e %F %T %u %U %W %V %G %% %a") }}
{{ [1, "a", none, true, 1.5, "it's", 'say "hi"', "both ' and \"", "\n\t\\é\u200b\x00"] }}
{{ {"a": [1, {"b": (1, 2)}]} }} {{ {} }} {{ [] }} {{ {1: "x"} }} {{ {"a": 1, "a": 2} }} {{ {1: "x", 1.0: "y", true: "z"} }}
{{ "a" "b" 'c' }} {{ - 3 }} {{ +3 }} {{ not 1 }} {{ -3|abs }} {{ 2 * 3 + 4 * 5 - 6 / 2 }} {{ 2 ** 3 ** 2 }} {{ 10 - 3 - 2 }} {{ "a" ~ "b" * 2 }} {{ 1 + 1 ~ 2 + 2 }}
{{ m[0].content.strip().split()[1] }} {{ m[1]["role"] }} {{ (m|last).tool_calls[0].function.arguments.k[1] }} {{ m[2].tool_calls[0]["function"].name }} {{ m.0.role }} {{ items.0 }}
{{ m[0].get("role").upper()[:3]|lower ~ "!" }} {{ "x" if "content" in m[2] and m[2].content is not none else "y" }} {{ d.a.x[4] }}
{% print n %}{% set x = "é" %}{{ x|length }}
{{ ''.__class__ }}|{{ items.append is defined }}|{{ d.update }}
{{ items|attr("count") is callable }} {{ d|attr("b") is defined }} {{ items.index(1) }} {{ items.count(3) }} {{ (1, 2).index(2) }} {{ words.count("apple") }}
{{ [3, 1]|sort|first }} {{ ["b", "A"]|sort(attribute="0") }} {{ [{"a": 2, "b": 1}, {"a": 1, "b": 2}]|sort(attribute="a,b")|map(attribute="b")|list }} {{ [[1, 2], [3, 4]]|map("last")|list }} {{ [[1, 2], [3, 4]]|map(attribute=0)|list }} {{ [1, 2]|sum(start=10) }} {{ [{"p": {"q": 2}}]|sum("p.q") }}
{% set x %}{% for i in [1, 2] %}{{ i }}{% endfor %}{% endset %}{{ x }}{% set g = [1, 2]|map("string") %}{{ g|list }}{{ g|list }}{{ true if g }}
{% set ns = namespace({"a": 1}, b=2) %}{% set ns.c, ns.d = 3, 4 %}{{ ns.a ~ ns.b ~ ns.c ~ ns.d }}
{% for c in u %}{{ c }}.{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for x in missing %}x{% endfor %}{{ missing|list }}{{ missing|length }}{{ missing|join }}
{{ "\r\na\rb" }}{{ "x
y" }}
{{ true }}{{ True }}{{ none }}{{ None }}{{ [True, None] }} {{ 5 is none }} {{ "a" is eq "a" }} {{ 1 is lt 2 }} {{ 1 if 2 if 3 else 4 else 5 }}
{{ missing.x }}
{{ d.zzz.y }}
{{ "a" + 1 }}
{{ 1 + "a" }}
{{ none + "a" }}
{{ "a" + none }}
{{ "a" + items }}
{{ items + "a" }}
{{ "a" + missing }}
{{ missing + "a" }}
{{ none|length }}
{{ 5|length }}
{{ none|list }}
{% for x in none %}{% endfor %}
{% for x in 5 %}{% endfor %}
{{ "a" in none }}
{{ 1 in "abc" }}
{{ 1 < "a" }}
{{ none < 1 }}
{{ items.append(1) }}
{{ d.update({}) }}
{{ ''.__class__.__mro__ }}
{{ s.nope() }}
{{ s[99].nope }}
{{ m[99].nope }}
{{ none[1].nope }}
{{ (1 if s is nope else 2) }}
{{ s() }}
{{ none() }}
{{ missing() }}
{{ raise_exception("no " ~ s) }}
{% set d.x = 1 %}
{% set a, b = [1, 2, 3] %}
{% set a, b = [1] %}
{% set a, b = 5 %}
{{ items|map("upper")|tojson }}
{{ missing|tojson }}
{{ d.keys()|tojson }}
{{ {(1, 2): 3}|tojson }}
{{ {[1]: 2} }}
{{ 1 / 0 }}
{{ 1.0 // 0 }}
{{ s.index("zz") }}
{{ range(100001) }}
{{ range(0, 5, 0) }}
{{ "a".join([1]) }}
{{ "%d" % "x" }}
{{ "%s %s" % "x" }}
{{ "%s" % (1, 2) }}
{{ m|items|list }}
{{ s.startswith(1) }}
{{ s.replace("a", none) }}
{{ d.a() }}
{{ -s }}
{{ missing > 1 }}
{{ f(1) }}{% macro f() %}{% endmacro %}
{% macro f() %}{% endmacro %}{{ f(1) }}
{% macro f() %}{% endmacro %}{{ f(x=1) }}
{{ (items|map("upper"))|length }}
{{ "x" * "y" }}
{{ items["a"].b }}
{{ loop.index }}
{{ "{}".format() }}
{{ "{x}".format() }}
{{ s[::0] }}
{{ s["a":] }}
{{ n[0:1] }}
{{ n[0] }}|{{ none.x }}|{{ none["x"] }}
{{ "zz"|attr(1) }}
{{ m|selectattr|list }}
{{ m|selectattr("role", "nope")|list }}
{{ m|map("nope")|list }}
{{ m|map(attribute="role", x=1)|list }}
{{ words|join(attribute="x") }}
{{ s|round }}
{{ s|abs }}
{% if x %}{{ x|nope }}{% endif %}ok
{{ x|nope }}
{% if true %}{{ s|nope }}{% endif %}
{{ x is nope }}
{{ "a" if true else "b"|nope }}
{% if %}{% endif %}
{% for x in %}{% endfor %}
{% for x %}{% endfor %}
{% endfor %}
{% if true %}
{{ 1 + }}
{{ (1 }}
{{ 1) }}
{{ "abc }}
{{ a b }}
{% set 1 = 2 %}
{% set none = 2 %}
{% nope %}
{% break %}
{% for loop in [1] %}{% endfor %}
{# unclosed
{% raw %}x
{{ a.b.1.c["d" }}
{{ [1, 2 }}
{{ {1} }}
{{ f(a=1, 2) }}
{{ f(a=1, a=2) }}
{% macro f(a=1, b) %}{% endmacro %}
{{ $ }}
{{ 'a' is string is none }}
{{ x[1:2, 3] }}
{% do x %}
{{ 1 if }}
'''


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def make_environment():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = NOW.strftime
    return environment


def cases():
    """One template a line; lines that belong together are those without a blank between an opening and its end."""
    lines = TEMPLATES.strip("\n").split("\n")
    multi = {"{% if true %}\nx\n": 12, '{{ "\\r\\na\\rb" }}{{ "x\n': 2}
    at = 0
    while at < len(lines):
        rest = "\n".join(lines[at:]) + "\n"
        count = next((n for start, n in multi.items() if rest.startswith(start)), 1)
        yield "\n".join(lines[at : at + count])
        at += count


def main():
    environment = make_environment()
    out = pathlib.Path(__file__).with_name("cases.jsonl")
    with out.open("w", encoding="utf-8") as file:
        for source in cases():
            case = {"template": source}
            try:
                case["text"] = environment.from_string(source).render(**VARIABLES)
            except Exception as error:  # noqa: BLE001: whatever Jinja raises is the answer
                case["error"] = type(error).__name__ + ": " + str(error)
            file.write(json.dumps(case, ensure_ascii=False) + "\n")
    variables = pathlib.Path(__file__).with_name("variables.json")
    variables.write_text(json.dumps(VARIABLES, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
