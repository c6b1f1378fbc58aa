"""Sentences about permanent facts: who lives where, what an animal eats. See patterns.py for the syntax.

A block is the name of the frame, then the same sentence in English, Turkish, Hindi and Arabic.
"""

SENTENCES = """
lives
  {who} lives in {home}.
  {who} {home.loc} yaşıyor.
  {who} {home} में {who?रहता|रहती} है।
  {who?يعيش|تعيش} {who} في {home}.

job
  {who} is {job.a}. {who?He|She} works {work.at}.
  {who} {job.dir}. {work.loc} çalışıyor.
  {who} {job.agree@who} है। वह {work.loc} काम {who?करता|करती} है।
  {who} {job.agree@who}. {who?يعمل|تعمل} {work.at}.

loves_food
  {who} likes {loved.kind} very much.
  {who} {loved.acc} çok sever.
  {who} को {loved} बहुत पसंद है।
  {who?يحب|تحب} {who} {loved.kind} كثيرًا.

dislikes_food
  {who} does not like {disliked.kind}.
  {who} {disliked.acc} sevmez.
  {who} को {disliked} पसंद नहीं है।
  لا {who?يحب|تحب} {who} {disliked.kind}.

breakfast
  For breakfast {who} eats {loved.a} and drinks {sip.a}.
  {who} kahvaltıda {loved.a} yer ve {sip.a} içer.
  {who} नाश्ते में {loved.a} {who?खाता|खाती} है और {sip.a} {who?पीता|पीती} है।
  {who?يأكل|تأكل} {who} {loved.acc} في الفطور و{who?يشرب|تشرب} {sip.acc}.

pet
  {who} has {petlook.a} {pet}. The {pet}'s name is {petname}.
  {who.gen} {petlook} bir {pet.poss} var. {pet.gen} adı {petname}.
  {who} के पास एक {petlook.agree@pet} {pet} है। {pet.obl} का नाम {petname} है।
  لدى {who} {pet} {petlook.agree@pet}. اسم {pet.def} {petname}.

pet_food
  {petname} likes to eat {petdiet.kind}.
  {petname} {petdiet} yemeyi sever.
  {petname} को {petdiet.kind} खाना पसंद है।
  {petname?يحب|تحب} {petname} أكل {petdiet.kind}.

favorite_color
  {who}'s favorite color is {shade}.
  {who.gen} en sevdiği renk {shade.dir}.
  {who} का पसंदीदा रंग {shade} है।
  اللون المفضل عند {who} هو {shade.def}.

friend
  {who} and {friend} are good friends.
  {who} ile {friend} iyi arkadaştır.
  {who} और {friend} अच्छे दोस्त हैं।
  {who} و{friend} صديقان حميمان.

hobby
  {who} likes {hobby.ing}.
  {who} {hobby.meyi} sever.
  {who} को {hobby.inf} पसंद है।
  {who?يحب|تحب} {who} {hobby.masdar}.

trait
  {who} is very {trait}.
  {who} çok {trait.dir}.
  {who} बहुत {trait.agree@who} है।
  {who} {trait.agree@who} جدًا.

owns
  {who}'s {own} is {owncolor}.
  {who.gen} {own.poss} {owncolor}.
  {who} {own?का|की} {own} {owncolor.agree@own} है।
  {own} {who} {owncolor.agree@own}.

animal_eats
  {animal.pl} eat {diet.kind}.
  {animal.pl} {diet} yer.
  {animal.pl} {diet.kind} {animal?खाते|खाती} हैं।
  تأكل {animal.defpl} {diet.kind}.

animal_lives
  {animal.pl} live {habitat.at}.
  {animal.pl} {habitat.loc} yaşar.
  {animal.pl} {habitat.loc} {animal?रहते|रहती} हैं।
  تعيش {animal.defpl} {habitat.at}.

bigger
  {bigger.a} is bigger than {smaller.a}.
  {bigger} {smaller.abl} büyüktür.
  {bigger} {smaller.obl} से {bigger?बड़ा होता|बड़ी होती} है।
  {bigger.def} أكبر من {smaller.def}.

taller
  {tall} is taller than {short}.
  {tall}, {short.abl} daha uzun.
  {tall} {short} से {tall?लंबा|लंबी} है।
  {tall} أطول من {short}.

food_color
  {ripe.kind} {ripe.be} {ripecolor}.
  {ripe} {ripecolor.dir}.
  {ripe} {ripecolor.agree@ripe} {ripe?होता|होती} है।
  {ripe.kind} {ripecolor.kind@ripe}.

food_taste
  {ripe.kind} {ripe.be} {ripetaste}.
  {ripe} {ripetaste.dir}.
  {ripe} {ripetaste.agree@ripe} {ripe?होता|होती} है।
  {ripe.kind} {ripetaste.kind@ripe}.

next_day
  {day2} comes after {day}.
  {day.abl} sonra {day2} gelir.
  {day} के बाद {day2} आता है।
  يأتي يوم {day2} بعد يوم {day}.

near
  {town} is near {neighbor}.
  {town}, {neighbor.dat} yakındır.
  {town} {neighbor} के पास है।
  {town} قريبة من {neighbor}.

sells
  People buy {goods.kind} {goodshop.at}.
  İnsanlar {goods.acc} {goodshop.abl} alır.
  लोग {goodshop.loc} {goods.kind} ख़रीदते हैं।
  يشتري الناس {goods.kind} {goodshop.at}.

price
  The price of the {ware} is {price} dollars.
  {ware.gen} fiyatı {price} dolar.
  {ware.obl} की क़ीमत {price} डॉलर है।
  سعر {ware.def} {price} دولارات.

habit
  {who} {act.s} {actplace.at} {often}.
  {who} {often} {actplace.loc} {act.aor}.
  {who} {often} {actplace.loc} {act.hab@who} है।
  {act.imp@who} {who}{act.object} {actplace.at} {often}.

commute
  {who} goes {work.to} by {ride} every day.
  {who} her gün {work.dat} {ride.ins} gider.
  {who} हर दिन {ride.obl} से {work.obl} {who?जाता|जाती} है।
  {who?يذهب|تذهب} {who} كل يوم {work.to} {ride.bi}.

can
  {who} can {skill} very well.
  {who} çok iyi {skill.can}.
  {who} बहुत अच्छी तरह {skill.stem} {who?सकता|सकती} है।
  {who?يجيد|تجيد} {who} {skill.masdar}.

family
  {who}'s {kin} lives in {kinhome}.
  {who.gen} {kin.poss} {kinhome.loc} yaşıyor.
  {who} {kin?के|की} {kin} {kinhome} में {kin?रहते|रहती} हैं।
  {kin?يعيش|تعيش} {kin} {who} في {kinhome}.

flock
  There are {count} {flock.pl} {fplace.at}.
  {fplace.loc} {count} {flock} var.
  {fplace.loc} {count} {flock.pl} हैं।
  {fplace.at} {count.count@flock} {flock.pl}.
"""
