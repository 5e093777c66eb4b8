"""The panes of a screen: which there are, one of them alone, and how wide the side one is."""

from collections.abc import Iterator

from textual.containers import Container, Horizontal, Vertical
from textual.screen import Screen
from textual.widget import Widget

_ALONE, _AWAY = "-alone", "-away"
_NARROWEST, _WIDEST, _STEP = 20, 80, 10
"""Percent of a screen's width that a side pane may take, and what a key adds."""


def panes(screen: Screen) -> list[Widget]:
    """What a screen is divided into, left to right and top to bottom, bars apart."""
    return [pane for body in screen.children for pane in _leaves(body) if _is_pane(pane)]


def show_next_alone(screen: Screen) -> Widget | None:
    """Show the next pane on the whole screen, after the last one all of them; which one is shown
    alone, None where all are."""
    listed = panes(screen)
    here = next((n for n, pane in enumerate(listed) if pane.has_class(_ALONE)), -1)
    chosen = listed[here + 1] if here + 1 < len(listed) and len(listed) > 1 else None
    for body in screen.children:
        _set(body, chosen)
    return chosen


def widen_side(screen: Screen, by: int) -> None:
    """Give the side pane more of the width, or less."""
    for pane in screen.query(".side"):
        if pane.display and isinstance(pane.parent, Horizontal):
            known = round(100 * pane.outer_size.width / max(1, screen.size.width) / _STEP) * _STEP
            share = max(_NARROWEST, min(_WIDEST, known + by * _STEP))
            pane.styles.width = f"{share}%"
            pane.styles.min_width = 0


def room_in(pane: Widget) -> int:
    """Cells for what is drawn in a pane, beside a scroll bar that may come with it."""
    bar = 0 if pane.show_vertical_scrollbar else pane.styles.scrollbar_size_vertical
    return max(0, pane.scrollable_content_region.width - bar)


def _leaves(widget: Widget) -> Iterator[Widget]:
    if type(widget) in (Container, Horizontal, Vertical):
        for child in widget.children:
            yield from _leaves(child)
    else:
        yield widget


def _is_pane(widget: Widget) -> bool:
    """Whether it can be shown alone: a table, a map, a text that scrolls, and no bar."""
    is_beside = widget.has_class("side")
    is_shown = widget.display or widget.has_class(_AWAY) or is_beside
    return is_shown and (widget.can_focus or is_beside or widget.has_class("pane"))


def _set(widget: Widget, chosen: Widget | None) -> bool:
    """Mark a widget and all it holds; whether the chosen one is among them."""
    if type(widget) in (Container, Horizontal, Vertical):
        marked = [_set(child, chosen) for child in widget.children]
        has_chosen = any(marked)
        widget.set_class(chosen is not None and not has_chosen, _AWAY)
        return has_chosen
    if _is_pane(widget) or widget.has_class(_AWAY):
        widget.set_class(widget is chosen, _ALONE)
        widget.set_class(chosen is not None and widget is not chosen, _AWAY)
    return widget is chosen
