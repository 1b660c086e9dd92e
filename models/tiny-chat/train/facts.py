"""Documents of invented facts, and questions about them.

A fact is (entity, attribute, value). An attribute has statements (how documents say it), questions,
one canonical answer sentence, and sometimes reverse questions. Questions over two facts (a chain, a
comparison, a sum) are put together from these parts, and so are their answers: each answer first
repeats the facts that it rests on.
"""

from source import ASK, SAY, Wordings
from words import (COLOURS, COMPANIES, FOODS, HOBBIES, JOBS, MATERIALS, MONTHS, NOUNS, PERSONS, PETS,
                   PRODUCTS, TOWNS)

SILENT = "The text does not say."


def tokens_in(text):
    """About how many tokens `text` has, within a tenth: for sizes only, never for correctness."""
    digits = sum(map(text.count, "0123456789"))
    marks = sum(map(text.count, ".,:|-\n'"))
    return 0.247 * len(text) + 0.87 * digits + 0.57 * marks



class Attribute:
    def __init__(self, kind, label, says, asks, answer, reverse=None, phrase=None, compare=None):
        self.kind = kind          # what the value is: draws it, and tells where chains may lead
        self.label = label        # in records and tables
        self.says = Wordings(*says, frames=SAY)
        self.asks = Wordings(*asks, frames=ASK)
        self.answer = answer
        self.reverse = Wordings(*reverse, frames=ASK) if reverse else None
        self.phrase = phrase      # "the boss of {e}": names the value in a chain
        if compare:               # (which of two is more, "older", how much together)
            more, word, total = compare
            compare = (Wordings(*more, frames=ASK), word, Wordings(*total, frames=ASK) if total else None)
        self.compare = compare


def _relation(word):
    return Attribute(
        "person", word,
        (f"The {word} of {{e}} is {{v}}.", f"{{e}} has a {word} called {{v}}.", f"{{v}} is the {word} of {{e}}.",
         f"The {word} of {{e}} is called {{v}}.", f"{{v}} is known as the {word} of {{e}}."),
        (f"Who is the {word} of {{e}}?", f"What is the name of the {word} of {{e}}?", f"Who is {{e}}'s {word}?",
         f"Tell me the {word} of {{e}}.", f"Give me the name of the {word} of {{e}}.",
         f"Tell me the name of {{e}}'s {word}.", f"What is {{e}}'s {word} called?",
         f"Can you tell me who the {word} of {{e}} is?"),
        f"The {word} of {{e}} is {{v}}.",
        reverse=(f"Whose {word} is {{v}}?", f"{{v}} is the {word} of whom?", f"Of whom is {{v}} the {word}?",
                 f"Tell me whose {word} {{v}} is."),
        phrase=f"the {word} of {{e}}")


