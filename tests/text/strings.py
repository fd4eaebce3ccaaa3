"""The text that the vocabularies are trained on, and the strings that are encoded."""

import random

SENTENCES = """
A small club of people from different trades met every Friday evening.
They asked each other questions, and each answered what he knew best.
It's what we'd call a mixture: you're heard where you'll help, I've seen it.
The printer's devil didn't know, but the baker's wife could've told them.
The quick brown fox jumps over the lazy dog. Pack my box with five dozen jugs.
Ein kleiner Kreis von Leuten aus verschiedenen Berufen traf sich jeden Freitag.
Größe, Übermut und Straßenbahnen gehören zur schönen Überraschung.
Un petit cercle de gens de métiers différents se réunissait l'été à l'hôtel.
L'élève qu'on a reçu n'était pas là où l'on croyait; ça ira, garçon.
Un pequeño club de gente de oficios distintos se reunía cada año en España.
¿Qué pasó mañana? ¡Nada! El niño comió piñas y jalapeños.
Небольшой клуб людей разных ремёсел собирался каждую пятницу вечером.
Все счастливые семьи похожи друг на друга, каждая несчастлива по-своему.
Ένας μικρός όμιλος ανθρώπων από διάφορα επαγγέλματα μαζευόταν κάθε Παρασκευή.
מועדון קטן של אנשים ממקצועות שונים נפגש בכל יום שישי בערב.
نادٍ صغير من أصحاب الحرف المختلفة كان يجتمع مساء كل جمعة.
अलग-अलग पेशों के लोगों का एक छोटा सा समूह हर शुक्रवार को मिलता था।
ชมรมเล็ก ๆ ของคนต่างอาชีพพบกันทุกเย็นวันศุกร์
各行各业的人组成的小俱乐部每个星期五晚上聚会。他们互相提问,每个人回答自己最了解的。
いろいろな職業の人々の小さなクラブが、毎週金曜日の夜に集まりました。
カタカナとひらがなと漢字を、まぜて書く文章です。
다양한 직업을 가진 사람들의 작은 모임이 매주 금요일 저녁에 만났다.
Một câu lạc bộ nhỏ gồm những người làm nghề khác nhau gặp nhau mỗi tối thứ Sáu.
Küçük bir kulüp her cuma akşamı toplanırdı; İstanbul'da ılık bir gündü.
In 1727 they were 12; by 1743 there were 144, and 1000000 read the 365 pages of 2024.
Call 555-0123-4567 or +49 30 12345678 before 23:59:59 on 1999-12-31 (100%).
Prices: $3.50, €1,234.56, £99, ¥1000, 50% off! #1 @home a/b c\\d e|f ~x^2 & y_3 {z} [w] <v>.
def answer(question, expert=None):\n    if expert is None:\n        return {}\n    return expert[question]\n\n
for (int i = 0; i < n; i++) {\n\tsum += a[i] * b[i]; // dot product\n}\n\n\treturn sum;\r\n
static const char *const names[] = {"one", "two", "three"};\n#include <stdio.h>\n
SELECT name, COUNT(*) FROM members WHERE trade != 'baker' GROUP BY name;\n
HTTPServer getURLFromXMLParser iPhone camelCase snake_case SCREAMING_CASE kebab-case
Hello, world!  How are you?   Fine.    And you?     Well...\n\n\nThe end.\n
😀 😃 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ✨ ∑ ∫ ≤ ≠ → ← ½ ² Ⅻ ①
""".strip().split("\n")

# Tokens that no merge makes: found only where a whole piece is looked up.
WHOLE_WORDS = [" dictionary", "encyclopaedia", " Überraschungen", "日本語辞書", " \n\n\t",
               "'twas", "31415"]

# Added tokens: text, and whether it is a control token.
ADDED = [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True),
         ("<|im", False), ("<tool>", False), ("</tool>", False), ("    ", False),
         ("<|im_start|>user", True), ("«é»", False)]


