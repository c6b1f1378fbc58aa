"""The choices for freely drawn slots, and which words go together."""

from nemo_adapt.smallworld.concepts import FOOD_FACTS, Word, all_of, facts, some
from nemo_adapt.smallworld.people import LOVED, OWNED

BUYABLE = some(
    "thing",
    "book, pen, notebook, newspaper, picture, bag, box, cup, glass, plate, spoon, table, chair, bed, lamp, clock, "
    "phone, computer, camera, car, bicycle, ball, doll, toy, hat, coat, shirt, dress, scarf, umbrella, ring, mirror, "
    "basket, bottle, rope, flower, rose, carpet, guitar, drum, map, comb, hammer, candle, gift, blanket, boat",
)
# Small things that people carry, lose and put down.
CARRIED = some(
    "thing",
    "book, pen, notebook, newspaper, key, phone, camera, hat, scarf, umbrella, ring, ball, toy, map, comb, clock, "
    "spoon, cup, candle, hammer, coat, shirt",
)
_FOODS = facts(FOOD_FACTS)

# slot -> its choices
LISTS: dict[str, list[Word]] = {
    "when": all_of("past"),
    "lately": [
        time for time in all_of("past") if time.name not in ("last month", "last year", "last summer", "last winter")
    ],
    "soon": all_of("future"),
    "often": all_of("habit"),
    "glad": all_of("glad"),
    "low": all_of("low"),
    "spent": all_of("spent"),
    "town": all_of("town"),
    "day": all_of("day"),
    "kin": all_of("kin"),
    "count": all_of("number"),
    "animal": all_of("animal"),
    "skypast": all_of("skypast"),
    "skynow": all_of("skynow"),
    "thing": BUYABLE,
    "mine": CARRIED,
    "ware": [thing for thing in BUYABLE if thing in CARRIED],
    "stray": some("animal", "cat, dog, bird, pigeon, horse, donkey, mouse, butterfly, goat"),
    "own": OWNED,
    "gift": some(
        "thing", "book, pen, doll, toy, hat, scarf, ring, ball, flower, rose, umbrella, picture, guitar, shirt"
    ),
    "fragile": some("thing", "glass, cup, plate, bottle, mirror, lamp, window"),
    "opening": some("thing", "door, window"),
    "journey": some("thing", "bus, train, plane, car, boat"),
    "spot": some("thing", "table, chair, bed, box, bag, basket, tree, door, car, window, lamp, mirror, carpet"),
    "food": some("food", ",".join(name for name in _FOODS if name not in ("lemon", "honey", "soup"))),
    "treat": [*some("food", "soup, honey"), *LOVED],
    "ripe": some("food", ",".join(name for name, (color, _) in _FOODS.items() if color != "-")),
    "goods": some(
        "food", "bread, cake, sandwich, cheese, honey, butter, chocolate, meat, apple, orange, carrot, onion"
    ),
    "crop": some(
        "food", "apple, banana, orange, lemon, carrot, onion, cucumber, egg, pear, peach, watermelon, fig, cake"
    ),
    "dish": some("food", "soup, rice, salad, cake, sandwich, bread"),
    "drink": all_of("drink"),
    "shop": some("place", "market, shop, city, village"),
    "eatery": some("place", "restaurant, café, kitchen, hotel, garden, park, school, station"),
    "place": some(
        "place",
        "market, school, hospital, park, garden, library, shop, restaurant, bakery, station, airport, museum, cinema, "
        "village, city, forest, mountain, beach, field, square, office, university, stadium, café, "
        "hotel, lake, workshop",
    ),
    "rplace": some("place", "park, garden, kitchen, library, café, room, office, beach"),
    "mess": [
        *some("place", "kitchen, room, garden, shop, workshop"),
        *some("thing", "table, window, car, carpet, door"),
    ],
    "actplace": some(
        "place",
        "park, garden, kitchen, library, school, forest, beach, lake, stadium, café, room, hotel, cinema, office, "
        "square, village, street, university",
    ),
    "flock": some(
        "animal",
        "horse, cow, goat, hen, duck, rabbit, bird, pigeon, fish, bear, fox, wolf, lion, elephant, monkey, camel",
    ),
    "beast": some("animal", "cat, dog, monkey, goat, bird, donkey"),
    "chaser": some("animal", "cat, dog, fox, wolf, lion, owl"),
}
# Adjectives that fit every thing; LOOKS adds some for certain things, and those in TINTED may have a color.
PLAIN_LOOKS = ["big", "small", "new", "old", "beautiful", "cheap", "valuable"]
LOOKS = {
    "round": ["table", "mirror", "carpet", "box", "basket", "plate", "clock", "lamp"],
    "soft": ["blanket", "scarf", "doll", "bed", "carpet"],
    "long": ["rope", "scarf", "dress", "coat", "candle"],
    "heavy": ["table", "box", "hammer", "carpet", "computer", "bag", "drum"],
    "light": ["chair", "bag", "coat", "basket", "umbrella"],
    "strong": ["rope", "hammer", "box", "chair", "boat"],
    "fast": ["car", "bicycle", "boat", "computer"],
    "slow": ["boat", "computer"],
    "strange": ["picture", "map", "book", "hat", "lamp", "mirror"],
    "famous": ["book", "picture"],
    "clean": ["glass", "cup", "plate", "bottle", "shirt"],
    "dirty": ["bicycle", "bottle", "car", "carpet"],
}
TINTED = [
    "bag",
    "hat",
    "coat",
    "shirt",
    "dress",
    "scarf",
    "umbrella",
    "car",
    "bicycle",
    "ball",
    "blanket",
    "carpet",
    "cup",
    "flower",
    "rose",
    "notebook",
    "box",
    "basket",
    "pen",
    "phone",
    "lamp",
    "chair",
    "doll",
    "boat",
    "candle",
]
_ROUND_ABOUT = "under, next to, behind, in front of"
# thing -> relations in space that another thing may have to it
SPOTS = {
    "table": "under, on, next to",
    "chair": "under, on, behind",
    "bed": "under, on, next to",
    "box": "inside, behind, on",
    "bag": "inside, under, next to",
    "basket": "inside, next to, behind",
    "tree": _ROUND_ABOUT,
    "car": _ROUND_ABOUT,
    "door": "behind, in front of, next to",
    "window": "in front of, next to",
    "lamp": "under, next to, behind",
    "mirror": "behind, in front of",
    "carpet": "under, on",
}
SELLERS = {
    **{food.name: "market, shop" for food in all_of("food")},
    "bread": "bakery",
    "cake": "bakery",
    "sandwich": "café",
    "cheese": "shop",
    "chocolate": "shop",
    "meat": "shop",
    "butter": "shop",
    "honey": "village",
}
CHASES = {
    "cat": "mouse, bird, pigeon",
    "dog": "cat, rabbit",
    "fox": "hen, duck, rabbit",
    "wolf": "sheep, deer, goat",
    "lion": "deer, camel",
    "owl": "mouse, frog",
}
CHASE_PLACES = {
    "cat": "garden, street, park",
    "dog": "garden, street, park, square, bridge",
    "fox": "field, forest, village",
    "wolf": "field, forest, mountain",
    "lion": "desert, field",
    "owl": "forest, field",
}
HIDEOUTS = {
    "cat": "tree, box, car, basket",
    "dog": "tree, box, car, door",
    "fox": "tree, box, door",
    "wolf": "tree",
    "lion": "tree",
    "owl": "tree, basket",
}
