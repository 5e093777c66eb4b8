"""`energylens heads`: what heads do over a run's texts, and what their weights say."""

from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.names import RunArgument, chosen_run
from energylens.cli.sql import FormatOption, checked_format

_SHOWN = 13
"""Columns of the ranking for reading; the rest are baselines and counts."""


def heads(
    store: StoreArgument,
    run: RunArgument = None,
    top: Annotated[
        int, typer.Option(min=1, max=1000, help="Pairs and skip-trigrams kept for each head.")
    ] = 20,
    by: Annotated[str, typer.Option(help="Score that the heads are listed by.")] = "induction",
    how: FormatOption = "table",
) -> None:
    """Measure every attention head over all texts of a run: previous-token, duplicate, induction
    and other scores; and read off its weights what it copies, its skip-trigrams and its readers."""
    need_models()
    from energylens.choices import one_of
    from energylens.cli.output import print_frame
    from energylens.ingest.on_request.heads import measure_heads
    from energylens.ingest.progress import Progress
    from energylens.queries.catalog import open_catalog
    from energylens.queries.heads import MOST_HEADS, bigram_agreement, composed_heads, head_ranking
    from energylens.queries.scope import SCORES
    from energylens.queries.writing import Format

    form = checked_format(how)
    score = one_of("--by knows", by, SCORES)
    run = chosen_run(store, run)
    progress = Progress(False)
    try:
        measure_heads(store, run, top, progress)
    finally:
        progress.close()
    with open_catalog(store) as opened:
        ranking = head_ranking(opened, run, score, MOST_HEADS)
        is_for_reading = form in (Format.table, Format.markdown)
        print_frame(ranking[:, :_SHOWN] if is_for_reading else ranking, form)
        if is_for_reading:
            typer.echo("\nheads that read others, beyond random weights")
            print_frame(composed_heads(opened, run, 10), form)
            typer.echo("\nnext tokens that the direct path raises most")
            print_frame(bigram_agreement(opened, run), form)
