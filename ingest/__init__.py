"""Headless ingest: texts through a model and its SAEs into the shards and the index of a store.

The package can be called: `energylens.ingest("my.lens", "builtin:llama", "texts.jsonl")` is
`energylens.ingest.whole.ingest`, whose help tells the rest.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from energylens.errors import why_no_models

if TYPE_CHECKING:
    from energylens.queries.face import OpenStore


class _Callable(ModuleType):
    """A package of this name stands where `energylens.ingest` is looked up, so it is called."""

    def __call__(self, *args: Any, **options: Any) -> "OpenStore":
        try:
            from energylens.ingest.whole import ingest
        except ModuleNotFoundError as error:
            raise why_no_models(error) from error
        return ingest(*args, **options)


sys.modules[__name__].__class__ = _Callable