def nasty():
    yield ""
    for c in " \n\t\r\0\x01\x1b\x7f'\"\\a1.-_é字😀":
        yield c
    yield "Hello, world!"
    yield "The quick brown fox jumps over the lazy dog."
    # runs of white space, alone, before and after words
    for space in (" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x0b", "\x85"):
        for n in (2, 3, 4, 5, 17):
            yield space * n
        yield "a" + space + "b"
        yield "a" + space * 2 + "b" + space * 3 + "1" + space * 4 + "!" + space
        yield space * 3 + "word"
        yield "word" + space * 3
    yield " \n \n  x"
    yield "\n  \n\t \n y\n"
    yield "  \r\n\r\n  z \r \n"
    yield "a \n\n\t b \n\n\tc"
    yield "x\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\ny"
    yield " " * 60 + "deep"
    yield "\t" * 40 + "deep"
    yield "trailing space \ntrailing tab\t\nend  "
    yield "\u2000\u2001\u2002\u2003\u2009\u200a\u202f\u205f\u1680x"
    yield "a\u180eb \u180e c\u180e\u180e"
    # digits
    for n in range(1, 21):
        yield "12345678901234567890"[:n]
    yield "a1b22c333d4444 5 66 777 8888 99999"
    yield "3.14159 1,234,567.89 -5 +6 1e10 0x1F 1_000 12:34"
    yield "٠١٢٣٤٥٦٧٨٩ ۱۲۳ १२३४ ๑๒๓ 一二三四 ①②③ ½¼¾ ²³ ⅣⅫ 𝟏𝟐𝟑"
    yield "1٢3४5 x²y³ 10½ H₂O ５６７８"
    yield "31415 31415926 x31415"
    # contractions, quotes
    for s in ("it's", "IT'S", "It'S", "we're WE'RE We'Re", "you'll YOU'LL y'all'd've",
              "can't CAN'T", "I'm I'M I'd I'D", "'s", "'S", " 's", "'sx", "'re", "'",
              "''", "' s", "x'", "'ſ 'ſt it'ſ", "it’s we’re", "'twas 'tis", "rock'n'roll",
              "l'été d'où qu'il", "\"'quoted'\"", "don't. 'don't'", "'LL'Ve'M'T'd"):
        yield s
    # letters and marks
    for s in ("café", "cafe\u0301", "a\u0301a\u0300\u0327", "Å \u212b A\u030a",
              "\u1e9b\u0323 \u1e9b \u0323", "q\u0307\u0323 q\u0323\u0307",
              "가 \u1100\u1161 각 \u1100\u1161\u11a8", "\u0958 \u0915\u093c",
              "\u0301alone", " \u0301\u0302\u0303", "x\u0300\u0301\u0302\u0303\u0304y",
              "e\u0323\u0301 e\u0301\u0323 \u1eb9\u0301", "\u2126 \u2160 ﬁ ﬂ ﬆ ß ẞ ŉ ǅ",
              "नमस्ते दुनिया", "สวัสดีชาวโลก", "ภาษาไทย", "বাংলা ভাষা", "தமிழ்",
              "שלום עולם", "שָׁלוֹם", "مرحبا بالعالم", "مُحَمَّدٌ", "\u202eabc\u202c",
              "Ελληνικά", "ὈΔΥΣΣΕΎΣ ᾳ ῳ", "Привет, мир!", "ЁЖИК ёжик", "ქართული ᲥᲐᲠᲗᲣᲚᲘ",
              "Հայերեն", "አማርኛ", "ᏣᎳᎩ ꮳꮃꭹ", "İstanbul ıi IİĞŞ", "Tiếng Việt", "žluťoučký kůň",
              "中文字符", "中文,标点。「引号」!", "日本語辞書", "ひらがなカタカナ漢字ー", "한국어 문장",
              "混ぜたtextとmixed文字123", "㐀㐁 𠀀𠀁 豈", "ㄅㄆㄇ ㆎ", "ｆｕｌｌ ＷＩＤＴＨ！～", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ℂℕℤ",
              "𐐀𐐨 𞤀𞤢 𑢠𑣀", "ªº ʰʲ ǅ Ǆ ǆ", "ꙮ ꜢꝯꝰꝱꞇꞈꞋ", "XMLHttpRequest iOS McDonald'S",
              "ABCdefGHI aBcDeF ÀÉÎõü ÄÖÜäöü", "HTTPServer's JSONParser'S", "ÆsopŒuvre"):
        yield s
    # symbols and emoji
    for s in ("😀😃😄", "👍🏽👍", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷🇪", "❤️❤", "1️⃣#️⃣", "a😀b 😀 c", "©®™", "→←⇒",
              "!!!", "...", "…", " ...", "?!?!", "--", "---", "—–-", "$100 €5 £3 ¥", "+=-*/^%",
              "a+b=c", "<=>", "`code`", "~/.config", "C:\\path\\to", "http://a.b/c?d=e&f#g",
              "user@example.com", "#hashtag @name", "(a)[b]{c}<d>", "«guillemets»", "„quotes“",
              ".,;:!?", "!a !b,c.d;e", "/* comment */ // x", "a//b///\n", "x!\n\n y?\r\n",
              "$a+$b<$c>$d^e~f|g`h", "::", "->", "=>", "&amp;", "\\n\\t", "_under_score_"):
        yield s
    # code
    yield "def f(x):\n    return x + 1\n"
    yield "if (a == b) {\n\t\tfoo(&bar, \"baz\\n\");\n\t}\n"
    yield "        for i in range(10):\n            print(i)\n\n\n"
    yield "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\"}"
    yield "<p class=\"x\">Hi</p><br/>\r\n"
    yield "#!/bin/sh\nset -eu\nls -l | grep '^d' > out.txt 2>&1"
    # invisible, control and odd characters
    for s in ("a\u200bb", "a\u200cb\u200dc", "\ufeffbom", "a\u00adb", "\ufffd", "\uffff",
              "\ufdd0\ufffe", "\U0010ffff", "\ue000", "\U000e0041", "a\0b\0", "\0\0\0",
              "\x00\x01\x02\x03\x1f \x7f\x80\x9f", "a\bb\x0cc\x0bd", "\u2028a\u2029",
              "\ud7ff\ue000", "\u07ff\u0800\uffff\U00010000", "\u0378 \u0530"):
        yield s
    # special tokens in text
    for s in ("<|endoftext|>", "a<|im_start|>b", "<|im_start|>user\nHi<|im_end|>\n",
              "<|im_start|><|im_end|>", "<|im", "<|im_", "<|im_start", "<|im_start|>use",
              "<|im_start|>users", "<|<|im<|im_end|>|>", "x <tool>  </tool> y", "<tool",
              "     five", "\n    four\n        eight", "«é»«e\u0301»", "<s>", "</s>",
              "<s>a</s>b", "a </s> <s> b", "<unk>", "x<unk>y", "<0x0A>", "a<0x41>",
              "\u2581", "a\u2581b \u2581 c", "▁▁▁", "<|endoftext|", "|>endoftext<|"):
        yield s
    # long words, long runs
    yield "pneumonoultramicroscopicsilicovolcanoconiosis"
    yield "Donaudampfschifffahrtsgesellschaftskapitän"
    yield "a" * 200
    yield "ab" * 60
    yield "=" * 80
    yield "-" * 33 + "\n"
    yield "字" * 40
    yield "😀" * 12
    yield "AAAA" * 16 + "aaaa"
    yield "look it up in the dictionary, the encyclopaedia or das Buch der Überraschungen"
    yield "dictionary dictionarys  dictionary"


