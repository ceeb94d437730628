"""What the sandbox's model knows."""

CAPITALS = {
    "Afghanistan": "Kabul",
    "Albania": "Tirana",
    "Algeria": "Algiers",
    "Argentina": "Buenos Aires",
    "Armenia": "Yerevan",
    "Australia": "Canberra",
    "Austria": "Vienna",
    "Bangladesh": "Dhaka",
    "Belgium": "Brussels",
    "Brazil": "Brasília",
    "Bulgaria": "Sofia",
    "Cambodia": "Phnom Penh",
    "Canada": "Ottawa",
    "Chile": "Santiago",
    "China": "Beijing",
    "Colombia": "Bogotá",
    "Croatia": "Zagreb",
    "Cuba": "Havana",
    "Cyprus": "Nicosia",
    "Denmark": "Copenhagen",
    "Ecuador": "Quito",
    "Egypt": "Cairo",
    "Estonia": "Tallinn",
    "Ethiopia": "Addis Ababa",
    "Finland": "Helsinki",
    "France": "Paris",
    "Georgia": "Tbilisi",
    "Germany": "Berlin",
    "Ghana": "Accra",
    "Greece": "Athens",
    "Hungary": "Budapest",
    "Iceland": "Reykjavík",
    "India": "New Delhi",
    "Indonesia": "Jakarta",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
    "Ireland": "Dublin",
    "Italy": "Rome",
    "Japan": "Tokyo",
    "Jordan": "Amman",
    "Kenya": "Nairobi",
    "Latvia": "Riga",
    "Lithuania": "Vilnius",
    "Luxembourg": "Luxembourg",
    "Mexico": "Mexico City",
    "Mongolia": "Ulaanbaatar",
    "Morocco": "Rabat",
    "Nepal": "Kathmandu",
    "the Netherlands": "Amsterdam",
    "New Zealand": "Wellington",
    "Nigeria": "Abuja",
    "Norway": "Oslo",
    "Pakistan": "Islamabad",
    "Peru": "Lima",
    "the Philippines": "Manila",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Romania": "Bucharest",
    "Russia": "Moscow",
    "Saudi Arabia": "Riyadh",
    "Serbia": "Belgrade",
    "Slovakia": "Bratislava",
    "Slovenia": "Ljubljana",
    "South Korea": "Seoul",
    "Spain": "Madrid",
    "Sweden": "Stockholm",
    "Switzerland": "Bern",
    "Thailand": "Bangkok",
    "Tunisia": "Tunis",
    "Turkey": "Ankara",
    "Ukraine": "Kyiv",
    "the United Kingdom": "London",
    "the United States": "Washington, D.C.",
    "Uruguay": "Montevideo",
    "Vietnam": "Hanoi",
}

ALIASES = {
    "britain": "the United Kingdom",
    "great britain": "the United Kingdom",
    "holland": "the Netherlands",
    "uk": "the United Kingdom",
    "united states of america": "the United States",
    "us": "the United States",
    "usa": "the United States",
}

EXAMPLES = {
    "animal": ("the otter", "the heron", "the lynx", "the badger", "the hare"),
    "bird": ("the heron", "the wren", "the kestrel", "the swift", "the robin"),
    "city": ("Lisbon", "Kyoto", "Montreal", "Nairobi", "Oslo"),
    "color": ("blue", "green", "red", "yellow", "violet"),
    "colour": ("blue", "green", "red", "yellow", "violet"),
    "continent": ("Africa", "Asia", "Europe", "Antarctica", "Australia"),
    "country": ("Portugal", "Japan", "Canada", "Kenya", "Norway"),
    "fish": ("the trout", "the perch", "the cod", "the pike", "the herring"),
    "flower": ("the tulip", "the rose", "the lily", "the iris", "the poppy"),
    "fruit": ("the apple", "the pear", "the plum", "the cherry", "the quince"),
    "lake": ("Lake Victoria", "Lake Superior", "Lake Baikal", "Lake Geneva", "Lake Titicaca"),
    "language": ("Portuguese", "Finnish", "Swahili", "Tamil", "Welsh"),
    "metal": ("iron", "copper", "tin", "silver", "zinc"),
    "mountain": ("Mont Blanc", "Kilimanjaro", "Denali", "Aconcagua", "Mount Fuji"),
    "number": ("seven", "twelve", "forty-two", "three", "nineteen"),
    "ocean": ("the Atlantic", "the Pacific", "the Indian Ocean", "the Arctic Ocean", "the Southern Ocean"),
    "planet": ("Saturn", "Mars", "Venus", "Neptune", "Jupiter"),
    "river": ("the Danube", "the Rhine", "the Nile", "the Amazon", "the Mekong"),
    "tree": ("the oak", "the birch", "the maple", "the willow", "the cedar"),
    "vegetable": ("the carrot", "the leek", "the turnip", "the bean", "the beet"),
}

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# Every word is one token of the sandbox's tokenizer, so prose of a wanted length can be written.
PROSE = """
the a one each every this that some many most of in on by with under over between beside after before along
river stone garden window morning evening harbor mountain valley bridge letter market village forest meadow
lantern teacher sailor painter baker farmer child traveler neighbor gardener singer carpenter weaver doctor
walks carries opens follows crosses gathers builds watches remembers paints repairs measures finds keeps brings
shares writes reads counts plants lifts turns holds quiet bright narrow early patient clear distant gentle
heavy warm cold green silver wooden small broad steady careful simple open and but while because when where
slowly often always together again nearly softly well here there today water bread light wind rain snow road
path field house door table book map song story clock boat wheel rope basket hammer needle thread
"""
PROSE_WORDS = tuple(PROSE.split())