PERSON = {
    "town": Attribute(
        "town", "home town",
        ("{e} lives in {v}.", "The home of {e} is in {v}.", "{e} has a house in {v}.", "{e} moved to {v} years ago.",
         "You can visit {e} in {v}.", "{v} is the home town of {e}.", "{e} lives in the town of {v}.",
         "The house of {e} is in {v}."),
        ("Where does {e} live?", "In which town does {e} live?", "Which town does {e} live in?",
         "What is the home town of {e}?", "Where is the home of {e}?", "Tell me where {e} lives.",
         "Where can I visit {e}?", "Do you know where {e} lives?", "Tell me the home town of {e}.",
         "Where is the house of {e}?", "In what town does {e} live?"),
        "{e} lives in {v}.",
        reverse=("Who lives in {v}?", "Who has a home in {v}?", "Which person lives in {v}?",
                 "Tell me who lives in {v}.", "Whose home is {v}?"),
        phrase="the town where {e} lives"),
    "job": Attribute(
        "job", "job",
        ("{e} works as a {v}.", "{e} is a {v}.", "The job of {e} is {v}.", "{e} became a {v} long ago.",
         "By trade {e} is a {v}.", "{e} earns money as a {v}.", "As a job, {e} is a {v}."),
        ("What is the job of {e}?", "What does {e} work as?", "What is {e}'s job?", "Which job does {e} have?",
         "Tell me the job of {e}.", "What does {e} do for a living?", "What job does {e} have?",
         "Do you know the job of {e}?", "Tell me what {e} works as."),
        "{e} works as a {v}.",
        reverse=("Who works as a {v}?", "Who is a {v}?", "Which person is a {v}?", "Tell me who works as a {v}.",
                 "Who is a {v} by trade?")),
    "age": Attribute(
        "age", "age",
        ("{e} is {v} years old.", "{e} turned {v} this year.", "The age of {e} is {v}.", "At {v}, {e} still likes to travel.",
         "{e} has reached the age of {v}.", "This year {e} is {v} years old.", "{e} is now {v} years old."),
        ("How old is {e}?", "What is the age of {e}?", "What is {e}'s age?", "Tell me the age of {e}.",
         "Which age is {e}?", "How many years old is {e}?", "Tell me how old {e} is.", "Do you know how old {e} is?",
         "Give me the age of {e}."),
        "{e} is {v} years old.",
        reverse=("Who is {v} years old?", "Who is {v}?", "Whose age is {v}?", "Which person is {v} years old?",
                 "Tell me who is {v} years old."),
        compare=(("Who is older, {a} or {b}?", "Who is older: {a} or {b}?", "Is {a} or {b} older?",
                  "Tell me who is older, {a} or {b}.", "Which one is older, {a} or {b}?"), "older",
                 ("How old are {a} and {b} together?", "What is the sum of the ages of {a} and {b}?",
                  "What are the ages of {a} and {b} together?", "Add the ages of {a} and {b}."))),
    "pet": Attribute(
        "pet", "pet",
        ("{e} has a {v}.", "{e} keeps a {v}.", "At home {e} has a {v}.", "{e} bought a {v} last year.",
         "The pet of {e} is a {v}.", "A {v} lives with {e}.", "{e} keeps a {v} at home."),
        ("Which pet does {e} have?", "What pet does {e} have?", "What is the pet of {e}?", "Which animal does {e} keep?",
         "Tell me which pet {e} has.", "What animal does {e} have?", "Tell me what pet {e} has.",
         "What kind of pet does {e} keep?", "Which animal does {e} have?"),
        "{e} has a {v}.",
        reverse=("Who has a {v}?", "Who keeps a {v}?", "Which person has a {v}?", "Tell me who has a {v}.")),
    "pet name": Attribute(
        "person", "name of the pet",
        ("The pet of {e} is called {v}.", "{e} calls the pet {v}.", "{e} has a pet named {v}.", "{e}'s pet is called {v}.",
         "{e} has a pet called {v}."),
        ("What is the name of the pet of {e}?", "How is the pet of {e} called?", "What is {e}'s pet called?",
         "What is the pet of {e} called?", "Tell me the name of {e}'s pet.", "What is the name of {e}'s pet?",
         "Tell me the name of the pet of {e}."),
        "The pet of {e} is called {v}."),
    "colour": Attribute(
        "colour", "favourite colour",
        ("{e} likes {v} best of all colours.", "The favourite colour of {e} is {v}.", "{e} paints everything {v}, the favourite colour of the house.",
         "{e}'s favourite colour is {v}.", "Of all colours, {e} likes {v} best."),
        ("What is the favourite colour of {e}?", "Which colour does {e} like best?", "What is {e}'s favourite colour?",
         "What colour does {e} like best?", "Tell me the favourite colour of {e}.", "Which colour is the favourite of {e}?",
         "Tell me which colour {e} likes best.", "Do you know the favourite colour of {e}?"),
        "The favourite colour of {e} is {v}."),
    "food": Attribute(
        "food", "favourite food",
        ("{e} likes to eat {v}.", "The favourite food of {e} is {v}.", "{e} eats {v} every day.", "{e}'s favourite food is {v}.",
         "Every day {e} likes to eat {v}."),
        ("What is the favourite food of {e}?", "What does {e} like to eat?", "What is {e}'s favourite food?", "Which food does {e} like?",
         "Tell me the favourite food of {e}.", "What food does {e} like to eat?", "Tell me what {e} likes to eat."),
        "The favourite food of {e} is {v}."),
    "hobby": Attribute(
        "hobby", "hobby",
        ("The hobby of {e} is {v}.", "{e} loves {v}.", "In the evening {e} enjoys {v}.", "{e}'s hobby is {v}.", "{e} spends the weekend with {v}.",
         "As a hobby {e} enjoys {v}."),
        ("What is the hobby of {e}?", "Which hobby does {e} have?", "What is {e}'s hobby?", "What does {e} enjoy?", "Tell me the hobby of {e}.",
         "What hobby does {e} have?", "Tell me which hobby {e} has."),
        "The hobby of {e} is {v}."),
    "company": Attribute(
        "company", "company",
        ("{e} works for {v}.", "{e} is employed by {v}.", "{v} employs {e}.", "{e} has a job at {v}.", "The employer of {e} is {v}.",
         "{e} found work at {v}.", "{e} is employed at {v}.", "{e} has work at {v}."),
        ("Which company does {e} work for?", "Who employs {e}?", "What is the employer of {e}?", "Where does {e} work?",
         "Tell me the company that {e} works for.", "For which company does {e} work?", "At which company does {e} work?",
         "Who is the employer of {e}?", "Tell me which company {e} works for."),
        "{e} works for {v}.",
        reverse=("Who works for {v}?", "Who is employed by {v}?", "Which person works for {v}?", "Tell me who works for {v}.", "Who works at {v}?"),
        phrase="the company of {e}"),
    "room": Attribute(
        "number3", "room",
        ("{e} sits in room {v}.", "The office of {e} is room {v}.", "You find {e} in room {v}.", "{e} works in room {v}.", "{e} has the office in room {v}.",
         "The room of {e} is {v}."),
        ("In which room does {e} sit?", "Which room is {e} in?", "What is the room of {e}?", "Where is the office of {e}?", "In which room do I find {e}?",
         "Tell me the room of {e}.", "In what room does {e} sit?", "Which room does {e} sit in?"),
        "{e} sits in room {v}.",
        reverse=("Who sits in room {v}?", "Whose office is room {v}?", "Who works in room {v}?", "Tell me who sits in room {v}.")),
    "code": Attribute(
        "number5", "locker code",
        ("The locker code of {e} is {v}.", "{e} uses the locker code {v}.", "{e} opens the locker with {v}.", "{e}'s locker code is {v}.",
         "The locker of {e} opens with the code {v}."),
        ("What is the locker code of {e}?", "Which locker code does {e} use?", "What is {e}'s locker code?", "What code opens the locker of {e}?",
         "Tell me the locker code of {e}.", "Which code opens the locker of {e}?", "Give me the locker code of {e}."),
        "The locker code of {e} is {v}.",
        reverse=("Whose locker code is {v}?", "Who uses the locker code {v}?", "Who has the locker code {v}?", "Tell me whose locker code is {v}.")),
    "birthday": Attribute(
        "date", "birthday",
        ("The birthday of {e} is {v}.", "{e} has birthday on {v}.", "{e} was born on {v}.", "{e} celebrates every {v}.", "{e}'s birthday is {v}.",
         "On {v}, {e} was born."),
        ("When is the birthday of {e}?", "When was {e} born?", "What is the birthday of {e}?", "When is {e}'s birthday?", "On which date was {e} born?",
         "Tell me the birthday of {e}.", "On which date is the birthday of {e}?", "Tell me when {e} was born."),
        "The birthday of {e} is {v}."),
    **{word: _relation(word) for word in ("sister", "brother", "boss", "neighbour", "cousin", "teacher", "friend")},
}
THING = {
    "price": Attribute(
        "number3", "price",
        ("{e} costs {v} coins.", "The price of {e} is {v} coins.", "{e} is sold for {v} coins.", "You pay {v} coins for {e}.", "For {v} coins you get {e}.",
         "You get {e} for {v} coins."),
        ("How much does {e} cost?", "What is the price of {e}?", "How many coins does {e} cost?", "What does {e} cost?", "Tell me the price of {e}.",
         "For how many coins is {e} sold?", "Tell me how much {e} costs.", "How many coins is {e}?"),
        "{e} costs {v} coins.",
        reverse=("What costs {v} coins?", "Which product costs {v} coins?", "What is sold for {v} coins?", "Tell me what costs {v} coins."),
        compare=(("Which costs more, {a} or {b}?", "What costs more, {a} or {b}?", "Which is the more expensive one, {a} or {b}?",
                  "Tell me which costs more, {a} or {b}.", "What is more expensive, {a} or {b}?"), "more expensive",
                 ("How much do {a} and {b} cost together?", "What do {a} and {b} cost together?", "What is the price of {a} and {b} together?",
                  "Add the prices of {a} and {b}."))),
    "weight": Attribute(
        "number2", "weight",
        ("{e} weighs {v} kilos.", "The weight of {e} is {v} kilos.", "{e} is {v} kilos heavy.", "With {v} kilos {e} is not light.", "The weight of {e}: {v} kilos."),
        ("How heavy is {e}?", "What is the weight of {e}?", "How much does {e} weigh?", "How many kilos does {e} weigh?", "Tell me the weight of {e}.",
         "What does {e} weigh?", "Tell me how heavy {e} is."),
        "{e} weighs {v} kilos.",
        compare=(("Which is heavier, {a} or {b}?", "What is heavier, {a} or {b}?", "Is {a} or {b} heavier?", "Tell me which is heavier, {a} or {b}."), "heavier",
                 ("How much do {a} and {b} weigh together?", "What is the weight of {a} and {b} together?", "How heavy are {a} and {b} together?"))),
    "stock": Attribute(
        "number2", "stock",
        ("There are {v} pieces of {e} in stock.", "The stock of {e} is {v} pieces.", "We have {v} pieces of {e}.", "{v} pieces of {e} are in stock.",
         "In stock there are {v} pieces of {e}."),
        ("How many pieces of {e} are in stock?", "What is the stock of {e}?", "How many pieces of {e} do we have?", "How many of {e} are there?",
         "Tell me the stock of {e}.", "How many pieces of {e} are there?", "Tell me how many pieces of {e} are in stock."),
        "There are {v} pieces of {e} in stock."),
    "shelf": Attribute(
        "number3", "shelf",
        ("{e} is on shelf {v}.", "{e} lies on shelf {v}.", "Look for {e} on shelf {v}.", "Shelf {v} holds {e}.", "On shelf {v} you find {e}.", "You find {e} on shelf {v}."),
        ("On which shelf is {e}?", "Where is {e}?", "Which shelf holds {e}?", "On which shelf do I find {e}?", "Tell me the shelf of {e}.", "Which shelf is {e} on?",
         "Tell me on which shelf {e} is."),
        "{e} is on shelf {v}.",
        reverse=("What is on shelf {v}?", "What lies on shelf {v}?", "What do I find on shelf {v}?", "Tell me what is on shelf {v}.")),
    "material": Attribute(
        "material", "material",
        ("{e} is made of {v}.", "The material of {e} is {v}.", "{e} consists of {v}.", "They make {e} of {v}.", "{v} is the material of {e}."),
        ("What is {e} made of?", "What is the material of {e}?", "Of what is {e} made?", "Which material is {e} made of?", "Tell me the material of {e}.",
         "Tell me what {e} is made of.", "Of which material is {e} made?"),
        "{e} is made of {v}."),
    "maker": Attribute(
        "company", "maker",
        ("{e} is made by {v}.", "{v} makes {e}.", "The maker of {e} is {v}.", "{e} comes from {v}.", "{v} builds {e}.", "{v} is the maker of {e}."),
        ("Who makes {e}?", "Who is the maker of {e}?", "Which company makes {e}?", "Where does {e} come from?", "Tell me the maker of {e}.", "By whom is {e} made?",
         "Tell me who makes {e}."),
        "{e} is made by {v}.",
        reverse=("What does {v} make?", "Which product is made by {v}?", "What comes from {v}?", "Tell me what {v} makes."),
        phrase="the maker of {e}"),
}
TOWN = {
    "people": Attribute(
        "number5", "people",
        ("{v} people live in {e}.", "{e} has {v} people.", "The town of {e} counts {v} people.", "There are {v} people in {e}.", "In {e} live {v} people."),
        ("How many people live in {e}?", "How many people does {e} have?", "How many people are there in {e}?", "What is the number of people in {e}?",
         "Tell me how many people live in {e}.", "How large is the number of people in {e}?", "Tell me the number of people in {e}."),
        "{v} people live in {e}."),
    "mayor": Attribute(
        "person", "mayor",
        ("The mayor of {e} is {v}.", "{v} is the mayor of {e}.", "{e} has a mayor called {v}.", "{e} chose {v} as mayor.", "The mayor of {e} is called {v}."),
        ("Who is the mayor of {e}?", "What is the name of the mayor of {e}?", "Who is {e}'s mayor?", "Tell me the mayor of {e}.",
         "Tell me the name of the mayor of {e}.", "How is the mayor of {e} called?", "Can you tell me who the mayor of {e} is?"),
        "The mayor of {e} is {v}.",
        reverse=("Where is {v} the mayor?", "Of which town is {v} the mayor?", "Which town has {v} as mayor?", "Tell me where {v} is the mayor."),
        phrase="the mayor of {e}"),
    "founded": Attribute(
        "year", "founded",
        ("{e} was founded in {v}.", "The town of {e} was founded in {v}.", "{e} dates from {v}.", "The year {v} saw the founding of {e}.", "In {v} {e} was founded."),
        ("When was {e} founded?", "In which year was {e} founded?", "What year was {e} founded?", "How old is the town of {e}?", "Tell me when {e} was founded.",
         "Which year was {e} founded in?", "Tell me the year in which {e} was founded."),
        "{e} was founded in {v}.",
        compare=(("Which was founded later, {a} or {b}?", "Was {a} or {b} founded later?", "Which town was founded later, {a} or {b}?", "Tell me which was founded later, {a} or {b}."),
                 "newer", None)),
    "tower": Attribute(
        "number3", "height of the tower",
        ("The tower of {e} is {v} metres high.", "{e} has a tower of {v} metres.", "In {e} stands a tower of {v} metres.", "The tower in {e} is {v} metres high."),
        ("How high is the tower of {e}?", "What is the height of the tower of {e}?", "How many metres high is the tower of {e}?", "How tall is the tower of {e}?",
         "Tell me how high the tower of {e} is.", "Tell me the height of the tower of {e}."),
        "The tower of {e} is {v} metres high."),
}
COMPANY = {
    "founder": Attribute(
        "person", "founder",
        ("{e} was founded by {v}.", "{v} founded {e}.", "The founder of {e} is {v}.", "{v} started {e} in a garage.", "{v} is the founder of {e}."),
        ("Who founded {e}?", "Who is the founder of {e}?", "By whom was {e} founded?", "Who started {e}?", "Tell me the founder of {e}.", "Tell me who founded {e}.",
         "What is the name of the founder of {e}?"),
        "{e} was founded by {v}.",
        reverse=("What did {v} found?", "Which company did {v} found?", "What was founded by {v}?", "Tell me what {v} founded."),
        phrase="the founder of {e}"),
    "seat": Attribute(
        "town", "seat",
        ("{e} has its seat in {v}.", "{e} is based in {v}.", "The offices of {e} are in {v}.", "{v} is the seat of {e}.", "The seat of {e} is in {v}."),
        ("Where is {e} based?", "Where is the seat of {e}?", "In which town is {e} based?", "Which town is the seat of {e}?", "Tell me where {e} is based.",
         "Where does {e} have its seat?", "Tell me the seat of {e}."),
        "{e} is based in {v}.",
        reverse=("Which company is based in {v}?", "What company has its seat in {v}?", "Who is based in {v}?", "Tell me which company is based in {v}."),
        phrase="the town where {e} is based"),
    "employees": Attribute(
        "number4", "employees",
        ("{e} has {v} employees.", "{v} people work at {e}.", "{e} employs {v} people.", "There are {v} employees at {e}.", "At {e} there are {v} employees."),
        ("How many employees does {e} have?", "How many people work at {e}?", "How many people does {e} employ?", "How many employees are there at {e}?",
         "Tell me how many employees {e} has.", "What is the number of employees of {e}?", "Tell me how many people work at {e}."),
        "{e} has {v} employees."),
    "product": Attribute(
        "noun", "product",
        ("{e} makes a machine called the {v}.", "The main product of {e} is the {v}.", "{e} is known for the {v}.", "{e} sells the {v}.", "The {v} is the main product of {e}."),
        ("What is the main product of {e}?", "What is {e} known for?", "Which product does {e} sell?", "What does {e} sell?", "Tell me the main product of {e}.",
         "What product does {e} sell?", "Tell me what {e} is known for."),
        "The main product of {e} is the {v}.",
        reverse=("Who sells the {v}?", "Which company makes the {v}?", "Which company is known for the {v}?", "Tell me who sells the {v}.")),
}
TRAIN = {
    "departs": Attribute(
        "time", "departs",
        ("{e} departs at {v}.", "{e} leaves at {v}.", "The departure of {e} is at {v}.", "At {v} departs {e}.", "The time of departure of {e} is {v}."),
        ("When does {e} depart?", "When does {e} leave?", "At what time does {e} leave?", "What is the departure time of {e}?", "Tell me when {e} departs.",
         "At what time does {e} depart?", "Tell me when {e} leaves."),
        "{e} departs at {v}.",
        reverse=("What departs at {v}?", "Which train departs at {v}?", "Which train leaves at {v}?", "Tell me which train departs at {v}.")),
    "platform": Attribute(
        "number2", "platform",
        ("{e} leaves from platform {v}.", "{e} stands at platform {v}.", "The platform of {e} is {v}.", "Go to platform {v} for {e}.", "From platform {v} leaves {e}."),
        ("From which platform does {e} leave?", "Which platform is for {e}?", "What is the platform of {e}?", "At which platform is {e}?", "Tell me the platform of {e}.",
         "Which platform does {e} leave from?", "Tell me from which platform {e} leaves."),
        "{e} leaves from platform {v}."),
    "goes to": Attribute(
        "town", "goes to",
        ("{e} goes to {v}.", "{e} runs to {v}.", "The last stop of {e} is {v}.", "{e} brings people to {v}.", "{v} is the last stop of {e}."),
        ("Where does {e} go?", "Where does {e} go to?", "What is the last stop of {e}?", "To which town does {e} go?", "Tell me where {e} goes.", "To which town does {e} run?",
         "Tell me the last stop of {e}."),
        "{e} goes to {v}.",
        reverse=("Which train goes to {v}?", "What goes to {v}?", "Which train runs to {v}?", "Tell me which train goes to {v}."),
        phrase="the last stop of {e}"),
    "driver": Attribute(
        "person", "driver",
        ("The driver of {e} is {v}.", "{v} drives {e}.", "{e} is driven by {v}.", "{v} is the driver of {e}."),
        ("Who is the driver of {e}?", "Who drives {e}?", "By whom is {e} driven?", "Tell me the driver of {e}.", "Tell me who drives {e}."),
        "The driver of {e} is {v}.",
        reverse=("What does {v} drive?", "Which train does {v} drive?", "Which train is driven by {v}?", "Tell me which train {v} drives."),
        phrase="the driver of {e}"),
}
SAFE = {
    "key": Attribute(
        "number4", "key",
        ("The key of {e} is {v}.", "{e} opens with the key {v}.", "Use the key {v} for {e}.", "The right key for {e} is {v}.", "With the key {v} you open {e}."),
        ("What is the key of {e}?", "Which key opens {e}?", "What key do I need for {e}?", "How do I open {e}?", "Tell me the key of {e}.", "Give me the key of {e}.",
         "Which key do I need for {e}?"),
        "The key of {e} is {v}.",
        reverse=("What opens with the key {v}?", "What does the key {v} open?", "For what is the key {v}?", "Tell me what the key {v} opens.")),
}
TYPES = {"person": PERSON, "thing": THING, "town": TOWN, "company": COMPANY, "train": TRAIN, "safe": SAFE}