def mixed(seed, count):
    """Random strings of pieces that like to meet at borders."""
    rng = random.Random(seed)
    parts = [" ", "  ", "\n", "\n\n", "\t", "\r\n", "a", "The", " word", "ÉCOLE", "été",
             "'s", "'LL", "'", "1", "23", "4567", "٣", "½", ".", ", ", "!!", "(", "$", "_",
             "中", "文字", "かな", "한", "привет", "e\u0301", "\u0301", "😀", "\u200d", "\u00a0",
             "<tool>", "<|im_end|>", "    ", "//", "\u3000", "ा", "Aa", "bB", "\x85",
             "\u180e", "!\n/", "中Aa", "\u1f80", "\u13a0", "\u212b", "\U00010400",
             "\u10d0", "\u2019", "\uff01", "\u3040", "\u30fb", "\u9fa6", "\u00aa", "\u02b0"]
    for _ in range(count):
        yield "".join(rng.choice(parts) for _ in range(rng.randint(3, 12)))


STRINGS = list(dict.fromkeys([*nasty(), *mixed(1727, 250)]))

# With random strings, so that there are merges across every border.
TRAINING = [s.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")
            for s in SENTENCES] + [
                s for s in mixed(1743, 600) if not any(a in s for a, _ in ADDED)]
