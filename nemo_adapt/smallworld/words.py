"""The other words of the small world: adjectives, activities, times, weather, relations in space, numbers, days.

Columns as in nouns.py. Hindi adjectives in -ā inflect by rule. An Arabic adjective has a second field if its feminine
is not formed with ة. Fields of the others:

- activities: English base, past, -ing (words after the verb only in the first); Turkish stem, aorist, present, future
  (words before the verb only in the first); Hindi stem; Arabic imperfect, verbal noun.
- weather: three tables of clauses (past, present, future); equal lines describe the same weather.
- numbers: the second Arabic field is the form used with feminine nouns.
"""

COLORS = """
red    | kırmızı    | लाल    | أحمر,حمراء
blue   | mavi       | नीला    | أزرق,زرقاء
green  | yeşil      | हरा     | أخضر,خضراء
yellow | sarı       | पीला    | أصفر,صفراء
black  | siyah      | काला    | أسود,سوداء
white  | beyaz      | सफ़ेद    | أبيض,بيضاء
brown  | kahverengi | भूरा    | بني
orange | turuncu    | नारंगी   | برتقالي
pink   | pembe      | गुलाबी   | وردي
purple | mor        | बैंगनी   | بنفسجي
grey   | gri        | स्लेटी   | رمادي
"""

ADJECTIVES = """
big       | büyük    | बड़ा       | كبير
small     | küçük    | छोटा      | صغير
new       | yeni     | नया       | جديد
old       | eski     | पुराना     | قديم
beautiful | güzel    | सुंदर      | جميل
cheap     | ucuz     | सस्ता     | رخيص
valuable  | değerli  | क़ीमती     | ثمين
clean     | temiz    | साफ़      | نظيف
dirty     | kirli    | गंदा      | متسخ
long      | uzun     | लंबा      | طويل
heavy     | ağır     | भारी      | ثقيل
light     | hafif    | हल्का     | خفيف
strong    | güçlü    | मज़बूत     | قوي
round     | yuvarlak | गोल      | مستدير
soft      | yumuşak  | मुलायम    | ناعم
strange   | garip    | अजीब     | غريب
fast      | hızlı    | तेज़      | سريع
slow      | yavaş    | धीमा      | بطيء,بطيئة
sweet     | tatlı    | मीठा      | حلو
fresh     | taze     | ताज़ा      | طازج
hot       | sıcak    | गरम      | ساخن
cold      | soğuk    | ठंडा      | بارد
delicious | lezzetli | स्वादिष्ट   | لذيذ
salty     | tuzlu    | नमकीन     | مالح
sour      | ekşi     | खट्टा     | حامض
quiet     | sessiz   | शांत      | هادئ
famous    | ünlü     | मशहूर     | مشهور
"""

TRAITS = """
clever | zeki     | होशियार  | ذكي
lazy   | tembel   | आलसी    | كسول
brave  | cesur    | बहादुर    | شجاع
kind   | nazik    | दयालु    | لطيف
cheerful | neşeli | हँसमुख   | مرح
polite | kibar    | विनम्र    | مهذب
honest | dürüst   | ईमानदार  | صادق
shy    | utangaç  | शर्मीला   | خجول
"""

GLAD_MOODS = """
happy   | mutlu     | ख़ुश       | سعيد
excited | heyecanlı | उत्साहित   | متحمس
pleased | memnun    | प्रसन्न    | مسرور
surprised | şaşkın  | हैरान     | متفاجئ
"""

LOW_MOODS = """
sad      | üzgün    | उदास    | حزين
angry    | kızgın   | नाराज़   | غاضب
worried  | endişeli | चिंतित   | قلق
"""

SPENT_MOODS = """
tired  | yorgun | थका हुआ | متعب
hungry | aç     | भूखा    | جائع
sick   | hasta  | बीमार   | مريض
"""