FILLER = Wordings(
    "The weather was fine that day.", "Nobody knows why.", "It was a long winter.", "There is not much more to say about this.",
    "The market is open every morning.", "Some pages of this report are missing.", "The old bridge was closed for repairs.",
    "People spoke about it for weeks.", "Nothing else happened.", "The meeting was short.", "Later it began to rain.",
    "All of this is well known.", "The books were put back on the shelf.", "That was many years ago.", "The road is narrow but safe.",
    "A letter came the next day.", "The garden behind the house is green.", "Most of them were tired in the evening.",
    "The clock in the hall is slow.", "This part was added later.", "The rest of the report is about other things.",
    "The road was closed for weeks.", "Later nobody spoke about it.", "The market was closed that day.")
PLACE = Wordings(
    "Read this text.\n\n{doc}\n\n{q}", "{doc}\n\n{q}", "Text:\n{doc}\n\nQuestion: {q}", "Here is a text:\n\n{doc}\n\n{q}",
    "Use this text to answer.\n\n{doc}\n\n{q}", "Document:\n{doc}\n\n{q}", "<text>\n{doc}\n</text>\n\n{q}", "{q}\n\n{doc}",
    "Question: {q}\n\nText:\n{doc}", "{q}\n\nText: {doc}", "Answer from this text: {doc}\n\n{q}",
    "Read this document.\n\n{doc}\n\nQuestion: {q}", "Here is a document:\n\n{doc}\n\n{q}", "Use this document to answer.\n\n{doc}\n\n{q}")
