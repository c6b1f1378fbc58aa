"""Dialogue: questions, answers, speech. See patterns.py for the syntax, facts.py for the layout of the blocks."""

SENTENCES = """
where_is
  Where is {who}? {who?He|She} is {place.at}.
  {who} nerede? O {place.loc}.
  {who} कहाँ है? वह {place.loc} है।
  أين {who}؟ {who?هو|هي} {place.at}.

where_lives
  Where does {who} live? {who?He|She} lives in {home}.
  {who} nerede yaşıyor? O {home.loc} yaşıyor.
  {who} कहाँ {who?रहता|रहती} है? वह {home} में {who?रहता|रहती} है।
  أين {who?يعيش|تعيش} {who}؟ {who?يعيش|تعيش} في {home}.

what_job
  What is {who}'s job? {who?He|She} is {job.a}.
  {who.gen} mesleği ne? O bir {job}.
  {who} क्या काम {who?करता|करती} है? वह {job.agree@who} है।
  ما مهنة {who}؟ {who?هو|هي} {job.agree@who}.

what_doing
  What is {who} doing? {who?He|She} is {act.ing} {actplace.at}.
  {who} ne yapıyor? O {actplace.loc} {act.prog}.
  {who} क्या {who?कर रहा|कर रही} है? वह {actplace.loc} {act.stem} {who?रहा|रही} है।
  ماذا {who?يفعل|تفعل} {who}؟ {act.imp@who}{act.object} {actplace.at}.

what_bought
  What did {who} buy {shop.at}? {who?He|She} bought {look.a} {thing}.
  {who} {shop.abl} ne aldı? {look} bir {thing} aldı.
  {who} ने {shop.loc} क्या ख़रीदा? उसने एक {look.agree@thing} {thing} {thing?ख़रीदा|ख़रीदी}।
  ماذا {who?اشترى|اشترت} {who} من {shop.def}؟ {who?اشترى|اشترت} {thing.acc} {look.acc@thing}.

what_eats
  What does the {animal} eat? The {animal} eats {diet.kind}.
  {animal} ne yer? {animal} {diet} yer.
  {animal} क्या {animal?खाता|खाती} है? {animal} {diet.kind} {animal?खाता|खाती} है।
  ماذا {animal?يأكل|تأكل} {animal.def}؟ {animal?يأكل|تأكل} {animal.def} {diet.kind}.

what_color
  What color is {who}'s {own}? It is {owncolor}.
  {who.gen} {own.poss} ne renk? {own.poss} {owncolor}.
  {who} {own?का|की} {own} किस रंग {own?का|की} है? वह {owncolor.agree@own} है।
  ما لون {own} {who}؟ {own?هو|هي} {owncolor.agree@own}.

where_thing
  Where is the {mine}? It is {rel} the {spot}.
  {mine} nerede? O {spot.gen} {rel}.
  {mine} कहाँ है? वह {spot.obl} {rel} है।
  أين {mine.def}؟ {mine?هو|هي} {rel} {spot.def}.

who_has
  Who has the {mine}? {other} has it, not {who}.
  {mine} kimde? {other.loc}, {who.loc} değil.
  {mine} किसके पास है? वह {other} के पास है, {who} के पास नहीं।
  مع من {mine.def}؟ {mine?هو|هي} مع {other} وليس مع {who}.

what_day
  What day is today? Today is {day}, and tomorrow is {day2}.
  Bugün günlerden ne? Bugün {day}, yarın {day2}.
  आज कौन सा दिन है? आज {day} है और कल {day2} है।
  أي يوم هو اليوم؟ اليوم هو {day} وغدًا {day2}.

weather_now
  How is the weather in {town} today? In {town} {skynow}.
  Bugün {town.loc} hava nasıl? {town.loc} {skynow}.
  आज {town} में मौसम कैसा है? {town} में {skynow}।
  كيف الجو اليوم في {town}؟ في {town} {skynow}.

weather_next
  Today {skynow}, but tomorrow {skyfuture}.
  Bugün {skynow} ama yarın {skyfuture}.
  आज {skynow}, लेकिन कल {skyfuture}।
  اليوم {skynow} لكن غدًا {skyfuture}.

weather_past
  {when} {skypast} in {town}.
  {when} {town.loc} {skypast}.
  {when} {town} में {skypast}।
  {when} {skypast} في {town}.

do_you_like
  Do you like {treat.kind}, {who}? Yes, I like {treat.kind} very much.
  {treat} sever misin, {who}? Evet, {treat.acc} çok severim.
  {who}, क्या तुम्हें {treat} पसंद है? हाँ, मुझे {treat} बहुत पसंद है।
  هل {who?تحب|تحبين} {treat.kind} يا {who}؟ نعم، أحب {treat.kind} كثيرًا.

no_thanks
  Do you want some {drink}, {who}? No, thank you, I am not thirsty.
  Biraz {drink} ister misin, {who}? Hayır, teşekkür ederim, susamadım.
  {who}, क्या तुम {drink?थोड़ा|थोड़ी} {drink} {who?पियोगे|पियोगी}? नहीं, धन्यवाद, मुझे प्यास नहीं है।
  هل {who?تريد|تريدين} بعض {drink.def} يا {who}؟ لا، شكرًا، لست {who?عطشان|عطشى}.

greeting
  Good morning, {who}! How are you? I am fine, thank you.
  Günaydın, {who}! Nasılsın? İyiyim, teşekkür ederim.
  सुप्रभात, {who}! तुम {who?कैसे|कैसी} हो? मैं ठीक हूँ, धन्यवाद।
  صباح الخير يا {who}! كيف حالك؟ أنا بخير، شكرًا.

please_give
  "Please give me the {mine}," said {who}.
  {who}, "Lütfen bana {mine.acc} ver," dedi.
  {who} ने कहा, "कृपया मुझे वह {mine} दीजिए।"
  {who?قال|قالت} {who}: "أعطني {mine.def} من فضلك."

said_beautiful
  {who} said to {other}, "Your {mine} is very beautiful."
  {who}, {other.dat} "Senin {mine.yours} çok güzel," dedi.
  {who} ने {other} से कहा, "{mine?तुम्हारा|तुम्हारी} {mine} बहुत सुंदर है।"
  {who?قال|قالت} {who} {other.li}: "{mine.your} {mine?جميل|جميلة} جدًا."

lets_go
  "Let's go {place.to} tomorrow," said {who} to {other}.
  {who}, {other.dat} "Yarın {place.dat} gidelim," dedi.
  {who} ने {other} से कहा, "चलो, कल {place.obl} चलते हैं।"
  {who?قال|قالت} {who} {other.li}: "هيا نذهب غدًا {place.to}."

agreed
  {other} said, "Yes, that is a good idea."
  {other}, "Evet, bu iyi bir fikir," dedi.
  {other} ने कहा, "हाँ, यह अच्छा विचार है।"
  {other?قال|قالت} {other}: "نعم، هذه فكرة جيدة."

refused
  {other} said, "No, I have a lot of work tomorrow."
  {other}, "Hayır, yarın çok işim var," dedi.
  {other} ने कहा, "नहीं, कल मुझे बहुत काम है।"
  {other?قال|قالت} {other}: "لا، عندي عمل كثير غدًا."

asked_where
  {who} asked {other}, "Where is my {mine}?"
  {who}, {other.dat} "Benim {mine.my} nerede?" diye sordu.
  {who} ने {other} से पूछा, "{mine?मेरा|मेरी} {mine} कहाँ है?"
  {who?سأل|سألت} {who} {other}: "أين {mine.my}؟"

answered_where
  {other} answered, "Your {mine} is {rel} the {spot}."
  {other}, "Senin {mine.yours} {spot.gen} {rel}," diye cevap verdi.
  {other} ने जवाब दिया, "{mine?तुम्हारा|तुम्हारी} {mine} {spot.obl} {rel} है।"
  {other?أجاب|أجابت} {other}: "{mine.your} {rel} {spot.def}."

can_you
  Can {who} {skill}? Yes, {who?he|she} can {skill}.
  {who} {skill.can} mi? Evet, {skill.can}.
  क्या {who} {skill.stem} {who?सकता|सकती} है? हाँ, वह {skill.stem} {who?सकता|सकती} है।
  هل {who?يجيد|تجيد} {who} {skill.masdar}؟ نعم، {who?يجيد|تجيد} {skill.masdar}.

how_many
  How many {crop.pl} did {who} buy? {who?He|She} bought {count} {crop.pl}.
  {who} kaç {crop} aldı? {count} {crop} aldı.
  {who} ने {crop?कितने|कितनी} {crop.pl} {crop?ख़रीदे|ख़रीदीं}? उसने {count} {crop.pl} {crop?ख़रीदे|ख़रीदीं}।
  كم {crop.acc} {who?اشترى|اشترت} {who}؟ {who?اشترى|اشترت} {count.count@crop} {crop.pl}.
"""
