"""Word lists and invented names. All written for this model; no outside text."""

from source import NamePool

FIRST = ("Ma Ta Lo Ri Be Da Ke Sa No Vi Za Fe Ga Hu Jo Mi Na Or Pe Qui Ro Su Te Ul Va Wi Ya Ze An El "
         "Is Ol Bra Cle Dra Fri Gre Kla Pra Ste Tri Tho Sha Che").split()
MIDDLE = "ri la no ve mi sa do ke lu ta ne bo ra li so du pe ga vi mo ze fa hi ro".split()
PERSON_END = "n na ra lo s th ne l ko ria mir dan vin lia rus ka nor ette bel win".split()
TOWN_END = "dor ville stad mouth field burg haven ford wick holm port bridge".split()
COMPANY_END = "tek corp lux nex zon dyne works soft".split()
THING_END = "x m rt ple nk sk ff ll b p".split()

REAL_PERSONS = (
    "Alice Bob Anna Peter Maria John Paul Emma Lucas Sofia Leon Nina Oscar Clara Hugo Julia Felix "
    "Laura Simon Eva David Sarah Tom Lena Max Ida Noah Mia Liam Olivia Ben Zoe Adam Grace Henry "
    "Ella Jack Ruby Oliver Lily Daniel Chloe Martin Alex Sam Kate Frank Rosa Victor Irene").split()
REAL_TOWNS = (
    "Paris London Berlin Madrid Rome Vienna Oslo Lisbon Prague Dublin Athens Cairo Tokyo Delhi Lima "
    "Boston Chicago Toronto Sydney Geneva Hamburg Munich Milan Porto Zurich Seoul Nairobi").split()


def _combine(ends):
    return [a + b + c for a in FIRST for b in MIDDLE for c in ends]


PERSONS = NamePool(_combine(PERSON_END) + REAL_PERSONS * 20)
TOWNS = NamePool(_combine(TOWN_END) + REAL_TOWNS * 20)
COMPANIES = NamePool(_combine(COMPANY_END))
NOUNS = NamePool([name.lower() for name in _combine(THING_END)])  # invented common nouns

WORDS = (
    "apple bread candle door engine feather garden hammer island jacket kettle lemon mirror needle "
    "orange pencil queen river stone table umbrella violin window yard zebra anchor basket carpet "
    "desk eagle flower glass house iron jungle knife lamp mountain nest ocean paper quilt rabbit "
    "silver tiger uniform valley water yellow acorn bottle castle dragon echo forest goose harbour "
    "ink jewel king ladder market night onion piano quarry ribbon sugar tower urn vase wheel bridge "
    "cloud drum ember field grape honey ice jam kite leaf moon nut oven pearl quiz rope sand tree "
    "unit velvet wolf amber bell coin dust elm fog gate hill ivy jar key log map nail oak pond rain "
    "salt tent vine wind ant boat cup dog egg fox gift hat ink-pot jet kiln lid milk net owl pig rug "
    "ship tin van web bear cake deer farm frog gold hook iris joke knot lake mint note pear road "
    "seed star toad wall wood arrow beach chair dance earth fence ghost heart juice knee light "
    "mouse nurse olive plate radio sheep train voice whale bacon cabin diary elbow flute grass hotel "
    "igloo jelly lemonade maple noodle opera pepper rocket saddle ticket turtle wagon zipper").split()
WORDS = sorted(set(w for w in WORDS if w.isalpha()))

COLOURS = "red blue green yellow white black brown grey pink purple orange silver golden".split()
JOBS = ("baker teacher doctor painter farmer driver nurse lawyer miller plumber singer writer "
        "gardener carpenter pilot sailor tailor judge cook clerk dentist librarian mechanic "
        "photographer translator waiter butcher chemist surgeon").split()
PETS = "cat dog rabbit parrot hamster turtle pony goat goldfish lizard".split()
FOODS = ("soup rice pasta pizza salad cheese bread fish cake honey apples pancakes beans potatoes "
         "noodles mushrooms chocolate plums pears olives").split()
HOBBIES = ("chess tennis painting sailing reading cooking running dancing fishing hiking swimming "
           "knitting cycling skiing singing climbing gardening rowing drawing baking").split()
MATERIALS = "wood steel glass copper stone paper leather clay cotton wool".split()
PRODUCTS = ("lamp chair clock radio kettle table shelf mirror bicycle jacket piano carpet camera "
            "bottle ladder drill heater printer sofa basket").split()
MONTHS = ("January February March April May June July August September October November "
          "December").split()
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LANGUAGES = "French German Spanish Italian Greek Latin Dutch Polish Danish Turkish".split()
CONDITIONS = "sunny rainy cloudy windy snowy foggy stormy clear".split()
PLACES = ("kitchen cellar garage attic garden office hall bedroom bathroom library workshop shed "
          "corridor studio").split()

# What a user may ask about the world. The model knows nothing of it, and says so.
TOPICS = (
    "history science music art football politics money war peace love life death god time space "
    "energy gravity light sound matter atoms planets stars galaxies the sun the moon the earth mars "
    "oceans mountains rivers deserts animals birds whales dinosaurs plants flowers trees food cooking "
    "health medicine cancer sleep dreams the brain psychology economics inflation taxes banks the "
    "stock market computers software hardware programming python java javascript rust linux windows "
    "databases networks the internet robots machine learning neural networks artificial intelligence "
    "quantum physics chemistry biology evolution genetics mathematics algebra geometry statistics "
    "philosophy ethics religion law democracy freedom education schools universities books novels "
    "poetry films theatre painting sculpture photography fashion travel tourism airplanes trains cars "
    "bicycles ships bridges architecture cities villages farming climate change pollution volcanoes "
    "earthquakes storms snow rain").replace("the ", "the_").replace("stock market", "stock_market")
TOPICS = TOPICS.replace("machine learning", "machine_learning").replace(
    "neural networks", "neural_networks").replace("artificial intelligence",
    "artificial_intelligence").replace("quantum physics", "quantum_physics").replace(
    "climate change", "climate_change")
TOPICS = [t.replace("_", " ") for t in TOPICS.split()]
LANDS = ("France Germany Italy Spain Norway Sweden Poland Greece Turkey Egypt Kenya Brazil Peru Chile "
         "Mexico Canada Japan China India Australia Austria Portugal Ireland Denmark Finland Iceland "
         "Hungary Romania Morocco Nigeria Argentina Vietnam Thailand").split()