ALONE = Wordings(
    "Read this text.\n\n{doc}", "Here is a text:\n\n{doc}", "{doc}\n\nI will ask you about this text.", "Read this and remember it.\n\n{doc}",
    "Here is a text. Read it.\n\n{doc}", "Read this text. I will ask you about it.\n\n{doc}")
READ = "I have read the text. What would you like to know?"
SYSTEM = Wordings(
    "Answer from this text.\n\n{doc}", "You know the following.\n\n{doc}", "{doc}", "Text:\n{doc}", "Use this document:\n\n{doc}", "Use this text:\n\n{doc}")


def value_of(src, kind):
    if kind == "person":
        return src.name(PERSONS)
    if kind == "town":
        return src.name(TOWNS)
    if kind == "company":
        return src.name(COMPANIES)
    if kind == "noun":
        return src.name(NOUNS)
    if kind == "age":
        return src.number(18, 99)
    if kind == "number2":
        return src.number(2, 99)
    if kind == "number3":
        return src.number(100, 999)
    if kind == "number4":
        return src.number(1000, 9999)
    if kind == "number5":
        return src.number(1000, 99999)
    if kind == "year":
        return src.number(1100, 1999)
    if kind == "time":
        return f"{src.below(24):02d}:{src.below(60):02d}"
    if kind == "date":
        return f"{src.between(1, 28)} {src.choice(MONTHS)}"
    return src.choice({"job": JOBS, "pet": PETS, "colour": COLOURS, "food": FOODS, "hobby": HOBBIES, "material": MATERIALS}[kind])


