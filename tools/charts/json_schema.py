"""JSON Schema as far as the chart's values.schema.json has it: an unknown keyword is an error, not a leniency."""
import re

KNOWN = {"$schema", "$defs", "$ref", "type", "properties", "additionalProperties", "required", "enum", "minimum", "maximum", "pattern", "items",
         "minLength", "propertyNames", "description"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_type(value, name):
    if name in ("integer", "number"):
        return isinstance(value, (int, float) if name == "number" else int) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def problems(value, schema, at="", root=None):
    root = root or schema
    if unknown := set(schema) - KNOWN:
        raise ValueError(f"the schema has {sorted(unknown)}, which is not done here")
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], at, root)
    out = []
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(is_type(value, name) for name in names):
        return [f"{at or 'values'}: {value!r} is no {' or '.join(names)}"]
    if "enum" in schema and value not in schema["enum"]:
        out.append(f"{at}: {value!r} is none of {', '.join(map(str, schema['enum']))}")
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            out.append(f"{at}: {value!r} is not of the form {schema['pattern']}")
        if len(value) < schema.get("minLength", 0):
            out.append(f"{at}: is empty")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            out.append(f"{at}: {value} is not in [{schema.get('minimum', '')}, {schema.get('maximum', '')}]")
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            out += problems(item, schema["items"], f"{at}[{number}]", root)
    if isinstance(value, dict):
        out += [f"{at}.{name}: is missing".lstrip(".") for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            where = f"{at}.{name}".lstrip(".")
            if "propertyNames" in schema:
                out += problems(name, schema["propertyNames"], where, root)
            known = schema.get("properties", {})
            rest = schema.get("additionalProperties", True)
            if name in known:
                out += problems(item, known[name], where, root)
            elif rest is False:
                out.append(f"{where}: there is no such value")
            elif rest is not True:
                out += problems(item, rest, where, root)
    return out
