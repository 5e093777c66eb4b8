"""How texts are cut into contexts for a model and its SAEs: whether BOS begins them, how long."""

from energylens.errors import UsageError
from energylens.lens.models import LanguageModel
from energylens.lens.saes import Sae

DEFAULT_N_CTX = 1024
"""Where neither the user nor an SAE says a length, if the model takes that much."""


def choose_bos(asked: bool | None, model: LanguageModel, saes: list[Sae]) -> tuple[bool, list[str]]:
    """Whether contexts begin with BOS, and what is to be said of it; `asked` None leaves it to the
    SAEs and the tokenizer.

    Raises:
        UsageError: the SAEs disagree, nothing stands for a BOS that is asked for, or the embedding
            does not hold what does.
    """
    declared = {sae.prepend_bos for sae in saes if sae.prepend_bos is not None}
    wanted = asked
    if wanted is None:
        if len(declared) > 1:
            raise UsageError(
                "some of the SAEs were trained with BOS and some without; ingest them as two "
                "runs, or decide with --bos or --no-bos"
            )
        wanted = True in declared if declared else model.bos_id is not None
    if not wanted:
        return False, []
    if model.bos_id is not None:
        _check_embedded(model)
        return True, []
    lacks = f"the tokenizer of '{model.source}' has no BOS token"
    why = " and an SAE declares that it was trained with one" if True in declared else ""
    if asked is None and model.tokenizer.eos_token_id is None:
        return False, [f"{lacks}{why}: it has no EOS either, so contexts begin with their text"]
    model.begin_with_eos()
    _check_embedded(model)
    return True, [
        f"{lacks}{why}: contexts begin with its EOS, {model.tokenizer.eos_token!r}, which "
        "TransformerLens takes for BOS when SAEs are trained; --no-bos leaves it out"
    ]


def _check_embedded(model: LanguageModel) -> None:
    bos_id = model.bos_id
    if bos_id is not None and bos_id >= model.n_ids:
        raise UsageError(
            f"contexts would begin with {model.tokenizer.bos_token!r}, whose id is {bos_id:,}, but "
            f"the model '{model.source}' knows {model.n_ids:,} tokens: its embedding was not "
            "resized when the token was added; --no-bos leaves it out"
        )


def choose_n_ctx(asked: int | None, model: LanguageModel, saes: list[Sae]) -> int:
    """Tokens in a context; `asked` None takes the least that the SAEs were trained with.

    Raises:
        UsageError: the model does not take so many.
    """
    if asked is not None:
        if not 1 <= asked <= model.n_ctx:
            raise UsageError(f"--n-ctx {asked} is outside 1 to {model.n_ctx}, what the model takes")
        return asked
    trained = [sae.context_size for sae in saes if sae.context_size]
    return min([model.n_ctx, *(trained or [DEFAULT_N_CTX])])
