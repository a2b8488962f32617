"""Draws the pictures of docs: `python docs/draw.py`.

Each picture is a time line with marks, or boxes with arrows, in strokes of the text's own colour.
"""

from __future__ import annotations

from pathlib import Path

_STYLE = (
    "text{font:13px sans-serif;fill:#444}.l{stroke:#888;stroke-width:1.5;fill:none}"
    ".w{fill:#3f51b5;opacity:.16}.in{fill:#3f51b5}.out{fill:#fff;stroke:#3f51b5;stroke-width:1.5}"
    ".b{fill:#3f51b5;opacity:.12;stroke:#3f51b5}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}.out{fill:#222}}"
)


def main() -> None:
    """Write every picture."""
    for name, (height, parts) in PICTURES.items():
        body = "\n".join(parts)
        text = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" role="img">\n'
            f"<style>{_STYLE}</style>\n{_ARROW}\n{body}\n</svg>\n"
        )
        (Path(__file__).parent / "pictures" / f"{name}.svg").write_text(text, encoding="utf-8")


_ARROW = (
    '<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0L8 4L0 8z" fill="#888"/></marker>'
)


def line(x: float, y: float, to_x: float, to_y: float, *, dashed: bool = False) -> str:
    """A line with an arrow at its end."""
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<path class="l" d="M{x} {y}L{to_x} {to_y}"{dash} marker-end="url(#a)"/>'


def tick(x: float, y: float, text: str) -> str:
    """A named instant of a time line at height `y`."""
    return f'<path class="l" d="M{x} {y - 8}V{y + 8}"/>' + words(x, y + 26, text)


def words(x: float, y: float, text: str) -> str:
    """Words with their middle at `x`."""
    return f'<text x="{x}" y="{y}" text-anchor="middle">{text}</text>'


def dots(y: float, within: list[float], outside: list[float]) -> str:
    """Events: full ones count, hollow ones do not."""
    return "".join(
        f'<circle class="{kind}" cx="{x}" cy="{y}" r="6"/>'
        for kind, places in (("in", within), ("out", outside))
        for x in places
    )


def band(x: float, to: float, y: float, height: float) -> str:
    """A span of time."""
    return f'<rect class="w" x="{x}" y="{y}" width="{to - x}" height="{height}"/>'


def box(x: float, y: float, width: float, text: str) -> str:
    """A box with words in it."""
    return f'<rect class="b" x="{x}" y="{y}" width="{width}" height="40" rx="5"/>' + words(
        x + width / 2, y + 25, text
    )


_AROUND: list[float] = [60, 150, 180, 210, 260, 330, 390]
_EVENTS: list[float] = [70, 150, 190, 260, 330, 390, 470, 520]

PICTURES: dict[str, tuple[int, list[str]]] = {
    "window": (
        130,
        [
            band(200, 520, 30, 50),
            line(30, 70, 615, 70),
            tick(200, 70, "t − 7d (not in it)"),
            tick(520, 70, "t (in it)"),
            dots(70, [260, 330, 420, 520], [90, 140, 200, 575]),
            words(360, 22, "window=&quot;7d&quot;: four events count"),
        ],
    ),
    "lengths": (
        360,
        [
            words(40, 22, "events"),
            dots(40, [], _AROUND),
            line(30, 40, 615, 40),
            tick(100, 40, "hop"),
            tick(180, 40, "t − W"),
            tick(260, 40, "t"),
            tick(340, 40, "t + W"),
            *(
                part
                for y, low, high, within, text in (
                    (110, 180, 260, [210, 260], "window=W"),
                    (160, 140, 220, [150, 180, 210], "window=W, offset=…"),
                    (210, 100, 260, [150, 180, 210, 260], "window=W, hop=…"),
                    (260, 30, 260, [60, 150, 180, 210, 260], "window=&quot;lifetime&quot;"),
                    (310, 260, 340, [330], "window=W, ahead=True: a label"),
                )
                for part in (
                    band(low, high, y - 15, 30),
                    line(30, y, 615, y),
                    dots(y, within, [x for x in _AROUND if x not in within]),
                    words(520, y - 10, text),
                )
            ),
        ],
    ),
    "frames": (
        400,
        [
            words(40, 22, "events"),
            dots(40, [], _EVENTS),
            line(30, 40, 615, 40),
            tick(120, 40, "midnight"),
            tick(300, 40, "midnight"),
            tick(440, 40, "hop"),
            tick(520, 40, "t"),
            *(
                part
                for y, low, high, within, text in (
                    (110, 400, 514, [470], "exclude=&quot;instant&quot;"),
                    (160, 340, 440, [390], "ends=&quot;hop&quot;"),
                    (210, 120, 300, [150, 190, 260], "calendar=&quot;day&quot;"),
                    (260, 300, 520, [330, 390, 470, 520], "calendar=&quot;day&quot;, running=True"),
                    (310, 380, 520, [390, 470, 520], "rows=3"),
                    (360, 460, 520, [470, 520], "session=…"),
                )
                for part in (
                    band(low, high, y - 15, 30),
                    line(30, y, 615, y),
                    dots(y, within, [x for x in _EVENTS if x not in within]),
                    words(320, y + 30, text),
                )
            ),
        ],
    ),
    "lateness": (
        150,
        [
            line(30, 90, 615, 90),
            dots(90, [120, 240], [330]),
            words(330, 62, "happened"),
            '<path class="l" d="M338 84C380 40 490 40 533 80" marker-end="url(#a)"/>',
            tick(540, 90, "arrived"),
            tick(395, 90, "t: two events count"),
        ],
    ),
    "ttl": (
        130,
        [
            band(180, 450, 30, 50),
            line(30, 70, 615, 70),
            dots(70, [180], []),
            tick(180, 70, "the row"),
            tick(450, 70, "the row + ttl"),
            words(100, 50, "NOT_FOUND"),
            words(315, 50, "PRESENT"),
            words(530, 50, "OUTSIDE_MAX_AGE"),
        ],
    ),
    "versions": (
        170,
        [
            box(250, 10, 140, "live pointer"),
            box(60, 110, 220, "version 1: fed, can return"),
            box(360, 110, 220, "version 2: being filled"),
            line(300, 52, 190, 106),
            line(345, 52, 460, 106, dashed=True),
            words(475, 80, "when it is full"),
        ],
    ),
    "parity": (
        190,
        [
            *(
                box(20, 5 + 46 * i, 110, name)
                for i, name in enumerate(("fuzz", "history", "sample", "replay"))
            ),
            box(230, 30, 150, "DuckDB, in SQL"),
            box(230, 120, 150, "Redis, evaluated"),
            *(line(132, 25 + 46 * i, 226, to) for i in range(4) for to in (50, 140)),
            box(480, 75, 130, "compare bits"),
            line(382, 50, 476, 88),
            line(382, 140, 476, 102),
        ],
    ),
}


if __name__ == "__main__":
    main()
