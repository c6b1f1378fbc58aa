"""Facts about the people: the same in every run, whatever the seed."""

from nemo_adapt.smallworld.concepts import ANIMAL_FACTS, Word, all_of, facts, pick, some

WORKPLACES = {
    "teacher": "school",
    "doctor": "hospital",
    "farmer": "field",
    "baker": "bakery",
    "cook": "restaurant",
    "nurse": "hospital",
    "painter": "museum",
    "engineer": "office",
    "gardener": "park",
    "tailor": "shop",
    "writer": "café",
    "musician": "hotel",
    "carpenter": "workshop",
    "pilot": "airport",
    "photographer": "city",
}
PEOPLE = all_of("person")
_RANK = {person: rank for rank, person in enumerate(PEOPLE)}
_TOWNS = all_of("town")
_COLORS = all_of("color")
_COLOR_NAMES = [color.name for color in _COLORS]
_ANIMALS = facts(ANIMAL_FACTS)
_KIN = all_of("kin")
PETS = some("animal", "cat, dog, rabbit, bird, turtle, horse, goat")
OWNED = some("thing", "car, bicycle, bag, coat, hat, umbrella, phone")
LOVED = some(
    "food", "bread, rice, cheese, salad, apple, banana, orange, egg, cake, fig, peach, watermelon, date, chocolate"
)
DISLIKED = some("food", "onion, lemon, meat, yogurt, butter, fish, cucumber, carrot, pear")
SKILLS = some(
    "activity",
    "swim, sing, dance, cook, play football, play chess, play the guitar, ride a bicycle, draw pictures, take photos",
)
HOBBIES = some(
    "activity",
    "swim, run, read books, write letters, walk, listen to music, watch films, catch fish, grow flowers, tell stories, "
    "play chess, cook, dance",
)
RIDES = some("thing", "bus, train, car, bicycle")
# fact -> (stride through the choices, choices); see concepts.pick
CHOICES: dict[str, tuple[int, list[Word]]] = {
    "home": (7, _TOWNS),
    "job": (4, all_of("job")),
    "loved": (5, LOVED),
    "disliked": (4, DISLIKED),
    "sip": (5, all_of("drink")),
    "pet": (3, PETS),
    "petname": (5, all_of("petname")),
    "shade": (3, _COLORS),
    "hobby": (5, HOBBIES),
    "skill": (3, SKILLS),
    "trait": (3, all_of("trait")),
    "ride": (3, RIDES),
}


def fact(person: Word, name: str) -> Word:
    """Return a fixed fact about ``person``: a key of ``CHOICES``, or ``work``, ``friend``, ``petlook``, ``petdiet``."""
    rank = _RANK[person]
    if name == "work":
        return some("place", WORKPLACES[fact(person, "job").name])[0]
    if name == "friend":
        return PEOPLE[rank ^ 1]
    if name in ("petlook", "petdiet"):
        animal = _ANIMALS[fact(person, "pet").name]
        if name == "petdiet":
            return some("food", animal[0])[0]
        color = [look.strip() for look in animal[3].split(",") if look.strip() in _COLOR_NAMES]
        return some("color", color[rank % len(color)])[0]
    return pick(rank, *CHOICES[name])


def color_of(person: Word, thing: Word) -> Word:
    """Return the color of a thing that ``person`` owns."""
    return pick(_RANK[person] + 3 * OWNED.index(thing), 7, _COLORS)


def home_of(person: Word, kin: Word) -> Word:
    """Return the town where the person's relative ``kin`` lives."""
    return pick(_RANK[person] + 5 * _KIN.index(kin), 5, _TOWNS)


def height(person: Word) -> int:
    """Return the rank in height; no two people are equally tall."""
    return (_RANK[person] * 11 + 5) % len(PEOPLE)