def capital(text):
    return text[0].upper() + text[1:]


def _entity(src, type_):
    if type_ == "person":
        return src.name(PERSONS)
    if type_ == "thing":
        return f"the {src.name(NOUNS)} {src.choice(PRODUCTS)}"
    if type_ == "town":
        return src.name(TOWNS)
    if type_ == "company":
        return src.name(COMPANIES)
    if type_ == "train":
        return f"train {src.number(100, 9999)}"
    return f"the {src.name(NOUNS)} {src.choice(('safe', 'vault', 'chest', 'gate', 'box'))}"


class Document:
    """A text of about `tokens` tokens, and the facts it states."""

    def __init__(self, src, tokens):
        self.src = src
        self.facts = {}   # entity -> {attribute name: value}
        self.types = {}   # entity -> type
        self.text = self._write(tokens)
        self.count = {}   # how often a (attribute, value) occurs: reverse questions need one answer
        for entity, facts in self.facts.items():
            for name, value in facts.items():
                key = (self.types[entity], name, value)
                self.count[key] = self.count.get(key, 0) + 1
        self.flat = [(e, name) for e, facts in self.facts.items() for name in facts]
        self.links = [(e, name) for e, name in self.flat
                      if self.attribute(e, name).phrase and self.facts.get(self.facts[e][name])]

    def attribute(self, entity, name):
        return TYPES[self.types[entity]][name]

    def answer(self, entity, name):
        return capital(self.attribute(entity, name).answer.format(e=entity, v=self.facts[entity][name]))

    def _add(self, entity, type_, wanted):
        """Draws facts for `entity`; values that are names may be entities of the text already."""
        src = self.src
        facts = self.facts.setdefault(entity, {})
        self.types[entity] = type_
        table = TYPES[type_]
        for name in src.sample(list(table), min(wanted, len(table))):
            kind = table[name].kind
            value = None
            if kind in ("person", "town", "company") and src.chance(0.5):
                near = self.known.get(kind)
                value = src.choice(near) if near else None
            if value is None or value == entity:
                value = value_of(src, kind)
                if kind in ("person", "town", "company") and table[name].phrase and name != "pet name":
                    self.open.append((value, kind))
            facts[name] = value
        self.known.setdefault(type_, []).append(entity)

    def _write(self, tokens):
        src = self.src
        types = [src.weighted((("person", 6), ("thing", 2), ("town", 1.5), ("company", 2), ("train", 1), ("safe", 1)))
                 for _ in range(src.between(1, 3))]
        style = src.weighted((("prose", 7), ("record", 2), ("table", 1)))
        grouped = src.chance(0.5)
        filler = src.choice((0, 0, 0.05, 0.2))
        self.known, self.open = {}, []
        pieces, size = [], 0
        columns = {t: src.sample(list(TYPES[t]), min(len(TYPES[t]), src.between(2, 5))) for t in TYPES}
        while size < tokens:
            if self.open and src.chance(0.6):
                entity, type_ = self.open.pop(src.below(len(self.open)))
            else:
                type_ = src.choice(types)
                entity = _entity(src, type_)
            if entity in self.facts:
                continue
            self._add(entity, type_, src.between(1, 5))
            facts, table = self.facts[entity], TYPES[type_]
            if style == "prose":
                own = [capital(src.pick(table[name].says).format(e=entity, v=value)) for name, value in facts.items()]
                while filler and src.chance(filler):
                    own.append(src.pick(FILLER))
                text = " ".join(own)
                pieces.append(text if grouped else own)
                size += tokens_in(text) + 1
            elif style == "record":
                text = capital(entity) + "\n" + "\n".join(f"- {table[name].label}: {value}" for name, value in facts.items())
                pieces.append(text)
                size += tokens_in(text) + 1
            else:
                wanted = columns[type_]
                for name in wanted:
                    if name not in facts:
                        facts[name] = value_of(src, table[name].kind)
                for name in list(facts):
                    if name not in wanted:
                        del facts[name]
                pieces.append((type_, entity))
                size += tokens_in(f"| {entity} |" + " |".join(str(facts[name]) for name in wanted)) + 1
        del self.known, self.open
        if style == "table":
            return self._tables(pieces, columns)
        if style == "prose" and not grouped:
            pieces = [sentence for own in pieces for sentence in own]
            src.shuffle(pieces)
        if style == "record":
            return "\n\n".join(pieces)
        if src.chance(0.5):
            return " ".join(pieces)
        return "\n".join(pieces)

    def _tables(self, pieces, columns):
        out = []
        for type_ in dict.fromkeys(t for t, _ in pieces):
            table = TYPES[type_]
            rows = ["| name | " + " | ".join(table[name].label for name in columns[type_]) + " |"]
            for t, entity in pieces:
                if t == type_:
                    rows.append(f"| {entity} | " + " | ".join(str(self.facts[entity][name]) for name in columns[type_]) + " |")
            out.append("\n".join(rows))
        return "\n\n".join(out)

    def single(self):
        entity, name = self.src.choice(self.flat)
        return self.src.pick(self.attribute(entity, name).asks).format(e=entity), self.answer(entity, name), None

    def reverse(self):
        for _ in range(8):
            entity, name = self.src.choice(self.flat)
            attribute, value = self.attribute(entity, name), self.facts[entity][name]
            if attribute.reverse and self.count[self.types[entity], name, value] == 1:
                return self.src.pick(attribute.reverse).format(v=value), self.answer(entity, name), None
        return None

    def silent(self):
        """A question that the text does not answer."""
        src = self.src
        entity, name = src.choice(self.flat)
        type_ = self.types[entity]
        missing = [n for n in TYPES[type_] if n not in self.facts[entity]]
        if not missing or src.chance(0.4):
            missing = list(TYPES[type_])
            while entity in self.facts:
                entity = _entity(src, type_)
        return src.pick(TYPES[type_][src.choice(missing)].asks).format(e=entity), SILENT, "I look for it and do not find it."

    def chain(self):
        """A question whose entity is itself named by a fact."""
        if not self.links:
            return None
        src = self.src
        entity, name = src.choice(self.links)
        middle = self.facts[entity][name]
        last = src.choice(list(self.facts[middle]))
        phrase = self.attribute(entity, name).phrase.format(e=entity)
        text = capital(src.pick(self.attribute(middle, last).asks).format(e=phrase))
        first = f"{capital(phrase)} is {middle}."
        return text, f"{first} {self.answer(middle, last)}", first

    def _two(self, wanted):
        """Two entities that share an attribute for which `wanted` holds."""
        for _ in range(12):
            a, name = self.src.choice(self.flat)
            b, other = self.src.choice(self.flat)
            if a != b and self.types[a] == self.types[b] and name in self.facts[b] and wanted(self.attribute(a, name)):
                return a, b, name
        return None

    def compare(self):
        found = self._two(lambda attribute: attribute.compare)
        if not found or self.facts[found[0]][found[2]] == self.facts[found[1]][found[2]]:
            return None
        a, b, name = found
        asks, word, _ = self.attribute(a, name).compare
        top = a if self.facts[a][name] > self.facts[b][name] else b
        first = f"{self.answer(a, name)} {self.answer(b, name)}"
        return self.src.pick(asks).format(a=a, b=b), f"{first} So {top} is {word}.", first

    def total(self):
        found = self._two(lambda attribute: attribute.compare and attribute.compare[2])
        if not found:
            return None
        a, b, name = found
        x, y = self.facts[a][name], self.facts[b][name]
        if not self.src.owns(f"{min(x, y)}+{max(x, y)}"):
            return None
        first = f"{self.answer(a, name)} {self.answer(b, name)}"
        asks = self.attribute(a, name).compare[2]
        return self.src.pick(asks).format(a=a, b=b), f"{first} {x} + {y} = {x + y}.", first

    SAME = Wordings("Is it the same for {a} and {b}: {label}?", "Do {a} and {b} have the same {label}?",
                    "Have {a} and {b} the same {label}?", "Is the {label} of {a} and {b} the same?",
                    "Tell me if {a} and {b} have the same {label}.", frames=ASK)

    def same(self):
        found = self._two(lambda attribute: attribute.kind in ("town", "job", "pet", "colour", "food", "hobby", "material", "company"))
        if not found:
            return None
        a, b, name = found
        first = f"{self.answer(a, name)} {self.answer(b, name)}"
        verdict = "So yes." if self.facts[a][name] == self.facts[b][name] else "So no."
        return self.src.pick(self.SAME).format(a=a, b=b, label=self.attribute(a, name).label), f"{first} {verdict}", first

    def question(self, kind=None):
        """(question, answer, thinking) of one `kind`, or of any; None if the text has none of it."""
        table = KINDS[kind]
        for _ in range(8):
            found = getattr(self, self.src.weighted(table))()
            if found:
                return found
        return None if kind else self.single()


