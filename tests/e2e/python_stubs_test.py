"""The type stubs of the package: every public name has one, and each says what the module has."""
import ast
import dataclasses
import enum
import inspect
import json
import sys
import unittest

import harness
import python_cluster

STUB = harness.ROOT / "python/pixii/__init__.pyi"
DUNDERS = {"__init__", "__str__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__iter__", "__next__", "__aiter__", "__anext__"}
# Run by the python3 that the extension was built for.
LOOK = """
import sys
sys.path.insert(0, sys.argv[1])
import python_stubs_test
python_stubs_test.look()
"""


def of_module(function):
    """[(name, kind, has a default)] and whether it is awaited."""
    p = inspect.Parameter
    kinds = {p.POSITIONAL_ONLY: "plain", p.POSITIONAL_OR_KEYWORD: "plain", p.KEYWORD_ONLY: "named", p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}
    parameters = [[one.name, kinds[one.kind], one.default is not p.empty] for one in inspect.signature(function).parameters.values()]
    return parameters, inspect.iscoroutinefunction(function)


def of_stub(node):
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    out = [[arg.arg, "plain", i >= len(plain) - len(given.defaults)] for i, arg in enumerate(plain)]
    out += [[given.vararg.arg, "*", False]] if given.vararg else []
    out += [[arg.arg, "named", default is not None] for arg, default in zip(given.kwonlyargs, given.kw_defaults)]
    out += [[given.kwarg.arg, "**", False]] if given.kwarg else []
    return out, isinstance(node, ast.AsyncFunctionDef)


def members_of(cls):
    """name -> what it is: a signature, "property", or "field"."""
    out = {}
    for one in reversed([c for c in cls.__mro__ if c is cls or c.__name__ == "_Base"]):
        for name, value in vars(one).items():
            value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if isinstance(value, property):
                out[name] = "property"
            elif inspect.isfunction(value) and (not name.startswith("_") or name in DUNDERS):
                out[name] = of_module(value)
    if dataclasses.is_dataclass(cls):
        out = {name: what for name, what in out.items() if not name.startswith("__")}
        out |= {field.name: "field" for field in dataclasses.fields(cls)}
    if issubclass(cls, enum.Enum):
        out = {name: "field" for name in cls.__members__}
    return out


def look():
    """What the module has, as JSON."""
    import pixii
    out = {"__version__": "value"}
    for name in pixii.__all__:
        value = getattr(pixii, name)
        if inspect.ismodule(value):
            continue
        if isinstance(value, type):
            out[name] = f"= {value.__name__}" if value.__name__ != name else members_of(value)
        else:
            out[name] = f"= {value.__name__}" if value.__name__ != name else of_module(value)
    print(json.dumps(out))


def stubbed():
    out = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ClassDef):
            members = {}
            for one in node.body:
                if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    decorators = [ast.unparse(decorator) for decorator in one.decorator_list]
                    members[one.name] = "property" if "property" in decorators else list(of_stub(one))
                elif isinstance(one, (ast.AnnAssign, ast.Assign)):
                    members[ast.unparse(one.target if isinstance(one, ast.AnnAssign) else one.targets[0])] = "field"
            out[node.name] = members
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            out[node.name] = list(of_stub(node))
        elif isinstance(node, ast.Assign):
            out[node.targets[0].id] = f"= {ast.unparse(node.value)}"
        elif isinstance(node, ast.AnnAssign):
            out[node.target.id] = "value"
    return out


@unittest.skipUnless(python_cluster.BUILT, python_cluster.WHY_NOT)
class Stubs(unittest.TestCase):
    # Of the stub alone: what parameters are.
    OWN = {"Tokens", "LogitsProcessor", "Handler", "__all__"}

    def test_every_public_name_has_one_that_agrees(self):
        done = python_cluster.run("-c", LOOK, harness.ROOT / "tests/e2e")
        self.assertEqual(done.returncode, 0, done.stderr)
        has, says = json.loads(done.stdout), stubbed()
        self.assertEqual(sorted(set(says) - self.OWN), sorted(has))
        for name, what in has.items():
            if not isinstance(what, dict):
                self.assertEqual(says[name], what, name)
                continue
            # The stub may name attributes besides, which only an object has.
            fields = {member for member, kind in says[name].items() if kind == "field"} - set(what)
            self.assertEqual({k: v for k, v in says[name].items() if k not in fields}, what, name)


if __name__ == "__main__":
    harness.main()
