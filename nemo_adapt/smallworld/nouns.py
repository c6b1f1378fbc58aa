"""The nouns of the small world: one line per concept, one column per language (English, Turkish, Hindi, Arabic).

A cell holds comma-separated fields:

- English: singular, then the plural if it is irregular; ``-`` for a mass noun; for a place its preposition.
- Turkish: the stem; ``stem:soft`` if the form before a vowel differs; a final ``~`` if suffixes take front vowels
  despite the last vowel; a final ``+`` on a compound that already carries the possessive suffix.
- Hindi: direct singular, gender; ``pr`` if a place takes पर instead of में; ``fix`` if a final -ā does not inflect.
- Arabic: singular, then plural (for a food: plural, collective); ``f`` for a feminine without a feminine ending; ``on``
  if a place takes على instead of في.

Names have the same gender in all languages, in a separate column. The masculine names were chosen so that their Arabic
accusative has no written ending.
"""

PEOPLE = """
Adam    | m | Adem     | आदम     | آدم
Sara    | f | Sara     | सारा     | سارة
Yusuf   | m | Yusuf    | यूसुफ़    | يوسف
Layla   | f | Leyla    | लैला     | ليلى
Omar    | m | Ömer     | उमर     | عمر
Mariam  | f | Meryem   | मरियम    | مريم
Ibrahim | m | İbrahim  | इब्राहीम  | إبراهيم
Aisha   | f | Ayşe     | आयशा    | عائشة
Tom     | m | Tom      | टॉम      | توم
Anna    | f | Anna     | ऐना      | آنا
Ravi    | m | Ravi     | रवि      | رافي
Maya    | f | Maya     | माया     | مايا
Leo     | m | Leo      | लियो     | ليو
Nora    | f | Nora     | नोरा     | نورا
Levent  | m | Levent   | लेवेंट    | ليفنت
Zainab  | f | Zeynep   | ज़ैनब     | زينب
Peter   | m | Peter    | पीटर     | بيتر
Priya   | f | Priya    | प्रिया    | بريا
Arjun   | m | Arjun    | अर्जुन    | أرجون
Emma    | f | Emma     | एमा      | إيما
Ahmed   | m | Ahmet    | अहमद     | أحمد
Elif    | f | Elif     | एलिफ़    | إليف
Mohan   | m | Mohan    | मोहन     | موهان
Julia   | f | Julia    | जूलिया    | جوليا
Suleiman | m | Süleyman | सुलेमान  | سليمان
Rosa    | f | Rosa     | रोज़ा     | روزا
Hugo    | m | Hugo     | ह्यूगो    | هوغو
Mira    | f | Mira     | मीरा     | ميرا
Oskar   | m | Oskar    | ऑस्कर    | أوسكار
Salma   | f | Selma    | सलमा     | سلمى
Vikram  | m | Vikram   | विक्रम    | فيكرام
Clara   | f | Klara    | क्लारा    | كلارا
"""

PET_NAMES = """
Luna  | f | Luna  | लूना   | لونا
Simba | m | Simba | सिंबा  | سيمبا
Coco  | m | Koko  | कोको  | كوكو
Tiko  | m | Tiko  | टीको  | تيكو
Bobo  | m | Bobo  | बोबो  | بوبو
Mimi  | f | Mimi  | मिमी  | ميمي
Roko  | m | Roko  | रोको  | روكو
Lila  | f | Lila  | लीला  | ليلا
"""

TOWNS = """
Lumar | f | Lumar | लुमार  | لومار
Darun | f | Darun | दारुन  | دارون
Kiros | f | Kiros | किरोस  | كيروس
Nesra | f | Nesra | नेसरा   | نسرا
Orin  | f | Orin  | ओरिन  | أورين
Pelit | f | Pelit | पेलित   | بيليت
Sando | f | Sando | सांडो   | ساندو
Tovar | f | Tovar | तोवार  | توفار
Velma | f | Velma | वेलमा   | فيلما
Zarin | f | Zarin | ज़रीन   | زارين
Bermo | f | Bermo | बेरमो   | بيرمو
Galda | f | Galda | गाल्डा  | غالدا
"""