ACTIVITIES = """
swim,swam,swimming | yüz,yüzer,yüzüyor,yüzecek | तैर | يسبح,السباحة
run,ran,running | koş,koşar,koşuyor,koşacak | दौड़ | يركض,الركض
sing,sang,singing | şarkı söyle,söyler,söylüyor,söyleyecek | गीत गा | يغني,الغناء
dance,danced,dancing | dans et,eder,ediyor,edecek | नाच | يرقص,الرقص
sleep,slept,sleeping | uyu,uyur,uyuyor,uyuyacak | सो | ينام,النوم
read books,read,reading | kitap oku,okur,okuyor,okuyacak | किताबें पढ़ | يقرأ الكتب,قراءة الكتب
write letters,wrote,writing | mektup yaz,yazar,yazıyor,yazacak | चिट्ठियाँ लिख | يكتب الرسائل,كتابة الرسائل
cook,cooked,cooking | yemek yap,yapar,yapıyor,yapacak | खाना बना | يطبخ,الطبخ
play football,played,playing | futbol oyna,oynar,oynuyor,oynayacak | फ़ुटबॉल खेल | يلعب كرة القدم,لعب كرة القدم
play chess,played,playing | satranç oyna,oynar,oynuyor,oynayacak | शतरंज खेल | يلعب الشطرنج,لعب الشطرنج
walk,walked,walking | yürü,yürür,yürüyor,yürüyecek | टहल | يمشي,المشي
rest,rested,resting | dinlen,dinlenir,dinleniyor,dinlenecek | आराम कर | يرتاح,الراحة
work,worked,working | çalış,çalışır,çalışıyor,çalışacak | काम कर | يعمل,العمل
study,studied,studying | ders çalış,çalışır,çalışıyor,çalışacak | पढ़ाई कर | يدرس,الدراسة
draw pictures,drew,drawing | resim yap,yapar,yapıyor,yapacak | चित्र बना | يرسم الصور,رسم الصور
listen to music,listened,listening | müzik dinle,dinler,dinliyor,dinleyecek | संगीत सुन | يسمع الموسيقى,سماع الموسيقى
watch films,watched,watching | film izle,izler,izliyor,izleyecek | फ़िल्में देख | يشاهد الأفلام,مشاهدة الأفلام
play the guitar,played,playing | gitar çal,çalar,çalıyor,çalacak | गिटार बजा | يعزف على الغيتار,العزف على الغيتار
ride a bicycle,rode,riding | bisiklete bin,biner,biniyor,binecek | साइकिल चला | يركب الدراجة,ركوب الدراجة
catch fish,caught,catching | balık tut,tutar,tutuyor,tutacak | मछली पकड़ | يصطاد السمك,صيد السمك
drink tea,drank,drinking | çay iç,içer,içiyor,içecek | चाय पी | يشرب الشاي,شرب الشاي
grow flowers,grew,growing | çiçek yetiştir,yetiştirir,yetiştiriyor,yetiştirecek | फूल उगा | يزرع الزهور,زراعة الزهور
take photos,took,taking | fotoğraf çek,çeker,çekiyor,çekecek | तस्वीरें खींच | يلتقط الصور,التقاط الصور
tell stories,told,telling | hikâye anlat,anlatır,anlatıyor,anlatacak | कहानियाँ सुना | يروي القصص,رواية القصص
"""

PAST_TIMES = """
yesterday         | dün                  | कल              | أمس
this morning      | bu sabah             | आज सुबह          | هذا الصباح
last night        | dün gece             | कल रात           | الليلة الماضية
last week         | geçen hafta          | पिछले हफ़्ते        | في الأسبوع الماضي
last month        | geçen ay             | पिछले महीने        | في الشهر الماضي
last year         | geçen yıl            | पिछले साल         | في العام الماضي
last summer       | geçen yaz            | पिछली गर्मियों में    | في الصيف الماضي
last winter       | geçen kış            | पिछली सर्दियों में    | في الشتاء الماضي
one day           | bir gün              | एक दिन           | ذات يوم
two days ago      | iki gün önce         | दो दिन पहले        | قبل يومين
in the evening    | akşamleyin           | शाम को           | في المساء
at noon           | öğleyin              | दोपहर को          | عند الظهر
after lunch       | öğle yemeğinden sonra | दोपहर के खाने के बाद | بعد الغداء
before breakfast  | kahvaltıdan önce     | नाश्ते से पहले       | قبل الفطور
on Monday         | pazartesi günü       | सोमवार को         | يوم الاثنين
on Tuesday        | salı günü            | मंगलवार को        | يوم الثلاثاء
on Wednesday      | çarşamba günü        | बुधवार को         | يوم الأربعاء
on Thursday       | perşembe günü        | गुरुवार को         | يوم الخميس
on Friday         | cuma günü            | शुक्रवार को        | يوم الجمعة
on Saturday       | cumartesi günü       | शनिवार को         | يوم السبت
on Sunday         | pazar günü           | रविवार को         | يوم الأحد
"""

FUTURE_TIMES = """
tomorrow         | yarın             | कल               | غدًا
tomorrow morning | yarın sabah       | कल सुबह            | صباح الغد
tonight          | bu gece           | आज रात            | الليلة
next week        | gelecek hafta     | अगले हफ़्ते          | في الأسبوع القادم
next month       | gelecek ay        | अगले महीने          | في الشهر القادم
next year        | gelecek yıl       | अगले साल           | في العام القادم
next summer      | gelecek yaz       | अगली गर्मियों में      | في الصيف القادم
soon             | yakında           | जल्द ही            | قريبًا
on Friday        | cuma günü         | शुक्रवार को          | يوم الجمعة
on Sunday        | pazar günü        | रविवार को           | يوم الأحد
"""

