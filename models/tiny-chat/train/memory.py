"""What the user tells about himself or asks to note, over many turns."""

from source import ASK, SAY, Wordings
from facts import value_of
from words import NOUNS, PLACES

UNTOLD = "You have not told me."


class Memo:
    def __init__(self, kind, says, asks, fact):
        self.kind = kind
        self.says = Wordings(*says, frames=SAY)
        self.asks = Wordings(*asks, frames=ASK)
        self.fact = fact  # "your name is {v}"


def _named(word):
    return Memo("person",
                (f"My {word} is called {{v}}.", f"I have a {word} called {{v}}.", f"The name of my {word} is {{v}}.",
                 f"My {word}'s name is {{v}}.", f"{{v}} is my {word}.", f"{{v}} is the name of my {word}."),
                (f"What is the name of my {word}?", f"How is my {word} called?", f"Who is my {word}?", f"What is my {word} called?",
                 f"Do you remember the name of my {word}?", f"What is my {word}'s name?", f"Tell me the name of my {word}.",
                 f"Do you remember my {word}'s name?"),
                f"your {word} is called {{v}}")


MEMOS = {
    "name": Memo("person",
                 ("My name is {v}.", "I am {v}.", "I am called {v}.", "You can call me {v}.", "Call me {v}.", "Hello, my name is {v}.",
                  "Hi, I am {v}.", "They call me {v}.", "Hello, I am {v}.", "Please call me {v}."),
                 ("What is my name?", "Who am I?", "Do you remember my name?", "How am I called?", "Do you know my name?", "What's my name?",
                  "Tell me my name.", "What did I say my name is?", "Do you still know my name?", "Can you tell me my name?", "Do you know who I am?"),
                 "your name is {v}"),
    "town": Memo("town",
                 ("I live in {v}.", "My home town is {v}.", "I have a house in {v}.", "My home is in {v}.", "I live in the town of {v}.", "The town where I live is {v}."),
                 ("Where do I live?", "In which town do I live?", "What is my home town?", "Do you remember where I live?", "Which town do I live in?",
                  "Tell me where I live.", "Do you know where I live?", "Where is my home?"),
                 "you live in {v}"),
    "job": Memo("job",
                ("I work as a {v}.", "I am a {v} by trade.", "My job is {v}.", "I earn my money as a {v}.", "I have a job as a {v}."),
                ("What is my job?", "What do I work as?", "Do you remember my job?", "Which job do I have?", "Tell me my job.", "What job do I have?", "Tell me what I work as."),
                "you work as a {v}"),
    "age": Memo("age",
                ("I am {v} years old.", "My age is {v}.", "I turned {v} this year.", "I am {v} years of age.", "This year I am {v} years old."),
                ("How old am I?", "What is my age?", "Do you remember my age?", "Do you remember how old I am?", "Tell me my age.", "Tell me how old I am.", "Do you know my age?"),
                "you are {v} years old"),
    "colour": Memo("colour",
                   ("My favourite colour is {v}.", "I like {v} best of all colours.", "The colour I like best is {v}.", "{v} is my favourite colour.", "Of all colours I like {v} best."),
                   ("What is my favourite colour?", "Which colour do I like best?", "What colour do I like best?", "Do you remember my favourite colour?",
                    "Tell me my favourite colour.", "Tell me which colour I like best.", "Do you know my favourite colour?"),
                   "your favourite colour is {v}"),
    "food": Memo("food",
                 ("My favourite food is {v}.", "I like to eat {v}.", "I eat {v} every day.", "The food I like best is {v}.", "{v} is my favourite food."),
                 ("What is my favourite food?", "What do I like to eat?", "Which food do I like best?", "Do you remember my favourite food?", "Tell me my favourite food.",
                  "Tell me what I like to eat.", "Do you know my favourite food?"),
                 "your favourite food is {v}"),
    "hobby": Memo("hobby",
                  ("My hobby is {v}.", "I love {v}.", "I enjoy {v} in the evening.", "As a hobby I like {v}.", "In the evening I enjoy {v}."),
                  ("What is my hobby?", "Which hobby do I have?", "What do I enjoy?", "Do you remember my hobby?", "Tell me my hobby.", "What hobby do I have?", "Do you know my hobby?"),
                  "your hobby is {v}"),
    "company": Memo("company",
                    ("I work for {v}.", "I work at {v}.", "My employer is {v}.", "I am employed by {v}.", "The company I work for is {v}."),
                    ("Where do I work?", "Which company do I work for?", "Who is my employer?", "Do you remember my employer?", "Who do I work for?", "Tell me my employer.",
                     "For which company do I work?", "Tell me which company I work for."),
                    "you work for {v}"),
    "number": Memo("number2",
                   ("My lucky number is {v}.", "My favourite number is {v}.", "{v} is my lucky number.", "The number I like best is {v}.", "{v} is my favourite number."),
                   ("What is my lucky number?", "What is my favourite number?", "Which number do I like best?", "Do you remember my lucky number?", "Tell me my lucky number.",
                    "Tell me my favourite number.", "Do you remember my favourite number?"),
                   "your lucky number is {v}"),
    "code": Memo("number5",
                 ("My locker code is {v}.", "The code of my locker is {v}.", "Remember my locker code: {v}.", "I use the locker code {v}.", "Please remember my locker code {v}."),
                 ("What is my locker code?", "What is the code of my locker?", "Which code opens my locker?", "Do you remember my locker code?", "Tell me my locker code.",
                  "Tell me the code of my locker.", "Do you remember the code of my locker?"),
                 "your locker code is {v}"),
    "room": Memo("number3",
                 ("My room is {v}.", "I am in room {v}.", "I sit in room {v}.", "My room number is {v}.", "The number of my room is {v}."),
                 ("What is my room?", "Which room am I in?", "In which room do I sit?", "What is my room number?", "Tell me my room.", "Tell me my room number.", "Do you remember my room?"),
                 "your room is {v}"),
    "birthday": Memo("date",
                     ("My birthday is {v}.", "I was born on {v}.", "My birthday is on {v}.", "I have my birthday on {v}.", "On {v} is my birthday."),
                     ("When is my birthday?", "When was I born?", "What is my birthday?", "Do you remember my birthday?", "Tell me my birthday.", "Tell me when I was born.", "Do you know when my birthday is?"),
                     "your birthday is {v}"),
    "password": Memo("noun",
                     ("The password is {v}.", "The secret word is {v}.", "Remember the word {v}.", "Please remember the word {v}.", "Keep the secret word {v} in mind.",
                      "Remember the password {v}."),
                     ("What is the password?", "What is the secret word?", "Which word should you remember?", "Do you remember the password?", "Tell me the password.",
                      "Which word did I tell you?", "Tell me the secret word.", "Do you remember the secret word?"),
                     "the word is {v}"),
    **{word: _named(word) for word in ("cat", "dog", "sister", "brother", "boss", "friend", "neighbour", "horse", "teacher", "daughter", "son")},
}
NOTE_SAYS = Wordings("Remember: the key of the {n} is {v}.", "Note that the key of the {n} is {v}.", "Please remember that the key of the {n} is {v}.", "The key of the {n} is {v}.",
                     "Keep in mind: the key of the {n} is {v}.", "Please note: the key of the {n} is {v}.", "Remember that the key of the {n} is {v}.", frames=SAY)
