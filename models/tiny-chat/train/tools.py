"""Choosing among tools, calling one or several, and answering from their replies.

Half of the tools are everyday ones under several names; half are about invented nouns, so that the
model must read the list instead of knowing it.
"""

import json

from facts import value_of
from source import ASK, Wordings
from words import CONDITIONS, LANGUAGES, NOUNS, PERSONS, PLACES, TOWNS, WORDS

TOOLS_MAX = 8
NO_TOOL = "I have no tool for that."

REPLY_ERRORS = ("not found", "timeout", "access denied", "no data", "invalid input", "service down")


class Tool:
    """One tool of one conversation."""

    def __init__(self, name, about, params, asks, reply, answer, words=None):
        self.name = name
        self.about = about
        self.params = params      # name -> (kind of value, what it is)
        self.asks = asks          # Wordings with {parameter} in them
        self.reply = reply        # name -> kind of value
        self.answer = answer      # with {parameter} and {reply} in it
        self.words = words        # fills the wordings of invented tools first


# (names, description, parameters, asks, reply, answer)
EVERYDAY = [
    (("get_weather", "current_weather", "weather", "fetch_weather"), "Get the weather of a town.", {"town": ("town", "The town")},
     Wordings("What is the weather in {town}?", "How is the weather in {town}?", "Weather in {town}, please.", "Tell me the weather in {town}.", "What is the weather like in {town}?",
              "Is it sunny in {town}?", "How is the weather in {town} now?", "Tell me how the weather is in {town}.", "Can you check the weather in {town}?", frames=ASK),
     {"condition": "condition", "temperature": "degrees"}, "In {town} it is {condition} at {temperature} degrees."),
    (("get_time", "current_time", "clock", "local_time"), "Get the local time of a town.", {"town": ("town", "Name of the town")},
     Wordings("What time is it in {town}?", "How late is it in {town}?", "Tell me the time in {town}.", "What is the local time in {town}?", "Local time in {town}, please.",
              "What is the time in {town}?", "Can you tell me the time in {town}?", frames=ASK),
     {"time": "time"}, "In {town} it is {time}."),
    (("get_population", "population", "count_people"), "Get the number of people in a town.", {"town": ("town", "The town")},
     Wordings("How many people live in {town}?", "What is the population of {town}?", "Tell me the population of {town}.", "How large is the population of {town}?",
              "Tell me how many people live in {town}.", "Can you tell me the population of {town}?", frames=ASK),
     {"people": "number5"}, "{people} people live in {town}."),
    (("get_distance", "distance", "measure_route"), "Get the distance between two towns.", {"start": ("town", "First town"), "end": ("town", "Second town")},
     Wordings("How far is it from {start} to {end}?", "What is the distance from {start} to {end}?", "Tell me the distance between {start} and {end}.", "How many kilometres is it from {start} to {end}?",
              "How far is {start} from {end}?", "Tell me how far it is from {start} to {end}.", frames=ASK),
     {"kilometres": "number3"}, "It is {kilometres} kilometres from {start} to {end}."),
    (("send_email", "send_mail", "mail", "write_email"), "Send an email to a person.", {"to": ("person", "Who receives it"), "subject": ("noun", "The subject")},
     Wordings("Send an email to {to} about {subject}.", "Write {to} an email about {subject}.", "Email {to} about {subject}.", "Please send {to} an email with the subject {subject}.",
              "Send {to} an email about {subject}.", "Please email {to} about {subject}.", frames=ASK),
     {"status": "sent"}, "The email to {to} about {subject} is {status}."),
    (("send_message", "text_person", "message"), "Send a short message to a person.", {"to": ("person", "Who receives it"), "text": ("word", "The message")},
     Wordings("Send {to} the message {text}.", "Message {to}: {text}", "Tell {to} this: {text}", "Send the message {text} to {to}.", "Please send {to} this message: {text}", frames=ASK),
     {"status": "sent"}, "The message to {to} is {status}."),
    (("set_alarm", "create_alarm", "alarm"), "Set an alarm clock.", {"time": ("time", "When it rings")},
     Wordings("Set an alarm for {time}.", "Wake me at {time}.", "Please set an alarm at {time}.", "I need an alarm at {time}.", "Set the alarm to {time}.", "Can you set an alarm for {time}?", "Please wake me at {time}.", frames=ASK),
     {"status": "set"}, "The alarm for {time} is {status}."),
    (("translate", "translate_text", "translation"), "Translate a word into another language.", {"text": ("word", "The word"), "language": ("language", "The language")},
     Wordings("Translate {text} into {language}.", "What is {text} in {language}?", "How do you say {text} in {language}?", "Please translate {text} into {language}.", "Say {text} in {language}.",
              "What does {text} mean in {language}?", "Can you translate {text} into {language}?", frames=ASK),
     {"translation": "noun"}, "In {language}, {text} is {translation}."),
    (("get_stock", "check_stock", "stock_level"), "Get how many pieces of an article are in stock.", {"article": ("word", "The article")},
     Wordings("How many pieces of {article} are in stock?", "What is the stock of {article}?", "Check the stock of {article}.", "How much {article} do we have in stock?", "Tell me the stock of {article}.",
              "Can you check the stock of {article}?", frames=ASK),
     {"pieces": "number3"}, "There are {pieces} pieces of {article} in stock."),
    (("get_price", "price_of", "look_up_price"), "Get the price of an article.", {"article": ("word", "The article")},
     Wordings("How much is the {article}?", "What is the price of the {article}?", "What does the {article} cost?", "Tell me the price of the {article}.", "How much does the {article} cost?",
              "Look up the price of the {article}.", "Tell me how much the {article} costs.", "Can you look up the price of the {article}?", frames=ASK),
     {"coins": "number3"}, "The {article} costs {coins} coins."),
    (("find_order", "get_order", "order_status", "track_order"), "Get the status of an order.", {"order_id": ("number5", "Number of the order")},
     Wordings("Where is my order {order_id}?", "What is the status of order {order_id}?", "Check order {order_id}.", "Tell me the status of order {order_id}.", "Track my order {order_id}.",
              "Can you check order {order_id}?", "Tell me where my order {order_id} is.", frames=ASK),
     {"status": "status"}, "Order {order_id} is {status}."),
    (("cancel_order", "stop_order"), "Cancel an order.", {"order_id": ("number5", "Number of the order")},
     Wordings("Cancel order {order_id}.", "Please cancel my order {order_id}.", "I want to cancel order {order_id}.", "Stop order {order_id}.", "Can you cancel order {order_id}?", "I want you to cancel my order {order_id}.", frames=ASK),
     {"status": "cancelled"}, "Order {order_id} is {status}."),
    (("get_balance", "balance", "account_balance"), "Get the balance of an account.", {"account": ("number5", "Number of the account")},
     Wordings("What is the balance of account {account}?", "How many coins are in account {account}?", "Check the balance of account {account}.", "Tell me the balance of account {account}.",
              "How many coins has account {account}?", "Can you check the balance of account {account}?", frames=ASK),
     {"coins": "number4"}, "Account {account} holds {coins} coins."),
    (("transfer", "send_money", "transfer_money"), "Send coins to a person.", {"to": ("person", "Who receives the coins"), "amount": ("number3", "How many coins")},
     Wordings("Send {amount} coins to {to}.", "Transfer {amount} coins to {to}.", "Pay {to} {amount} coins.", "Please send {to} {amount} coins.", "Send {to} {amount} coins.", "Can you transfer {amount} coins to {to}?", frames=ASK),
     {"status": "done"}, "The transfer of {amount} coins to {to} is {status}."),
    (("light_on", "turn_on_light", "switch_on_light"), "Turn on the light in a room.", {"room": ("place", "The room")},
     Wordings("Turn on the light in the {room}.", "Switch on the light in the {room}.", "Light on in the {room}, please.", "Make light in the {room}.", "Please turn on the light in the {room}.",
              "Can you switch on the light in the {room}?", frames=ASK),
     {"status": "on"}, "The light in the {room} is {status}."),
    (("light_off", "turn_off_light", "switch_off_light"), "Turn off the light in a room.", {"room": ("place", "The room")},
     Wordings("Turn off the light in the {room}.", "Switch off the light in the {room}.", "Light off in the {room}, please.", "Make the {room} dark.", "Please turn off the light in the {room}.",
              "Can you switch off the light in the {room}?", frames=ASK),
     {"status": "off"}, "The light in the {room} is {status}."),
    (("find_person", "get_phone", "phone_book", "look_up_person"), "Get the phone number of a person.", {"name": ("person", "Name of the person")},
     Wordings("What is the phone number of {name}?", "Look up the number of {name}.", "How can I call {name}?", "Tell me the phone number of {name}.", "Find the phone number of {name}.",
              "Can you look up the phone number of {name}?", "I need the phone number of {name}.", frames=ASK),
     {"phone": "number5"}, "The phone number of {name} is {phone}."),
    (("book_table", "reserve_table", "book_restaurant"), "Book a table in a restaurant.", {"town": ("town", "The town"), "guests": ("small", "Number of guests"), "time": ("time", "The time")},
     Wordings("Book a table for {guests} in {town} at {time}.", "Reserve a table in {town} at {time} for {guests} guests.", "I need a table for {guests} in {town} at {time}.",
              "Please book a table for {guests} guests at {time} in {town}.", "Please reserve a table for {guests} in {town} at {time}.", frames=ASK),
     {"status": "booked"}, "The table for {guests} in {town} at {time} is {status}."),
    (("play_song", "play_music", "play"), "Play a song.", {"song": ("noun", "The song")},
     Wordings("Play the song {song}.", "I want to hear {song}.", "Please play {song}.", "Play {song}, please.", "Can you play the song {song}?", "I want to hear the song {song}.", frames=ASK),
     {"status": "playing"}, "The song {song} is {status}."),
    (("calculate", "calculator", "compute"), "Calculate with two numbers.", {"a": ("number4", "First number"), "operation": ("operation", "add, subtract or multiply"), "b": ("number4", "Second number")},
     Wordings("Calculate {a} {operation} {b} with the tool.", "Use the calculator: {a} {operation} {b}.", "Let the tool compute {a} {operation} {b}.", "With the calculator, what is {a} {operation} {b}?",
              "Let the calculator compute {a} {operation} {b}.", frames=ASK),
     {"result": "number5"}, "The result is {result}."),
    (("create_note", "add_note", "save_note"), "Save a note.", {"text": ("noun", "The note")},
     Wordings("Save a note: {text}.", "Make a note with the text {text}.", "Note this: {text}.", "Please save the note {text}.", "Please make a note: {text}.", "Save this note: {text}.", frames=ASK),
     {"note_id": "number3"}, "The note is saved with the number {note_id}."),
    (("delete_file", "remove_file", "erase_file"), "Delete a file.", {"file": ("file", "Name of the file")},
     Wordings("Delete the file {file}.", "Remove {file}.", "Please delete {file}.", "I do not need the file {file} any more, delete it.", "Can you delete the file {file}?", "Please remove the file {file}.", frames=ASK),
     {"status": "deleted"}, "The file {file} is {status}."),
    (("read_file", "open_file", "show_file"), "Read the first word of a file.", {"file": ("file", "Name of the file")},
     Wordings("What is in the file {file}?", "Read {file}.", "Open the file {file}.", "Show me {file}.", "Please read the file {file}.", "Can you open the file {file}?", "Show me the file {file}.", frames=ASK),
     {"content": "noun"}, "The file {file} contains {content}."),
]
WORDY = {"sent": ("sent", "queued"), "set": ("set",), "status": ("on its way", "packed", "delivered", "lost", "waiting"), "cancelled": ("cancelled",), "done": ("done", "waiting"), "on": ("on",),
         "off": ("off",), "booked": ("booked",), "playing": ("playing",), "deleted": ("deleted",), "condition": CONDITIONS, "word": WORDS, "language": LANGUAGES, "place": PLACES}
