"""Short stories, each told in every language."""

import random
from collections.abc import Iterator

from nemo_adapt.smallworld.concepts import LANGUAGES
from nemo_adapt.smallworld.draw import Scene, choose
from nemo_adapt.smallworld.patterns import realize
from nemo_adapt.smallworld.people import PEOPLE

MOST_SCENES = 3
# One scene per line: names of frames that share the words in their slots.
FACTS = """
lives
lives job
job commute
loves_food
loves_food dislikes_food
breakfast
breakfast commute
pet
pet pet_food
pet pet_slept
favorite_color
friend
friend taller
hobby
hobby habit
trait
trait lives
owns
owns favorite_color
animal_eats
animal_lives
animal_lives animal_eats
bigger
taller
food_color
food_color food_taste
next_day
near
lives near
sells
price
habit
can
can habit
family
family visited
flock
flock animal_eats
"""
EVENTS = """
bought
bought glad
bought gave other_glad
wants bought
bought_many
bought_many sells
gave_gift
gave_gift other_glad
spent
went
went saw
went_with
went_with saw
saw_animal
saw_animal animal_lives
met
met talked
lost
lost low found thanked
lost found
forgot
forgot low
ate
ate tasted
ate tasted drank
ate drank
made
made other_liked
made tasted_dish
wrote
wrote read_it other_glad
cleaned
cleaned opened
opened outside
broke
broke cleaned
chased
chased hid
pet_slept
pet_lost
pet_lost pet_found glad
visited
visited kin_gave glad
traveled
traveled there
was_doing
was_doing other_came
will
will_go
wants
lies
"""
TALK = """
where_is
where_lives
what_job
what_doing
what_bought
what_eats
what_color
where_thing
who_has
what_day
weather_now
weather_next
weather_past
do_you_like
no_thanks
greeting
greeting what_day
please_give
please_give thanked
said_beautiful
said_beautiful thanked_back
lets_go agreed
lets_go refused
asked_where answered_where
asked_where answered_where thanked
can_you
how_many
"""
# Events have enough variants to be told more often than facts without repetition.
EVENT_WEIGHT = 3
SCENES = [line.split() for line in f"{FACTS}{EVENTS * EVENT_WEIGHT}{TALK}".splitlines() if line]


Document = dict[str, str]


def story(rng: random.Random) -> Document:
    """Draw a story of one to three scenes about one person; return language -> text."""
    who = choose(rng, PEOPLE)
    told: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    left = SCENES
    for _ in range(1 + int(rng.random() * MOST_SCENES)):
        scene = Scene(rng, {"who": who})
        frames = choose(rng, left)
        left = [others for others in left if not set(others) & set(frames)]
        for frame in frames:
            for language in LANGUAGES:
                told[language].append(realize(frame, language, scene.get))
    return {language: " ".join(sentences) for language, sentences in told.items()}


def documents(seed: int) -> Iterator[Document]:
    """Yield stories endlessly; no text occurs twice in any language."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        document = story(rng)
        if seen.isdisjoint(document.values()):
            seen.update(document.values())
            yield document