NOTE_ASKS = Wordings("What is the key of the {n}?", "Which key has the {n}?", "Do you remember the key of the {n}?", "Tell me the key of the {n}.", "What key has the {n}?",
                     "Can you tell me the key of the {n}?", "Give me the key of the {n}.", frames=ASK)
PLACE_SAYS = Wordings("The {n} is in the {p}.", "I put the {n} in the {p}.", "Remember that the {n} is in the {p}.", "I left the {n} in the {p}.", "Note that the {n} is in the {p}.",
                      "Please remember: the {n} is in the {p}.", frames=SAY)
PLACE_ASKS = Wordings("Where is the {n}?", "Where did I put the {n}?", "Do you remember where the {n} is?", "Where did I leave the {n}?", "Tell me where the {n} is.",
                      "Can you tell me where the {n} is?", "Do you know where the {n} is?", frames=ASK)
UPDATE = Wordings("Correction: {s}", "No, wait. {s}", "That has changed. {s}", "I was wrong. {s}", "Sorry, I made a mistake. {s}", "That was wrong. {s}", "I made a mistake. {s}")


class Memory:
    """What the user has told in one conversation: states, corrects and asks."""

    def __init__(self, src):
        self.src = src
        self.told = {}  # memo name or ("key", noun) -> value

    def _sentence(self, name, value):
        """What was told, as the model says it back."""
        if isinstance(name, tuple):
            kind, noun = name
            return f"the key of the {noun} is {value}" if kind == "key" else f"the {noun} is in the {value}"
        return MEMOS[name].fact.format(v=value)

    def _new(self):
        src = self.src
        if src.chance(0.25):
            name = ("key" if src.chance(0.5) else "place", src.name(NOUNS))
            value = src.number(10, 9999) if name[0] == "key" else src.choice(PLACES)
            says = NOTE_SAYS if name[0] == "key" else PLACE_SAYS
            text = src.pick(says).format(n=name[1], v=value, p=value)
        else:
            name = src.choice(list(MEMOS))
            value = value_of(src, MEMOS[name].kind)
            text = src.pick(MEMOS[name].says).format(v=value)
            text = text[0].upper() + text[1:]
        return name, value, text

    def tell(self):
        src = self.src
        name, value, text = self._new()
        if name in self.told:
            if src.chance(0.5):
                return self.ask()
            text = src.pick(UPDATE).format(s=text)
        self.told.pop(name, None)
        self.told[name] = value
        facts = self._sentence(name, value)
        if src.chance(0.2):
            name2, value2, text2 = self._new()
            if name2 not in self.told:
                self.told[name2] = value2
                text += " " + text2
                facts += ", and " + self._sentence(name2, value2)
        if name == "name" and facts.count(",") == 0:
            return text, f"Nice to meet you, {value}.", "The user tells me a name."
        return text, f"I will remember: {facts}.", "The user tells me something to remember."

    def ask(self):
        src = self.src
        if not self.told or src.chance(0.1):
            missing = [name for name in MEMOS if name not in self.told]
            if missing:
                return src.pick(MEMOS[src.choice(missing)].asks), UNTOLD, "I look back and do not find it."
        if not self.told:
            return self.tell()
        names = list(self.told)
        name = names[0] if src.chance(0.3) else src.choice(names)
        value = self.told[name]
        if isinstance(name, tuple):
            text = src.pick(NOTE_ASKS if name[0] == "key" else PLACE_ASKS).format(n=name[1])
        else:
            text = src.pick(MEMOS[name].asks)
        sentence = self._sentence(name, value)
        return text, sentence[0].upper() + sentence[1:] + ".", "The user told me this before."