PROPERTIES = {"level": "number3", "status": "condition", "price": "number3", "owner": "person", "size": "number2", "weight": "number3", "colour": "colour", "town": "town", "age": "number2",
              "speed": "number3", "key": "number4", "name": "noun"}
ACTIONS = {"start": "started", "stop": "stopped", "open": "opened", "close": "closed", "lock": "locked", "reset": "reset", "delete": "deleted", "check": "checked", "clean": "cleaned", "repair": "repaired"}
READ_ASKS = Wordings("What is the {p} of the {n} {{{i}}}?", "Tell me the {p} of the {n} {{{i}}}.", "Get the {p} of {n} {{{i}}}.", "Which {p} has the {n} {{{i}}}?", "I need the {p} of the {n} {{{i}}}.",
             "Show me the {p} of {n} {{{i}}}.", "What {p} has the {n} {{{i}}}?", "Can you get the {p} of the {n} {{{i}}}?", "Can you tell me the {p} of {n} {{{i}}}?", frames=ASK)
ACT_ASKS = Wordings("{A} the {n} {{{i}}}.", "Please {a} the {n} {{{i}}}.", "I want you to {a} the {n} {{{i}}}.", "{A} {n} {{{i}}}, please.", "The {n} {{{i}}}: {a} it.", "Can you {a} the {n} {{{i}}}?",
            "Please {a} {n} {{{i}}}.", frames=ASK)
