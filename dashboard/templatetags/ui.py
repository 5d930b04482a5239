"""Template tags of the dashboard: icons of the sprite, and numbers and times as `wording` writes them."""

from __future__ import annotations

from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import wording

register = template.Library()

register.filter("count", wording.count)
register.filter("size", wording.size)
SPRITE = "vendor/primer/icons.svg"


@register.simple_tag
def icon(name: str) -> SafeString:
    """A decorative icon: the words beside it say the same."""
    return format_html('<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>', static(SPRITE), name)


@register.simple_tag
def sprite_url() -> str:
    """Where scripts find the icons."""
    return static(SPRITE)


@register.filter
def ago(text: str | None) -> str:
    """A time of a body as `3m ago`; empty for none."""
    at = wording.moment(text)
    return "" if at is None else wording.ago((timezone.now() - at).total_seconds())


@register.filter
def exact(text: str | None) -> str:
    """A time of a body as `2026-01-02 03:04:05 UTC`."""
    at = wording.moment(text)
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S UTC")


@register.filter
def item(mapping: dict[str, Any], key: str) -> Any:
    """mapping[key], None when it is not there."""
    return mapping.get(key)