# Hindi and Arabic: the masculine, then the feminine if it is a different word.
JOBS = """
teacher      | öğretmen    | शिक्षक,शिक्षिका   | معلم,معلمة
doctor       | doktor      | डॉक्टर           | طبيب,طبيبة
farmer       | çiftçi      | किसान           | مزارع,مزارعة
baker        | fırıncı     | बेकर            | خباز,خبازة
cook         | aşçı        | रसोइया,रसोइन     | طباخ,طباخة
nurse        | hemşire     | नर्स             | ممرض,ممرضة
painter      | ressam      | चित्रकार         | رسام,رسامة
engineer     | mühendis    | इंजीनियर         | مهندس,مهندسة
gardener     | bahçıvan    | माली,मालिन      | بستاني,بستانية
tailor       | terzi       | दर्ज़ी,दर्ज़िन      | خياط,خياطة
writer       | yazar       | लेखक,लेखिका      | كاتب,كاتبة
musician     | müzisyen    | संगीतकार        | موسيقي,موسيقية
carpenter    | marangoz    | बढ़ई             | نجار,نجارة
pilot        | pilot       | पायलट          | طيار,طيارة
photographer | fotoğrafçı  | फ़ोटोग्राफ़र       | مصور,مصورة
"""

KIN = """
mother      | anne         | माँ,f          | والدة
father      | baba         | पिता,m,fix     | والد
brother     | erkek kardeş | भाई,m         | شقيق
sister      | kız kardeş   | बहन,f         | شقيقة
grandmother | büyükanne    | दादी,f        | جدة
grandfather | dede         | दादा,m,fix    | جد
aunt        | teyze        | मौसी,f        | خالة
uncle       | amca         | चाचा,m,fix    | عم
"""

ANIMALS = """
cat            | kedi         | बिल्ली,f    | قطة,قطط
dog            | köpek:köpeğ  | कुत्ता,m    | كلب,كلاب
horse          | at           | घोड़ा,m    | حصان,أحصنة
cow            | inek:ineğ    | गाय,f     | بقرة,أبقار
sheep,sheep    | koyun        | भेड़,f     | خروف,خراف
goat           | keçi         | बकरी,f    | عنزة,عنزات
hen            | tavuk:tavuğ  | मुर्गी,f    | دجاجة,دجاجات
duck           | ördek:ördeğ  | बत्तख,f    | بطة,بطات
rabbit         | tavşan       | खरगोश,m   | أرنب,أرانب
mouse,mice     | fare         | चूहा,m     | فأر,فئران
bird           | kuş          | चिड़िया,f   | عصفور,عصافير
pigeon         | güvercin     | कबूतर,m   | حمامة,حمامات
fish,fish      | balık:balığ  | मछली,f    | سمكة,أسماك
bear           | ayı          | भालू,m     | دب,دببة
fox,foxes      | tilki        | लोमड़ी,f   | ثعلب,ثعالب
wolf,wolves    | kurt:kurd    | भेड़िया,m   | ذئب,ذئاب
lion           | aslan        | शेर,m     | أسد,أسود
elephant       | fil          | हाथी,m    | فيل,فيلة
monkey         | maymun       | बंदर,m     | قرد,قرود
camel          | deve         | ऊँट,m     | جمل,جمال
donkey         | eşek:eşeğ    | गधा,m     | حمار,حمير
turtle         | kaplumbağa   | कछुआ,m    | سلحفاة,سلاحف
frog           | kurbağa      | मेंढक,m    | ضفدع,ضفادع
bee            | arı          | मधुमक्खी,f  | نحلة,نحلات
butterfly,butterflies | kelebek:kelebeğ | तितली,f | فراشة,فراشات
deer,deer      | geyik:geyiğ  | हिरण,m    | غزال,غزلان
owl            | baykuş       | उल्लू,m     | بومة,بومات
"""

