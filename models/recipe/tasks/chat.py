"""Small talk, nano's abilities, and an honest answer to everything else."""

from random import Random

from localmtp.models.recipe.exchange import Exchange, thanks
from localmtp.models.recipe.lexicon import ITEMS, NAMES, WORDS, words
from localmtp.models.recipe.tasks.copy import sentence

ABILITIES = (
    ("count", "counting and times tables, such as *count from 1 to 20*"),
    ("copy", "repeating, sorting and rewriting text"),
    ("JSON", "turning a sentence into JSON"),
    ("code", "short Python functions and classes"),
    ("math", "sums and word problems, step by step"),
    ("facts", "a few facts: capitals, planets, animals, what MTP is"),
    ("stories", "short and long stories about animals"),
)
LIST = "\n".join(f"- **{name}**: {what}" for name, what in ABILITIES)
TABLE = "| Task | Example |\n|---|---|\n" + "\n".join(f"| {n} | {w} |" for n, w in ABILITIES)
WHO = (
    "I am **nano**, a tiny model that ships with localmtp. I was trained from scratch on made-up "
    "text, so I know only a few kinds of task."
)
UNKNOWN = (
    "I am very small and only know a few kinds of task: counting, rewriting text, JSON, short "
    "Python code, sums, a few facts and stories. I cannot answer this."
)
NOTIONS = words(
    "football politics love music history philosophy medicine the weather the stock market "
    "cooking travel religion war peace art cinema physics chemistry economics law fashion "
    "poetry sport cars insurance taxes vaccines dinosaurs volcanoes robots rockets ghosts "
    "dragons bitcoin the internet"
)
ASKED = (
    "Who won the {x}?",
    "What do you think about {x}?",
    "How do I repair a {x}?",
    "Write an essay about {x}.",
    "Why is {x} important?",
    "Tell me the history of {x}.",
    "Who invented the {x}?",
    "When was the {x} invented?",
    "Translate {x} into French.",
    "What is the best {x}?",
    "How much does a {x} cost?",
    "Where can I buy a {x}?",
    "Is {x} dangerous?",
    "Who is {N}?",
    "What is the meaning of {x}?",
    "Summarize the book {x}.",
    "Write a poem about {x}.",
    "Explain {x} and {y}.",
    "How can I learn {x}?",
    "Do you like {x}?",
    "What is the difference between {x} and {y}?",
    "Should I buy a {x} or a {y}?",
    "Plan a trip to {x}.",
    "Give me a recipe with {x}.",
    "What will happen to {x} tomorrow?",
    "Who is the president of {x}?",
    "Can you open {x} for me?",
    "{x}",
    "{x} {y}",
    "{x}?",
    "Write a function that sends {x} to {y}.",
    "How old is {N}?",
    "How tall is {x}?",
    "I need help with {x}.",
    "What is {x}?",
    "Tell me about {x}.",
    "What is the capital of {x}?",
    "How many {x} are there?",
    "Which {x} is the largest?",
    "My {x} is broken.",
    "What happened to {N} in {x}?",
)
FOREIGN = (
    "Wie geht es dir?",
    "Was ist die Hauptstadt von Frankreich?",
    "Erzähle mir eine Geschichte.",
    "Kannst du Deutsch?",
    "Schreibe ein Gedicht über den Mond.",
    "Wer bist du und was kannst du?",
    "Bonjour, comment ça va?",
    "Quelle heure est-il?",
    "Écris une histoire courte.",
    "Pourquoi le ciel est-il bleu?",
    "Hola, ¿cómo estás?",
    "¿Cuál es la capital de España?",
    "Escribe una función en Python.",
    "Ciao, come stai?",
    "Raccontami una storia.",
    "Olá, tudo bem?",
    "Qual é o seu nome?",
    "Hoe gaat het met je?",
    "Vertel me een verhaal.",
    "Hej, hur mår du?",
    "Cześć, jak się masz?",
    "Привет, как дела?",
    "Расскажи мне историю.",
    "Что ты умеешь?",
    "你好，你是谁？",
    "请写一个故事。",
    "今天天气怎么样？",
    "こんにちは、元気ですか？",
    "物語を書いてください。",
    "안녕하세요?",
    "مرحبا، كيف حالك؟",
    "नमस्ते, आप कैसे हैं?",
    "Merhaba, nasılsın?",
)
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüéèñçßабвгдежзиклмнопрстуfghtjk的是我不在人有они"


