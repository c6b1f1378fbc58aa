"""Draw the words of a story: fill a slot with a word that fits those in the other slots."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from nemo_adapt.smallworld import people
from nemo_adapt.smallworld.concepts import (
    ANIMAL_FACTS,
    FOOD_FACTS,
    PLACE_ACTIVITIES,
    WORDS,
    Word,
    all_of,
    facts,
    some,
)
from nemo_adapt.smallworld.things import (
    CHASE_PLACES,
    CHASES,
    HIDEOUTS,
    LISTS,
    LOOKS,
    PLAIN_LOOKS,
    SELLERS,
    SPOTS,
    TINTED,
)

T = TypeVar("T")
_ANIMALS = facts(ANIMAL_FACTS)
_FOODS = facts(FOOD_FACTS)
_ACTIVITIES = facts(PLACE_ACTIVITIES)


def choose(rng: random.Random, choices: Sequence[T]) -> T:
    """Draw one of ``choices``, with ``random()`` only, whose sequence is the same in every version of Python."""
    return choices[int(rng.random() * len(choices))]


@dataclass
class Scene:
    """The words in the slots of a scene so far; a slot is drawn when a sentence first needs it."""

    rng: random.Random
    words: dict[str, Word] = field(default_factory=dict)

    def get(self, slot: str) -> Word:
        """Return the word in ``slot``, drawing it first if needed."""
        if slot not in self.words:
            self.words[slot] = _draw(self, slot)
        return self.words[slot]


def _draw(scene: Scene, slot: str) -> Word:
    if slot in SAMPLERS:
        return SAMPLERS[slot](scene)
    if slot in LISTS:
        return choose(scene.rng, LISTS[slot])
    return people.fact(scene.get("who"), slot)


def _other(scene: Scene) -> Word:
    who = scene.get("who")
    return choose(scene.rng, [people.fact(who, "friend"), *(p for p in people.PEOPLE if p is not who)])


def _pair(slot: str, rival: str, key: Callable[[Word], int], largest: bool) -> Callable[[Scene], Word]:
    def sampler(scene: Scene) -> Word:
        return (max if largest else min)(scene.get(slot), scene.get(rival), key=key)

    return sampler


def _size(animal: Word) -> int:
    return int(_ANIMALS[animal.name][2])


def _rival_animal(scene: Scene) -> Word:
    size = _size(scene.get("animal"))
    return choose(scene.rng, [animal for animal in all_of("animal") if _size(animal) != size])


def _look(scene: Scene) -> Word:
    thing = scene.get("thing").name
    own = [name for name, things in LOOKS.items() if thing in things]
    if thing in TINTED and scene.rng.random() < 0.5:
        return choose(scene.rng, all_of("color"))
    return WORDS["adjective"][choose(scene.rng, PLAIN_LOOKS + own)]


def _coat(slot: str) -> Callable[[Scene], Word]:
    def sampler(scene: Scene) -> Word:
        name = choose(scene.rng, _ANIMALS[scene.get(slot).name][3].split(",")).strip()
        return WORDS["color" if name in WORDS["color"] else "adjective"][name]

    return sampler


def _of_animal(slot: str, column: int, kind: str) -> Callable[[Scene], Word]:
    return lambda scene: WORDS[kind][_ANIMALS[scene.get(slot).name][column]]


def _taste(slot: str) -> Callable[[Scene], Word]:
    return lambda scene: choose(scene.rng, some("adjective", _FOODS[scene.get(slot).name][1]))


def _price(scene: Scene) -> Word:
    numbers = all_of("number")
    return numbers[all_of("thing").index(scene.get("ware")) * 5 % len(numbers)]


def _sky(slot: str, than: str) -> Callable[[Scene], Word]:
    def sampler(scene: Scene) -> Word:
        now = all_of(than).index(scene.get(than))
        return choose(scene.rng, [word for index, word in enumerate(all_of(slot)) if index != now])

    return sampler


def _next(kind: str, slot: str) -> Callable[[Scene], Word]:
    def sampler(scene: Scene) -> Word:
        around = all_of(kind)
        return around[(around.index(scene.get(slot)) + 1) % len(around)]

    return sampler


def _away(scene: Scene) -> Word:
    return choose(scene.rng, [town for town in all_of("town") if town is not scene.get("home")])


def _from_table(slot: str, table: dict[str, str], kind: str) -> Callable[[Scene], Word]:
    return lambda scene: choose(scene.rng, some(kind, table[scene.get(slot).name]))


SAMPLERS: dict[str, Callable[[Scene], Word]] = {
    "other": _other,
    "rival": lambda scene: choose(scene.rng, [p for p in people.PEOPLE if p is not scene.get("who")]),
    "tall": _pair("who", "rival", people.height, largest=True),
    "short": _pair("who", "rival", people.height, largest=False),
    "rival_animal": _rival_animal,
    "bigger": _pair("animal", "rival_animal", _size, largest=True),
    "smaller": _pair("animal", "rival_animal", _size, largest=False),
    "diet": _of_animal("animal", 0, "food"),
    "habitat": _of_animal("animal", 1, "place"),
    "fplace": _of_animal("flock", 1, "place"),
    "coat": _coat("animal"),
    "straycoat": _coat("stray"),
    "look": _look,
    "price": _price,
    "owncolor": lambda scene: people.color_of(scene.get("who"), scene.get("own")),
    "kinhome": lambda scene: people.home_of(scene.get("who"), scene.get("kin")),
    "ripecolor": lambda scene: WORDS["color"][_FOODS[scene.get("ripe").name][0]],
    "ripetaste": _taste("ripe"),
    "ftaste": _taste("food"),
    "dishtaste": _taste("dish"),
    "dtaste": lambda scene: WORDS["adjective"]["hot" if scene.get("drink").name in ("tea", "coffee") else "cold"],
    "day2": _next("day", "day"),
    "neighbor": _next("town", "town"),
    "away": _away,
    "skyfuture": _sky("skyfuture", than="skynow"),
    "act": _from_table("actplace", {place: acts for place, (acts,) in _ACTIVITIES.items()}, "activity"),
    "goodshop": _from_table("goods", SELLERS, "place"),
    "market": _from_table("crop", SELLERS, "place"),
    "rel": _from_table("spot", SPOTS, "relation"),
    "hiding": _from_table("hideout", SPOTS, "relation"),
    "chased": _from_table("chaser", CHASES, "animal"),
    "wild": _from_table("chaser", CHASE_PLACES, "place"),
    "hideout": _from_table("chaser", HIDEOUTS, "thing"),
}
"""Slot -> the function that draws its word; other slots are a free choice from things.py or a fact about ``who``."""
