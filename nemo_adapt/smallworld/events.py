"""Sentences about past and future events. See patterns.py for the syntax, facts.py for the layout of the blocks."""

SENTENCES = """
bought
  {when} {who} bought {look.a} {thing} {shop.at}.
  {when} {who} {shop.abl} {look} bir {thing} aldı.
  {when} {who} ने {shop.loc} एक {look.agree@thing} {thing} {thing?ख़रीदा|ख़रीदी}।
  {when} {who?اشترى|اشترت} {who} {thing.acc} {look.acc@thing} من {shop.def}.

bought_many
  {lately} {who} bought {count} {crop.pl} {market.at}.
  {lately} {who} {market.abl} {count} {crop} aldı.
  {lately} {who} ने {market.loc} {count} {crop.pl} {crop?ख़रीदे|ख़रीदीं}।
  {lately} {who?اشترى|اشترت} {who} {count.count@crop} {crop.pl} من {market.def}.

gave
  {who?He|She} gave the {thing} to {other}.
  {thing.acc} {other.dat} verdi.
  उसने {other} को वह {thing} {thing?दिया|दी}।
  {who?أعطى|أعطت} {other} {thing.def}.

gave_gift
  {when} {who} gave {other} {look.a} {thing}.
  {when} {who}, {other.dat} {look} bir {thing} verdi.
  {when} {who} ने {other} को एक {look.agree@thing} {thing} {thing?दिया|दी}।
  {when} {who?أعطى|أعطت} {who} {other} {thing.acc} {look.acc@thing}.

other_glad
  {other} was very {glad}.
  {other} çok {glad.was}.
  {other} बहुत {glad.agree@other} {other?था|थी}।
  {other?كان|كانت} {other} {glad.acc@other} جدًا.

glad
  {who?He|She} was very {glad}.
  O çok {glad.was}.
  वह बहुत {glad.agree@who} {who?था|थी}।
  {who?كان|كانت} {glad.acc@who} جدًا.

low
  {who?He|She} was very {low}.
  O çok {low.was}.
  वह बहुत {low.agree@who} {who?था|थी}।
  {who?كان|كانت} {low.acc@who} جدًا.

spent
  {lately} {who} was {spent} and stayed at home.
  {lately} {who} {spent.was} ve evde kaldı.
  {lately} {who} {spent.agree@who} {who?था|थी} और घर पर {who?रहा|रही}।
  {lately} {who?كان|كانت} {who} {spent.acc@who} و{who?بقي|بقيت} في البيت.

went
  {when} {who} went {place.to} by {ride}.
  {when} {who} {place.dat} {ride.ins} gitti.
  {when} {who} {ride.obl} से {place.obl} {who?गया|गई}।
  {when} {who?ذهب|ذهبت} {who} {place.to} {ride.bi}.

went_with
  {when} {who} went {place.to} with {other}.
  {when} {who}, {other} ile {place.dat} gitti.
  {when} {who} {other} के साथ {place.obl} {who?गया|गई}।
  {when} {who?ذهب|ذهبت} {who} {place.to} مع {other}.

saw
  {who?He|She} saw {straycoat.a} {stray} there.
  Orada {straycoat} bir {stray} gördü.
  वहाँ उसने एक {straycoat.agree@stray} {stray} {stray?देखा|देखी}।
  {who?رأى|رأت} هناك {stray.acc} {straycoat.acc@stray}.

saw_animal
  {when} {who} saw {coat.a} {animal} {habitat.at}.
  {when} {who} {habitat.loc} {coat} bir {animal} gördü.
  {when} {who} ने {habitat.loc} एक {coat.agree@animal} {animal} {animal?देखा|देखी}।
  {when} {who?رأى|رأت} {who} {animal.acc} {coat.acc@animal} {habitat.at}.

met
  {when} {who} met {other} {place.at}.
  {when} {who} {place.loc} {other} ile karşılaştı.
  {when} {who} {place.loc} {other} से {who?मिला|मिली}।
  {when} {who?قابل|قابلت} {who} {other} {place.at}.

talked
  {who?He|She} talked with {other} for a long time.
  {other} ile uzun süre konuştu.
  उसने {other} से बहुत देर तक बातें कीं।
  {who?تحدث|تحدثت} مع {other} وقتًا طويلًا.

lost
  {lately} {who} lost {who?his|her} {mine}.
  {lately} {who} {mine.poss.acc} kaybetti.
  {lately} {who} ने {mine?अपना|अपनी} {mine} {mine?खो दिया|खो दी}।
  {lately} {who?أضاع|أضاعت} {who} {mine.his@who}.

found
  {other} found it {rel} the {spot}.
  {other} onu {spot.gen} {rel} buldu.
  {other} को वह {spot.obl} {rel} {mine?मिला|मिली}।
  {other?وجد|وجدت}{mine?ه|ها} {other} {rel} {spot.def}.

forgot
  {lately} {who} forgot {who?his|her} {mine} {place.at}.
  {lately} {who} {mine.poss.acc} {place.loc} unuttu.
  {lately} {who} {place.loc} {mine?अपना|अपनी} {mine} भूल {who?गया|गई}।
  {lately} {who?نسي|نسيت} {who} {mine.his@who} {place.at}.

thanked
  {who} thanked {other}.
  {who}, {other.dat} teşekkür etti.
  {who} ने {other} को धन्यवाद दिया।
  {who?شكر|شكرت} {who} {other}.

ate
  {lately} {who} ate {food.a} {eatery.at}.
  {lately} {who} {eatery.loc} {food.a} yedi.
  {lately} {who} ने {eatery.loc} {food.a} {food?खाया|खाई}।
  {lately} {who?أكل|أكلت} {who} {food.acc} {eatery.at}.

drank
  Then {who?he|she} drank some {dtaste} {drink}.
  Sonra biraz {dtaste} {drink} içti.
  फिर उसने {drink?थोड़ा|थोड़ी} {dtaste.agree@drink} {drink} {drink?पिया|पी}।
  ثم {who?شرب|شربت} {drink.acc} {dtaste.acc@drink}.

tasted
  The {food} was {ftaste}.
  {food} {ftaste.was}.
  {food} {ftaste.agree@food} {food?था|थी}।
  {food?كان|كانت} {food.def} {ftaste.acc@food}.

made
  {lately} {who} made {dish.a} for {other}.
  {lately} {who}, {other} için {dish.a} yaptı.
  {lately} {who} ने {other} के लिए {dish.a} {dish?बनाया|बनाई}।
  {lately} {who?أعد|أعدت} {who} {dish.acc} {other.li}.

tasted_dish
  The {dish} was {dishtaste}.
  {dish} {dishtaste.was}.
  {dish} {dishtaste.agree@dish} {dish?था|थी}।
  {dish?كان|كانت} {dish.def} {dishtaste.acc@dish}.

thanked_back
  {other} thanked {who?him|her} and smiled.
  {other} ona teşekkür etti ve gülümsedi.
  {other} ने उसे धन्यवाद दिया और {other?मुस्कुराया|मुस्कुराई}।
  {other?شكر|شكرت}{who?ه|ها} {other} و{other?ابتسم|ابتسمت}.

other_liked
  {other} liked the {dish} very much.
  {other} {dish.acc} çok beğendi.
  {other} को वह {dish} बहुत पसंद {dish?आया|आई}।
  {dish?أعجب|أعجبت} {dish.def} {other} كثيرًا.

wrote
  {when} {who} wrote a long letter to {other}.
  {when} {who}, {other.dat} uzun bir mektup yazdı.
  {when} {who} ने {other} को एक लंबी चिट्ठी लिखी।
  {when} {who?كتب|كتبت} {who} رسالة طويلة إلى {other}.

read_it
  {other} read the letter {rplace.at}.
  {other} mektubu {rplace.loc} okudu.
  {other} ने {rplace.loc} वह चिट्ठी पढ़ी।
  {other?قرأ|قرأت} {other} الرسالة {rplace.at}.

cleaned
  {lately} {who} cleaned the {mess}.
  {lately} {who} {mess.acc} temizledi.
  {lately} {who} ने {mess} साफ़ {mess?किया|की}।
  {lately} {who?نظف|نظفت} {who} {mess.def}.

opened
  {who} opened the {opening} and looked outside.
  {who} {opening.acc} açtı ve dışarıya baktı.
  {who} ने {opening} {opening?खोला|खोली} और बाहर देखा।
  {who?فتح|فتحت} {who} {opening.def} و{who?نظر|نظرت} إلى الخارج.

outside
  Outside, {skypast}.
  Dışarıda {skypast}.
  बाहर {skypast}।
  في الخارج {skypast}.

broke
  {lately} the {beast} broke the {fragile}.
  {lately} {beast} {fragile.acc} kırdı.
  {lately} {beast.obl} ने {fragile} {fragile?तोड़ दिया|तोड़ दी}।
  {lately} {beast?كسر|كسرت} {beast.def} {fragile.def}.

chased
  {lately} the {chaser} chased the {chased} {wild.at}.
  {lately} {chaser} {chased.acc} {wild.loc} kovaladı.
  {lately} {chaser.obl} ने {wild.loc} {chased.obl} का पीछा किया।
  {lately} {chaser?طارد|طاردت} {chaser.def} {chased.def} {wild.at}.

hid
  The {chased} ran away and hid {hiding} the {hideout}.
  {chased} kaçtı ve {hideout.gen} {hiding} saklandı.
  {chased} {chased?भागा|भागी} और {hideout.obl} {hiding} छिप {chased?गया|गई}।
  {chased?هرب|هربت} {chased.def} و{chased?اختبأ|اختبأت} {hiding} {hideout.def}.

pet_slept
  {petname} slept {rel} the {spot}.
  {petname} {spot.gen} {rel} uyudu.
  {petname} {spot.obl} {rel} {petname?सोया|सोई}।
  {petname?نام|نامت} {petname} {rel} {spot.def}.

pet_lost
  {lately} {petname} was lost. {who} looked for {petname?him|her} everywhere.
  {lately} {petname} kayboldu. {who} onu her yerde aradı.
  {lately} {petname} खो {petname?गया|गई}। {who} ने उसे हर जगह ढूँढा।
  {lately} {petname?ضاع|ضاعت} {petname}. {who?بحث|بحثت} {who} {petname?عنه|عنها} في كل مكان.

pet_found
  In the end {who?he|she} found {petname?him|her} {place.at}.
  Sonunda onu {place.loc} buldu.
  आख़िर में वह उसे {place.loc} {petname?मिला|मिली}।
  في النهاية {who?وجد|وجدت}{petname?ه|ها} {place.at}.

visited
  {when} {who} visited {who?his|her} {kin} in {kinhome}.
  {when} {who}, {kinhome.loc} yaşayan {kin.poss.acc} ziyaret etti.
  {when} {who} {kinhome} में {kin?अपने|अपनी} {kin} से {who?मिला|मिली}।
  {when} {who?زار|زارت} {who} {kin.his@who} في {kinhome}.

kin_gave
  {who?His|Her} {kin} gave {who?him|her} {gift.a}.
  {kin.poss} ona {gift.a} verdi.
  {kin?उसके|उसकी} {kin} ने उसे {gift.a} {gift?दिया|दी}।
  {kin?أعطا|أعطت}{who?ه|ها} {kin.his@who} {gift.acc}.

traveled
  {when} {who} traveled from {home} to {away} by {journey}.
  {when} {who}, {home.abl} {away.dat} {journey.ins} gitti.
  {when} {who} {home} से {away} {journey.obl} से {who?गया|गई}।
  {when} {who?سافر|سافرت} {who} من {home} إلى {away} {journey.bi}.

there
  There {skypast}.
  Orada {skypast}.
  वहाँ {skypast}।
  هناك {skypast}.

was_doing
  {lately} {who} was {act.ing} {actplace.at}.
  {lately} {who} {actplace.loc} {act.prog}du.
  {lately} {who} {actplace.loc} {act.stem} {who?रहा था|रही थी}।
  {lately} {who?كان|كانت} {who} {act.imp@who}{act.object} {actplace.at}.

other_came
  Then {other} came and brought {food.a}.
  Sonra {other} geldi ve {food.a} getirdi.
  फिर {other} {other?आया|आई} और {food.a} {other?लाया|लाई}।
  ثم {other?جاء|جاءت} {other} و{other?أحضر|أحضرت} {food.acc}.

will
  {soon} {who} will {act} {actplace.at}.
  {soon} {who} {actplace.loc} {act.fut}.
  {soon} {who} {actplace.loc} {act.fut@who}।
  {soon} {act.fut@who} {who}{act.object} {actplace.at}.

will_go
  {soon} {who} will go {place.to} with {other}.
  {soon} {who}, {other} ile {place.dat} gidecek.
  {soon} {who} {other} के साथ {place.obl} {who?जाएगा|जाएगी}।
  {soon} {who?سيذهب|ستذهب} {who} {place.to} مع {other}.

wants
  {who} wants to buy {look.a} {thing}.
  {who} {look} bir {thing} almak istiyor.
  {who} एक {look.agree@thing} {thing} ख़रीदना {who?चाहता|चाहती} है।
  {who?يريد|تريد} {who} شراء {thing} {look.agree@thing}.

lies
  The {mine} is {rel} the {spot}.
  {mine} {spot.gen} {rel}.
  {mine} {spot.obl} {rel} है।
  {mine.def} {rel} {spot.def}.
"""