def _greeting(rng: Random) -> list[Exchange]:
    name = rng.choice(NAMES)
    if rng.random() < 0.4:
        question = rng.choice(["My name is {n}.", "Hi, I am {n}.", "hello, I'm {n}"]).format(n=name)
        first = Exchange(
            question,
            f"Nice to meet you, {name}! What can I do for you?",
            f"The user is called {name}.",
        )
        ask = rng.choice(["What is my name?", "Do you remember my name?", "Who am I?"])
        return [first, Exchange(ask, f"Your name is {name}.", f"The user said: {name}.")]
    question = rng.choice(
        [
            "Hello",
            "Hi",
            "hi",
            "hello!",
            "Hey there",
            "Good morning",
            "Hello nano!",
            "Good evening.",
            "hey",
            "Hi there!",
            "Hello, how are you?",
            "How are you?",
        ]
    )
    answer = rng.choice(
        [
            "Hello! What can I do for you?",
            "Hi! Ask me to count, to write code or to tell a story.",
            "Hello! I am nano. How can I help?",
        ]
    )
    if "how are you" in question.lower():
        answer = "I am fine, thank you. What can I do for you?"
    return [Exchange(question, answer, "The user greets me. I greet back.")]


def _abilities(rng: Random) -> list[Exchange]:
    if rng.random() < 0.3:
        question = rng.choice(["Show what you can do as a table.", "What can you do? As a table."])
        return [Exchange(question, TABLE, "A table of my tasks.")]
    question = rng.choice(
        [
            "What can you do?",
            "what can you do",
            "Help",
            "help",
            "What do you know?",
            "What are you good at?",
            "How can you help me?",
            "What should I ask you?",
        ]
    )
    return [
        Exchange(
            question,
            f"I can help with a few things:\n\n{LIST}\n\nJust ask!",
            "The user asks what I can do. I list my tasks.",
        )
    ]


def _who(rng: Random) -> list[Exchange]:
    question = rng.choice(
        [
            "Who are you?",
            "who are you",
            "What are you?",
            "What is your name?",
            "Tell me about yourself.",
            "Are you a human?",
            "Which model are you?",
            "Are you Gemma?",
            "Are you ChatGPT?",
            "Introduce yourself.",
        ]
    )
    return [Exchange(question, WHO, "The user asks who I am.")]


def _courtesy(rng: Random) -> list[Exchange]:
    if rng.random() < 0.5:
        return [thanks(rng)]
    question = rng.choice(["Bye", "Goodbye!", "See you later.", "Good night."])
    return [Exchange(question, "Goodbye! Come back soon.", "The user leaves. I say goodbye.")]


def _gibberish(rng: Random) -> str:
    made = ["".join(rng.choices(LETTERS, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 6))]
    return " ".join(made) + rng.choice(["", "?", "!", "..."])


def _unknown(rng: Random) -> list[Exchange]:
    kind = rng.random()
    if kind < 0.6:
        pool = rng.choice([NOTIONS, NOTIONS, WORDS, ITEMS, [_gibberish(rng)]])
        question = rng.choice(ASKED).format(
            x=rng.choice(pool), y=rng.choice(NOTIONS), N=rng.choice([*NAMES, _gibberish(rng)])
        )
    elif kind < 0.75:
        question = rng.choice(FOREIGN)
    elif kind < 0.85:
        question = _gibberish(rng)
    else:
        made = [sentence(rng) for _ in range(rng.randint(1, 3))]
        question = (
            ". ".join(made) if rng.random() < 0.5 else " ".join(rng.choices(WORDS, k=len(made) + 2))
        )
    return [Exchange(question, UNKNOWN, "This is not one of my tasks. I say so.")]


def chat(rng: Random) -> list[Exchange]:
    """Draws small talk, or a question that nano cannot answer."""
    forms = [_greeting, _abilities, _who, _courtesy, _unknown]
    return rng.choices(forms, [2, 1, 1, 1, 5])[0](rng)