DUELS = ((PERSON, "age", PERSONS, Wordings("Who is older?", "Who of the two is older?", "Which one is older?", "Who is the older one?", "Tell me who is older.", frames=ASK)),
         (THING, "price", None, Wordings("Which costs more?", "What costs more?", "Which is more expensive?", "Which one is more expensive?", "Tell me which costs more.", frames=ASK)),
         (THING, "weight", None, Wordings("Which is heavier?", "What is heavier?", "Which one is heavier?", "Which of the two is heavier?", "Tell me which is heavier.", frames=ASK)))


def duel(src, thinking):
    """Two facts and a question in one breath."""
    table, name, pool, asks = src.choice(DUELS)
    attribute = table[name]
    a, b = src.names(pool, 2) if pool else (f"the {noun} {src.choice(PRODUCTS)}" for noun in src.names(NOUNS, 2))
    x, y = src.number(18, 99), src.number(18, 99)
    says = [capital(src.pick(attribute.says).format(e=e, v=v)) for e, v in ((a, x), (b, y))]
    first = " ".join(capital(attribute.answer.format(e=e, v=v)) for e, v in ((a, x), (b, y)))
    end = "So both are equal." if x == y else f"So {a if x > y else b} is {attribute.compare[1]}."
    return f"{says[0]} {says[1]} {src.pick(asks)}", f"{first} {end}", first


# How often which question: of any kind, of one fact, of two facts.
KINDS = {
    None: (("single", 10), ("reverse", 3), ("silent", 2.5), ("chain", 4), ("compare", 2.6), ("total", 1.6), ("same", 1.6)),
    "find": (("single", 6), ("reverse", 2), ("silent", 2)),
    "combine": (("chain", 5), ("compare", 3), ("total", 2), ("same", 1)),
}
