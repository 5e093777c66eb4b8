"""Models, SAEs and texts as they are given to commands: what only the hub has is asked for before
anything heavy is loaded."""

from collections.abc import Iterable

from energylens.hub import is_here, model_repository, need_hub, registered_repository


def need_sources(
    model: str | None = None, saes: Iterable[str] = (), texts: str | None = None
) -> None:
    """Make sure that what is given is here, or that the hub can be asked for it.

    Raises:
        HubError: the hub cannot be reached, and something of it is not kept here.
    """
    repository = None if model is None else model_repository(model)
    if repository is not None:
        need_hub(f"the model '{model}'", repository)
    for source in saes:
        repository = registered_repository(source.partition("/")[0])
        if repository is not None and not is_here(source):
            need_hub(f"the SAE '{source}'", repository)
    if texts is not None and texts.startswith("hf:"):
        from energylens.ingest.hub_texts import need_texts

        need_texts(texts)