FOODS = """
bread,-        | ekmek:ekmeğ          | रोटी,f       | خبز,-,خبز
rice,-         | pilav                | चावल,m      | أرز,-,أرز
soup,-         | çorba                | सूप,m        | حساء,-,حساء
cheese,-       | peynir               | पनीर,m      | جبن,-,جبن
meat,-         | et                   | मांस,m       | لحم,-,لحم
salad,-        | salata               | सलाद,m      | سلطة,-,سلطة
honey,-        | bal                  | शहद,m       | عسل,-,عسل
yogurt,-       | yoğurt:yoğurd        | दही,m       | لبن,-,لبن
butter,-       | tereyağı+            | मक्खन,m      | زبدة,-,زبدة
chocolate,-    | çikolata             | चॉकलेट,f     | شوكولاتة,-,شوكولاتة
corn,-         | mısır                | मक्का,m      | ذرة,-,ذرة
grass,-        | ot                   | घास,f       | عشب,-,عشب
fish,-         | balık:balığ          | मछली,f      | سمك,-,سمك
apple          | elma                 | सेब,m       | تفاحة,تفاحات,تفاح
banana         | muz                  | केला,m      | موزة,موزات,موز
orange         | portakal             | संतरा,m      | برتقالة,برتقالات,برتقال
lemon          | limon                | नींबू,m      | ليمونة,ليمونات,ليمون
carrot         | havuç:havuc          | गाजर,f      | جزرة,جزرات,جزر
onion          | soğan                | प्याज़,m      | بصلة,بصلات,بصل
cucumber       | salatalık:salatalığ  | खीरा,m      | خيارة,خيارات,خيار
egg            | yumurta              | अंडा,m       | بيضة,بيضات,بيض
cake           | kek                  | केक,m       | كعكة,كعكات,كعك
date           | hurma                | खजूर,m      | تمرة,تمرات,تمر
fig            | incir                | अंजीर,m      | تينة,تينات,تين
pear           | armut:armud          | नाशपाती,f    | إجاصة,إجاصات,إجاص
peach,peaches  | şeftali              | आड़ू,m       | خوخة,خوخات,خوخ
watermelon     | karpuz               | तरबूज,m     | بطيخة,بطيخات,بطيخ
sandwich,sandwiches | sandviç         | सैंडविच,m    | شطيرة,شطائر,شطائر
"""

DRINKS = """
milk,-     | süt           | दूध,m     | حليب,-,حليب
tea,-      | çay           | चाय,f     | شاي,-,شاي
coffee,-   | kahve         | कॉफ़ी,f    | قهوة,-,قهوة
water,-    | su:suy        | पानी,m    | ماء,-,ماء
juice,-    | meyve suyu+   | जूस,m     | عصير,-,عصير
lemonade,- | limonata      | शिकंजी,f   | عصير ليمون,-,عصير ليمون
"""