READ_NAMES = ("get_{n}_{p}", "{n}_{p}", "read_{n}_{p}", "{p}_of_{n}", "find_{n}_{p}", "show_{n}_{p}", "query_{n}_{p}", "{n}_{p}_lookup", "get_{p}_of_{n}", "fetch_{n}_{p}")
ACT_NAMES = ("{a}_{n}", "{a}_{n}", "{n}_{a}", "do_{a}_{n}", "{a}_one_{n}", "request_{n}_{a}")
JOIN = Wordings("{x} {y}", "{x} And {z}", "{x} Also: {y}", "First: {x} Then: {y}", "1. {x} 2. {y}", "{x} Then {z}", "{x} And then: {y}")
JOIN_SAME = Wordings("{x} And for {v}?", "{x} And what about {v}?", "{x} The same for {v}.", "{x} The same for {v}, please.", "{x} Also for {v}.")


def _value(src, kind):
    if kind in WORDY:
        return src.choice(WORDY[kind])
    if kind == "degrees":
        return src.between(-15, 39)
    if kind == "small":
        return src.between(2, 12)
    if kind == "operation":
        return src.choice(("plus", "minus", "times"))
    if kind == "file":
        return src.name(NOUNS) + src.choice((".txt", ".json", ".log", ".md"))
    return value_of(src, kind)


