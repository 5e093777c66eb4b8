"""What the worker does with a model it holds; what it takes to load is told by `phases`."""

from collections.abc import Callable
from typing import Any

from energylens.ingest.on_request.attention import attention, sources
from energylens.ingest.on_request.attribute import attribute
from energylens.ingest.on_request.intervene import intervene
from energylens.ingest.on_request.prompt import prompt
from energylens.ingest.on_request.reopen import Reopened
from energylens.ingest.on_request.steer import steer
from energylens.ingest.progress import Progress

Answer = Callable[[Reopened, Any, Progress], Any]
ANSWERS: dict[str, Answer] = {
    "prompt": lambda reopened, asked, progress: prompt(reopened, asked),
    "intervene": lambda reopened, asked, progress: intervene(reopened, asked),
    "attribute": attribute,
    "steer": steer,
    "attention": attention,
    "sources": sources,
}
