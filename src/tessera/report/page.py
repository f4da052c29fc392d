"""The page's parts: sections with figures and tables, and how they become one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Figure:
    """A picture or chart with its caption.

    Attributes:
        body: HTML.
        caption: what it shows, in a sentence or two.
        span: how many of the page's six columns it takes: 2, 3, 4 or 6.
        title: a few words above the body.
    """

    body: Markup
    caption: str = ""
    span: int = 3
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells; cells are text, or HTML as Markup.

    Attributes:
        head: titles of the columns.
        rows: as many cells as titles.
        caption: what it shows.
        numeric: columns from this one on are numbers and stand right; 9 for none.
        span: how many of the page's six columns it takes.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    numeric: int = 1
    span: int = 6


@dataclass
class Section:
    """One part of the page.

    Attributes:
        key: its anchor.
        title: its heading.
        lead: what a person should take from it, in a sentence.
        parts: figures, tables and HTML, in order.
    """

    key: str
    title: str
    lead: str = ""
    parts: list[Figure | Table | Markup] = field(default_factory=list)

    def add(self, part: Figure | Table | Markup | None) -> None:
        """Append a part; None and empty ones are passed over."""
        if part is None or (isinstance(part, Figure) and not part.body):
            return
        if isinstance(part, Table) and not part.rows:
            return
        if part:
            self.parts.append(part)


@dataclass(frozen=True)
class Fact:
    """One number of the strip at the top."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Hero:
    """The head of the page."""

    title: str
    line: str
    picture: str | None
    facts: Sequence[Fact]


def render(hero: Hero, sections: Sequence[Section], foot: str, scripts: Sequence[str]) -> str:
    """Return the page as one HTML text that needs nothing from elsewhere.

    Args:
        hero: the head.
        sections: the body, in order; empty ones are left out.
        foot: the last line.
        scripts: names of scripts in ``templates/`` to carry along.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tessera.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["figure"] = lambda part: isinstance(part, Figure)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    return environment.get_template("page.html.j2").render(
        hero=hero,
        sections=[s for s in sections if s.parts],
        foot=foot,
        style=Markup(_own("style.css")),
        scripts=[Markup(_own(name)) for name in scripts],
    )


def _own(name: str) -> str:
    return (files("tessera.report") / "templates" / name).read_text()