HABIT_TIMES = """
every day     | her gün    | हर दिन      | كل يوم
every morning | her sabah  | हर सुबह      | كل صباح
every evening | her akşam  | हर शाम      | كل مساء
every week    | her hafta  | हर हफ़्ते     | كل أسبوع
every Sunday  | her pazar  | हर रविवार   | كل يوم أحد
sometimes     | bazen      | कभी-कभी     | أحيانًا
often         | sık sık    | अक्सर       | غالبًا
in the summer | yazın      | गर्मियों में    | في الصيف
in the winter | kışın      | सर्दियों में   | في الشتاء
"""

WEATHER_PAST = """
it was raining | yağmur yağıyordu | बारिश हो रही थी | كان المطر يهطل
it was snowing | kar yağıyordu | बर्फ़ गिर रही थी | كان الثلج يتساقط
the wind was blowing | rüzgâr esiyordu | हवा चल रही थी | كانت الرياح تهب
the sun was shining | güneş parlıyordu | सूरज चमक रहा था | كانت الشمس مشرقة
it was hot | hava sıcaktı | गर्मी थी | كان الجو حارًا
it was cold | hava soğuktu | ठंड थी | كان الجو باردًا
it was cloudy | hava bulutluydu | बादल छाए थे | كان الجو غائمًا
it was foggy | hava sisliydi | कोहरा था | كان الجو ضبابيًا
the weather was nice | hava güzeldi | मौसम अच्छा था | كان الجو جميلًا
"""

WEATHER_NOW = """
it is raining | yağmur yağıyor | बारिश हो रही है | المطر يهطل
it is snowing | kar yağıyor | बर्फ़ गिर रही है | الثلج يتساقط
the wind is blowing | rüzgâr esiyor | हवा चल रही है | الرياح تهب
the sun is shining | güneş parlıyor | सूरज चमक रहा है | الشمس مشرقة
it is hot | hava sıcak | गर्मी है | الجو حار
it is cold | hava soğuk | ठंड है | الجو بارد
it is cloudy | hava bulutlu | बादल छाए हैं | الجو غائم
it is foggy | hava sisli | कोहरा है | الجو ضبابي
the weather is nice | hava güzel | मौसम अच्छा है | الجو جميل
"""

WEATHER_FUTURE = """
it will rain | yağmur yağacak | बारिश होगी | سيهطل المطر
it will snow | kar yağacak | बर्फ़ गिरेगी | سيتساقط الثلج
the wind will blow | rüzgâr esecek | हवा चलेगी | ستهب الرياح
the sun will shine | güneş parlayacak | सूरज चमकेगा | ستكون الشمس مشرقة
it will be hot | hava sıcak olacak | गर्मी होगी | سيكون الجو حارًا
it will be cold | hava soğuk olacak | ठंड होगी | سيكون الجو باردًا
it will be cloudy | hava bulutlu olacak | बादल छाएँगे | سيكون الجو غائمًا
it will be foggy | hava sisli olacak | कोहरा होगा | سيكون الجو ضبابيًا
the weather will be nice | hava güzel olacak | मौसम अच्छा होगा | سيكون الجو جميلًا
"""

RELATIONS = """
under           | altında  | के नीचे   | تحت
on              | üstünde  | पर       | على
next to         | yanında  | के पास   | بجانب
behind          | arkasında | के पीछे  | خلف
in front of     | önünde   | के सामने  | أمام
inside          | içinde   | के अंदर  | داخل
"""

NUMBERS = """
three | üç    | तीन  | ثلاثة,ثلاث
four  | dört  | चार  | أربعة,أربع
five  | beş   | पाँच  | خمسة,خمس
six   | altı  | छह   | ستة,ست
seven | yedi  | सात  | سبعة,سبع
eight | sekiz | आठ   | ثمانية,ثماني
nine  | dokuz | नौ   | تسعة,تسع
ten   | on    | दस   | عشرة,عشر
"""

DAYS = """
Monday    | pazartesi | सोमवार   | الاثنين
Tuesday   | salı      | मंगलवार  | الثلاثاء
Wednesday | çarşamba  | बुधवार   | الأربعاء
Thursday  | perşembe  | गुरुवार   | الخميس
Friday    | cuma      | शुक्रवार  | الجمعة
Saturday  | cumartesi | शनिवार   | السبت
Sunday    | pazar     | रविवार   | الأحد
"""
