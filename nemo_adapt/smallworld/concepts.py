"""The small world's words, read from the tables, and the fixed facts about them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from nemo_adapt.smallworld import nouns, words

LANGUAGES = ("en", "tr", "hi", "ar")


@dataclass(frozen=True, eq=False)
class Word:
    """A concept: its kind, its gender if it is a name (else empty), and language -> the fields of its cell."""

    kind: str
    gender: str
    cells: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """The English lemma, unique within a kind."""
        return self.cells["en"][0]


NAMES = ("person", "petname", "town")
TABLES = {
    "person": nouns.PEOPLE,
    "petname": nouns.PET_NAMES,
    "town": nouns.TOWNS,
    "job": nouns.JOBS,
    "kin": nouns.KIN,
    "animal": nouns.ANIMALS,
    "food": nouns.FOODS,
    "drink": nouns.DRINKS,
    "thing": nouns.THINGS,
    "place": nouns.PLACES,
    "color": words.COLORS,
    "adjective": words.ADJECTIVES,
    "trait": words.TRAITS,
    "glad": words.GLAD_MOODS,
    "low": words.LOW_MOODS,
    "spent": words.SPENT_MOODS,
    "activity": words.ACTIVITIES,
    "past": words.PAST_TIMES,
    "future": words.FUTURE_TIMES,
    "habit": words.HABIT_TIMES,
    "skypast": words.WEATHER_PAST,
    "skynow": words.WEATHER_NOW,
    "skyfuture": words.WEATHER_FUTURE,
    "relation": words.RELATIONS,
    "number": words.NUMBERS,
    "day": words.DAYS,
}


def _read(kind: str, table: str) -> dict[str, Word]:
    found: dict[str, Word] = {}
    for line in unicodedata.normalize("NFC", table).strip().splitlines():
        columns = [column.strip() for column in line.split("|")]
        gender = columns.pop(1) if kind in NAMES else ""
        cells = {
            language: tuple(field.strip() for field in column.split(","))
            for language, column in zip(LANGUAGES, columns, strict=True)
        }
        word = Word(kind, gender, cells)
        if word.name in found or not all(all(fields) for fields in cells.values()):
            raise ValueError(f"the {kind} table has {word.name!r} twice or with an empty field")
        found[word.name] = word
    return found


WORDS: dict[str, dict[str, Word]] = {kind: _read(kind, table) for kind, table in TABLES.items()}


def all_of(kind: str) -> list[Word]:
    """Return every word of a kind, in the order of its table."""
    return list(WORDS[kind].values())


def some(kind: str, names: str) -> list[Word]:
    """Return the words of a kind that ``names`` lists, separated by commas."""
    return [WORDS[kind][name.strip()] for name in names.split(",")]


def pick(rank: int, stride: int, choices: Sequence[Word]) -> Word:
    """Return a fixed choice for item number ``rank``: the same in every run, spread over ``choices``."""
    return choices[(rank * stride + rank // len(choices)) % len(choices)]


# animal: food: habitat: rank in size (1 is the smallest): colors and adjectives that fit it
ANIMAL_FACTS = """
cat: fish: city: 5: small, black, white, grey, quiet
dog: meat: village: 7: big, black, brown, fast, strong
horse: grass: field: 12: big, black, white, brown, fast, beautiful
cow: grass: field: 12: big, black, white, brown, slow
sheep: grass: mountain: 9: white, black, small
goat: grass: mountain: 8: white, black, brown, fast
hen: corn: garden: 4: white, brown, red
duck: corn: lake: 4: white, brown, green
rabbit: carrot: field: 3: small, white, grey, brown, fast
mouse: cheese: kitchen: 2: small, grey, white, quiet
bird: corn: park: 2: small, blue, yellow, beautiful
pigeon: corn: square: 3: white, grey
fish: bread: lake: 2: small, red, blue, fast
bear: honey: forest: 14: big, brown, black, strong
fox: meat: forest: 6: red, brown, fast
wolf: meat: forest: 8: grey, black, strong, fast
lion: meat: desert: 13: big, yellow, strong, beautiful
elephant: grass: forest: 16: big, grey, strong, old
monkey: banana: forest: 7: small, brown, strange
camel: grass: desert: 14: big, brown, slow, strong
donkey: carrot: village: 11: grey, brown, slow, strong
turtle: grass: beach: 4: slow, green, small, old
frog: fish: lake: 2: small, green
bee: honey: garden: 1: small, yellow
butterfly: honey: garden: 1: small, yellow, blue, beautiful
deer: grass: forest: 10: brown, beautiful, fast
owl: meat: forest: 4: white, brown, strange, quiet
"""

# place: activities there
PLACE_ACTIVITIES = """
park: run, walk, rest, play chess, read books, ride a bicycle, take photos, dance
garden: grow flowers, rest, drink tea, read books, draw pictures, sing
kitchen: cook, sing, drink tea, tell stories
library: read books, study, write letters
school: study, sing, draw pictures, play football, play chess
forest: walk, run, take photos
beach: swim, run, walk, rest, take photos, play the guitar
lake: swim, catch fish
stadium: play football, run
café: drink tea, write letters, play chess, tell stories, listen to music
room: sleep, study, listen to music, watch films, play the guitar, read books
hotel: sleep, rest, work
cinema: watch films
office: work, write letters, drink tea
square: dance, sing, play the guitar, take photos
village: ride a bicycle, tell stories, walk
street: play football, ride a bicycle, walk
university: study, work, play chess
"""

# food: color (or -): adjectives of its taste
FOOD_FACTS = """
bread: -: fresh, delicious
rice: white: hot, delicious
soup: -: hot, delicious, salty
cheese: white: salty, fresh
meat: -: delicious, hot
salad: green: fresh, delicious
honey: -: sweet
yogurt: white: cold, fresh
chocolate: brown: sweet, delicious
apple: red: sweet, fresh
banana: yellow: sweet
orange: orange: sweet, fresh
lemon: yellow: sour
carrot: orange: sweet, fresh
cucumber: green: fresh
egg: white: delicious
cake: -: sweet, delicious
date: brown: sweet
fig: purple: sweet
pear: green: sweet
peach: orange: sweet
watermelon: green: sweet, cold
sandwich: -: delicious, fresh
"""


def facts(table: str) -> dict[str, list[str]]:
    """Parse a table of ``name: fact: fact`` lines into name -> facts."""
    rows = [[field.strip() for field in line.split(":")] for line in table.strip().splitlines()]
    return {row[0]: row[1:] for row in rows}