THINGS = """
book        | kitap:kitab   | किताब,f    | كتاب,كتب
pen         | kalem         | पेन,m      | قلم,أقلام
notebook    | defter        | कॉपी,f     | دفتر,دفاتر
newspaper   | gazete        | अख़बार,m    | جريدة,جرائد
picture     | resim:resm    | तस्वीर,f    | صورة,صور
bag         | çanta         | बैग,m      | حقيبة,حقائب
box,boxes   | kutu          | डिब्बा,m    | صندوق,صناديق
cup         | fincan        | प्याला,m    | فنجان,فناجين
glass,glasses | bardak:bardağ | गिलास,m  | كوب,أكواب
plate       | tabak:tabağ   | प्लेट,f     | طبق,أطباق
spoon       | kaşık:kaşığ   | चम्मच,m     | ملعقة,ملاعق
table       | masa          | मेज़,f      | طاولة,طاولات
chair       | sandalye      | कुर्सी,f     | كرسي,-
bed         | yatak:yatağ   | बिस्तर,m    | سرير,-
lamp        | lamba         | लैंप,m      | مصباح,مصابيح
clock       | saat~         | घड़ी,f      | ساعة,ساعات
door        | kapı          | दरवाज़ा,m   | باب,أبواب
window      | pencere       | खिड़की,f    | نافذة,نوافذ
key         | anahtar       | चाबी,f     | مفتاح,مفاتيح
phone       | telefon       | फ़ोन,m      | هاتف,هواتف
computer    | bilgisayar    | कंप्यूटर,m   | حاسوب,حواسيب
camera      | kamera        | कैमरा,m     | كاميرا,كاميرات,f
car         | araba         | कार,f      | سيارة,سيارات
bicycle     | bisiklet      | साइकिल,f   | دراجة,دراجات
ball        | top           | गेंद,f      | كرة,كرات
doll        | oyuncak bebek:oyuncak bebeğ | गुड़िया,f | دمية,-
toy         | oyuncak:oyuncağ | खिलौना,m | لعبة,-
hat         | şapka         | टोपी,f      | قبعة,قبعات
coat        | palto         | कोट,m      | معطف,معاطف
shirt       | gömlek:gömleğ | कमीज़,f     | قميص,قمصان
dress,dresses | elbise      | पोशाक,f    | فستان,فساتين
scarf,scarves | atkı        | स्कार्फ़,m   | وشاح,أوشحة
umbrella    | şemsiye       | छाता,m     | مظلة,مظلات
ring        | yüzük:yüzüğ   | अँगूठी,f    | خاتم,خواتم
mirror      | ayna          | आईना,m     | مرآة,مرايا
basket      | sepet         | टोकरी,f    | سلة,سلال
bottle      | şişe          | बोतल,f     | زجاجة,زجاجات
rope        | ip            | रस्सी,f     | حبل,حبال
tree        | ağaç:ağac     | पेड़,m      | شجرة,أشجار
flower      | çiçek:çiçeğ   | फूल,m      | زهرة,زهور
rose        | gül           | गुलाब,m    | وردة,ورود
carpet      | halı          | कालीन,m    | سجادة,-
guitar      | gitar         | गिटार,m    | غيتار,-
drum        | davul         | ढोल,m      | طبل,طبول
map         | harita        | नक्शा,m     | خريطة,خرائط
comb        | tarak:tarağ   | कंघी,f      | مشط,أمشاط
hammer      | çekiç:çekic   | हथौड़ा,m    | مطرقة,مطارق
candle      | mum           | मोमबत्ती,f   | شمعة,شموع
gift        | hediye        | तोहफ़ा,m    | هدية,هدايا
blanket     | battaniye     | कंबल,m      | بطانية,بطانيات
bus,buses   | otobüs        | बस,f       | حافلة,حافلات
train       | tren          | ट्रेन,f      | قطار,قطارات
plane       | uçak:uçağ     | हवाई जहाज़,m | طائرة,طائرات
boat        | tekne         | नाव,f      | قارب,قوارب
"""

PLACES = """
market,at     | pazar             | बाज़ार,m        | سوق,f
school,at     | okul              | स्कूल,m        | مدرسة
hospital,at   | hastane           | अस्पताल,m     | مستشفى
park,in       | park              | पार्क,m        | حديقة
garden,in     | bahçe             | बगीचा,m       | بستان
kitchen,in    | mutfak:mutfağ     | रसोई,f        | مطبخ
library,in    | kütüphane         | पुस्तकालय,m   | مكتبة
shop,in       | dükkân            | दुकान,f        | متجر
restaurant,in | restoran          | रेस्टोरेंट,m     | مطعم
bakery,at     | fırın             | बेकरी,f        | مخبز
station,at    | istasyon          | स्टेशन,m,pr    | محطة
airport,at    | havaalanı+        | हवाई अड्डा,m,pr | مطار
museum,in     | müze              | संग्रहालय,m    | متحف
cinema,at     | sinema            | सिनेमाघर,m    | سينما,f
village,in    | köy               | गाँव,m         | قرية
city,in       | şehir:şehr        | शहर,m         | مدينة
forest,in     | orman             | जंगल,m        | غابة
mountain,on   | dağ               | पहाड़,m,pr     | جبل,on
beach,on      | sahil             | समुद्र तट,m,pr | شاطئ,on
field,in      | tarla             | खेत,m         | حقل
square,in     | meydan            | चौक,m,pr      | ساحة
street,on     | sokak:sokağ       | सड़क,f,pr      | شارع
office,at     | ofis              | दफ़्तर,m       | مكتب
university,at | üniversite        | विश्वविद्यालय,m | جامعة
workshop,in   | atölye            | कार्यशाला,f    | ورشة
stadium,at    | stadyum           | स्टेडियम,m     | ملعب
bridge,on     | köprü             | पुल,m,pr      | جسر,on
café,in       | kafe              | कैफ़े,m        | مقهى
hotel,at      | otel              | होटल,m        | فندق
room,in       | oda               | कमरा,m        | غرفة
lake,in       | göl               | झील,f         | بحيرة
desert,in     | çöl               | रेगिस्तान,m    | صحراء,f
"""
