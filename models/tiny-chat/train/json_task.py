"""Answers in JSON: data taken from a text, in the shape that a schema or a list of keys asks for."""

import json

from facts import PERSON, THING, capital, value_of
from source import SAY, Wordings
from words import HOBBIES, NOUNS, PERSONS, PRODUCTS

BY_KEYS = Wordings(
    "Give me JSON with the keys {keys}.\n\n{text}", "Extract {keys} as JSON.\n\n{text}", "Text: {text}\n\nAnswer with a JSON object with the keys {keys}.",
    "Turn this text into JSON with the keys {keys}: {text}", "{text}\n\nWrite this as JSON with the keys {keys}.", "Extract as JSON ({keys}): {text}",
    "Write JSON with the keys {keys}.\n\nText: {text}", "{text}\n\nExtract {keys} as JSON.", "Text: {text}\n\nGive me JSON with the keys {keys}.",
    "Write this text as JSON with the keys {keys}: {text}")
BY_SCHEMA = Wordings(
    "Answer with JSON for this schema:\n{schema}\n\n{text}", "{text}\n\nAnswer in JSON. Schema: {schema}", "Schema: {schema}\nText: {text}",
    "Extract the data from this text as JSON.\n\n{text}\n\nUse this schema:\n{schema}", "Fill this JSON schema from the text.\nSchema: {schema}\n\nText: {text}",
    "Use this JSON schema:\n{schema}\n\n{text}", "Turn this text into JSON: {text}\n\nSchema: {schema}", "Text: {text}\nSchema: {schema}\nAnswer in JSON.",
    "Answer in JSON. Use this schema:\n{schema}\n\nText: {text}", "{text}\n\nExtract the data as JSON for this schema:\n{schema}")
MEMBER = (Wordings("{e} is a member of the club.", "{e} has joined the club.", "{e} is in the club.", "{e} is now a member of the club.", frames=SAY),
          Wordings("{e} is not a member of the club.", "{e} has left the club.", "{e} is not in the club.", "{e} is no member of the club.", frames=SAY))
LIKES = Wordings("{e} likes {v}.", "{e} enjoys {v}.", "The hobbies of {e} are {v}.", "{e} has the hobbies {v}.", frames=SAY)

# key names that stand for an attribute in JSON, and the JSON type of the value
PERSON_KEYS = {"town": ("town", "city", "home"), "job": ("job", "profession", "work"), "age": ("age", "years"), "pet": ("pet", "animal"), "colour": ("colour", "favourite_colour"),
               "food": ("food", "favourite_food"), "company": ("company", "employer"), "room": ("room", "office"), "code": ("code", "locker_code"), "birthday": ("birthday", "born"),
               "sister": ("sister",), "brother": ("brother",), "boss": ("boss",)}
THING_KEYS = {"price": ("price", "cost", "coins"), "weight": ("weight", "kilos"), "stock": ("stock", "pieces"), "shelf": ("shelf",), "material": ("material",), "maker": ("maker", "company")}


def _listed(items):
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _record(src, keys, person, noise):
    """(sentences, object) for one entity and the chosen keys, {attribute: key name}."""
    table = PERSON if person else THING
    entity = src.name(PERSONS) if person else f"the {src.name(NOUNS)} {src.choice(PRODUCTS)}"
    sentences, record = [], {}
    for name, key in keys.items():
        if name == "name":
            record[key] = entity if person else entity[4:]
        elif name == "member":
            record[key] = src.chance(0.5)
            sentences.append(src.pick(MEMBER[0 if record[key] else 1]).format(e=entity))
        elif name == "hobbies":
            record[key] = src.sample(HOBBIES, src.between(1, 3))
            sentences.append(src.pick(LIKES).format(e=entity, v=_listed(record[key])))
        elif src.chance(0.07):
            record[key] = None
        else:
            record[key] = value_of(src, table[name].kind)
            sentences.append(capital(src.pick(table[name].says).format(e=entity, v=record[key])))
    for name in noise:
        sentences.append(capital(src.pick(table[name].says).format(e=entity, v=value_of(src, table[name].kind))))
    if not sentences:
        sentences.append(f"This is {entity}.")
    src.shuffle(sentences)
    return sentences, record


def _schema(src, keys, person):
    """A JSON schema for `keys`, now with more and now with fewer words."""
    table = PERSON if person else THING
    properties = {}
    for name, key in keys.items():
        if name == "member":
            kind = {"type": "boolean"}
        elif name == "hobbies":
            kind = {"type": "array", "items": {"type": "string"}}
        elif name != "name" and table[name].kind in ("age", "number2", "number3", "number4", "number5"):
            kind = {"type": "integer"}
        else:
            kind = {"type": "string"}
        properties[key] = kind
    schema = {"type": "object", "properties": properties}
    if src.chance(0.6):
        schema["required"] = list(properties)
    if src.chance(0.3):
        schema["additionalProperties"] = False
    return schema


def json_answer(src, thinking):
    person = src.chance(0.7)
    pool = PERSON_KEYS if person else THING_KEYS
    names = src.sample(list(pool), src.between(1, 4))
    noise = [name for name in src.sample(list(pool), 2) if name not in names] if src.chance(0.4) else []
    extra = ["name"] if src.chance(0.85) else []
    if person and src.chance(0.25):
        extra.append("member")
    if person and src.chance(0.25):
        extra.append("hobbies")
    names = extra + names
    if src.chance(0.4):
        src.shuffle(names)
    keys = {name: name if name not in pool else src.choice(pool[name]) for name in names}
    if src.chance(0.15):
        many = src.choice(("items", "list", "records"))
        records = [_record(src, keys, person, []) for _ in range(src.between(2, 3))]
        text = " ".join(" ".join(sentences) for sentences, _ in records)
        schema = {"type": "object", "properties": {many: {"type": "array", "items": _schema(src, keys, person)}}}
        prompt = src.pick(BY_SCHEMA).format(schema=json.dumps(schema), text=text)
        return prompt, json.dumps({many: [record for _, record in records]}), "The answer is JSON with a list."
    sentences, record = _record(src, keys, person, noise)
    text = (" " if src.chance(0.8) else "\n").join(sentences)
    if src.chance(0.45):
        prompt = src.pick(BY_KEYS).format(keys=_listed(list(keys.values())) if src.chance(0.5) else ", ".join(keys.values()), text=text)
    else:
        schema = _schema(src, keys, person)
        prompt = src.pick(BY_SCHEMA).format(schema=json.dumps(schema, indent=2 if src.chance(0.15) else None), text=text)
    return prompt, json.dumps(record), "The answer is JSON with the keys " + ", ".join(keys.values()) + "."