def _argument(name, value):
    return {"plus": "add", "minus": "subtract", "times": "multiply"}.get(value, value) if name == "operation" else value


def _camel(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _invented(src, noun):
    """A tool about an invented noun: it reads one property, or does one thing."""
    key = src.choice(("id", "name", "zone", "unit", "number"))
    kind = "number4" if key in ("id", "number") else src.choice(("person", "town", "number3"))
    if src.chance(0.65):
        prop = src.choice(list(PROPERTIES))
        name = src.choice(READ_NAMES).format(n=noun, p=prop)
        return Tool(name, f"Get the {prop} of a {noun}.", {key: (kind, f"The {noun}")}, READ_ASKS, {prop: PROPERTIES[prop]},
                    f"The {prop} of the {noun} {{{key}}} is {{{prop}_}}.", {"p": prop, "n": noun, "i": key})
    act = src.choice(list(ACTIONS))
    name = src.choice(ACT_NAMES).format(n=noun, a=act)
    return Tool(name, f"{act.capitalize()} a {noun}.", {key: (kind, f"The {noun}")}, ACT_ASKS, {"status": "done"},
                f"The {noun} {{{key}}} is {ACTIONS[act]}: {{status_}}.", {"a": act, "A": act.capitalize(), "n": noun, "i": key})


def tool_set(src):
    """1 .. TOOLS_MAX different tools."""
    count = src.between(1, TOOLS_MAX)
    everyday = src.choice((0, 0.5, 0.5, 1))
    nouns = src.names(NOUNS, 1 if src.chance(0.4) else 8)
    tools, seen = [], set()
    while len(tools) < count:
        if src.chance(everyday):
            names, about, params, asks, reply, answer = src.choice(EVERYDAY)
            for field in reply:
                answer = answer.replace("{" + field + "}", "{" + field + "_}")
            tool = Tool(src.choice(names), about, params, asks, reply, answer)
        else:
            tool = _invented(src, src.choice(nouns))
        if tool.about not in seen and tool.name not in {t.name for t in tools}:
            seen.add(tool.about)
            tools.append(tool)
    if src.chance(0.12):
        for tool in tools:
            tool.name = _camel(tool.name)
    return tools


NUMERIC = ("number2", "number3", "number4", "number5", "small")


def schema(src, tools):
    """The tools as a request gives them, now with more and now with fewer words."""
    described, required, strict = src.chance(0.6), src.chance(0.85), src.chance(0.1)
    out = []
    for tool in tools:
        properties = {}
        for name, (kind, about) in tool.params.items():
            properties[name] = {"type": "integer" if kind in NUMERIC else "string"}
            if described:
                properties[name]["description"] = about
        parameters = {"type": "object", "properties": properties}
        if required:
            parameters["required"] = list(tool.params)
        function = {"name": tool.name, "description": tool.about, "parameters": parameters}
        if strict:
            function["strict"] = True
        out.append({"type": "function", "function": function})
    return out


class Use:
    """One call of one tool: what the user says, the call, the reply, and what the model says then."""

    def __init__(self, src, tool):
        self.tool = tool
        said = {name: _value(src, kind) for name, (kind, _) in tool.params.items()}
        self.said = said
        text = src.pick(tool.asks)
        self.ask = (text.format(**tool.words) if tool.words else text).format(**said)
        self.call = {"name": tool.name, "arguments": {name: _argument(name, value) for name, value in said.items()}}
        if src.chance(0.07):
            error = src.choice(REPLY_ERRORS)
            self.reply = json.dumps({"error": error})
            self.answer = f"The tool {tool.name} says: {error}."
            return
        reply = {name: _value(src, kind) for name, kind in tool.reply.items()}
        self.answer = tool.answer.format(**said, **{name + "_": value for name, value in reply.items()})
        if src.chance(0.15):
            reply[src.choice(("id", "took_ms", "version"))] = src.between(1, 99)
        self.reply = json.dumps(reply)


def uses(src, tools):
    """What the user wants done in one turn: (text, [Use])."""
    first = Use(src, src.choice(tools))
    if src.chance(0.65):
        return first.ask, [first]
    if src.chance(0.4) and len(first.tool.params) == 1:
        second = Use(src, first.tool)
        (value,) = second.said.values()
        old = str(list(first.said.values())[0])
        if value != list(first.said.values())[0]:
            end = first.ask[-1] if first.ask[-1] in ".?" else ""
            base = first.ask[:len(first.ask) - len(end)]
            if base.endswith(" " + old) and src.chance(0.5):
                link = base[:-len(old) - 1].split(" ")[-1]  # the word before the value, often "in" or "of"
                return base + src.choice((f" and {link} {value}", f" and {value}", f" and also {link} {value}")) + end, [first, second]
            return src.pick(JOIN_SAME).format(x=first.ask, v=value), [first, second]
    text, found = first.ask, [first]
    for _ in range(src.weighted(((1, 4), (2, 1)))):
        use = Use(src, src.choice(tools))
        if use.call not in [u.call for u in found]:
            found.append(use)
            text = src.pick(JOIN).format(x=text, y=use.ask, z=use.ask[0].lower() + use.ask[1:])
    return text, found


def missing(src, tools):
    """Something that none of the tools can do."""
    while True:
        other = src.choice(tool_set(src))
        if other.about not in {tool.about for tool in tools}:
            return Use(src, other).ask
