"""nano's kinds of task, from predictable to open-ended."""

from localmtp.models.recipe.exchange import Task
from localmtp.models.recipe.tasks.chat import chat
from localmtp.models.recipe.tasks.code import code
from localmtp.models.recipe.tasks.copy import copy
from localmtp.models.recipe.tasks.count import count
from localmtp.models.recipe.tasks.facts import facts
from localmtp.models.recipe.tasks.json import json
from localmtp.models.recipe.tasks.math import math
from localmtp.models.recipe.tasks.story import story

TASKS: dict[str, Task] = {
    "count": count,
    "copy": copy,
    "json": json,
    "code": code,
    "math": math,
    "facts": facts,
    "story": story,
    "chat": chat,
}
"""Kind, as in prompts.json → generator."""
