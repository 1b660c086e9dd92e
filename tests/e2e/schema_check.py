"""A small judge of JSON values against JSON schemas, for tests: what the generated schemas here use and no more."""
import re


def kind_is(value, name):
    if name == "null":
        return value is None
    if name == "boolean":
        return isinstance(value, bool)
    if name == "string":
        return isinstance(value, str)
    if name == "array":
        return isinstance(value, list)
    if name == "object":
        return isinstance(value, dict)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and (name == "number" or value == int(value))


def same(a, b):
    """Equal as JSON: true is not 1."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def valid(value, schema, root=None):
    root = root or schema
    known = {"$defs", "$ref", "type", "enum", "const", "anyOf", "properties", "required", "additionalProperties", "items",
             "minItems", "maxItems", "minLength", "maxLength", "pattern", "minimum", "maximum", "description", "uniqueItems"}
    assert not set(schema) - known, set(schema) - known
    if "$ref" in schema:
        return valid(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    checks = [not kinds or any(kind_is(value, kind) for kind in kinds),
              "enum" not in schema or any(same(value, item) for item in schema["enum"]),
              "const" not in schema or same(value, schema["const"]),
              "anyOf" not in schema or any(valid(value, way, root) for way in schema["anyOf"])]
    if isinstance(value, str):
        checks += [schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)),
                   re.search(schema.get("pattern", ""), value) is not None]
    if kind_is(value, "number"):
        checks += [schema.get("minimum", value) <= value <= schema.get("maximum", value)]
    if isinstance(value, list):
        checks += [schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)),
                   not schema.get("uniqueItems") or len({repr(item) for item in value}) == len(value)]
        checks += [valid(item, schema["items"], root) for item in value if "items" in schema]
    if isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        checks += [set(schema.get("required", [])) <= set(value), more is not False or set(value) <= set(properties)]
        checks += [valid(item, properties[name], root) for name, item in value.items() if name in properties]
        if isinstance(more, dict):
            checks += [valid(item, more, root) for name, item in value.items() if name not in properties]
    return all(checks)
