"""What the last token of a prompt asks of tests/e2e/hostile_worker.py, which imports what this script's python3 may not have."""
import ast
import pathlib

_tree = ast.parse((pathlib.Path(__file__).parent / "hostile_worker.py").read_text())
for _node in _tree.body:
    if isinstance(_node, ast.Assign):
        _scope = {}
        exec(compile(ast.Module([_node], []), "hostile_worker.py", "exec"), _scope)  # numbers and nothing else
        globals().update({name: value for name, value in _scope.items() if name.isupper()})
