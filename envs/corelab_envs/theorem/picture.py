"""A tableau as a picture: a tree of literals from the root down, in SVG."""

from __future__ import annotations

from html import escape

from corelab_envs.theorem.proof import Node

_LETTER = 7.2
"""The width of a letter of the font, in pixels."""
_ROW = 64
_GAP = 18
_COLOURS = {
    "": "#c62828",
    "extension": "#1f2937",
    "entry": "#6b7280",
    "reduction": "#1565c0",
    "lemma": "#2e7d32",
}
_CLOSINGS = {"": "open", "entry": "✕", "reduction": "reduction", "lemma": "lemma"}


def draw(root: Node) -> str:
    """The tree below ROOT as an SVG: what closes a leaf stands under it, the name of a clause
    beside the line that leads to it. What has been the entry of a clause ends in ✕.
    """
    places: dict[Node, tuple[float, int]] = {}
    right = _place(root, places)
    depth = max(row for _, row in places.values()) + 1
    width, height = right + _GAP, depth * _ROW + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}" font-family="monospace" font-size="12" '
        'text-anchor="middle">',
        f'<rect width="{width:.0f}" height="{height}" fill="white"/>',
    ]
    for node, (x, row) in places.items():
        y = 24 + row * _ROW
        for child in node.children:
            cx, below = places[child][0], 24 + (row + 1) * _ROW
            parts.append(
                f'<line x1="{x:.1f}" y1="{y + 6}" x2="{cx:.1f}" y2="{below - 14}" '
                'stroke="#9ca3af"/>'
            )
        if node.source:
            parts.append(_text(x, y + 20, node.source, "#6b7280", 10, halo=True))
        parts.append(_text(x, y, str(node), _COLOURS[node.closed]))
        if not node.children and (how := _CLOSINGS.get(node.closed)):
            parts.append(_text(x, y + 15, how, _COLOURS[node.closed], 10))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, colour: str, size: int = 12, halo: bool = False) -> str:
    around = ' stroke="white" stroke-width="4" paint-order="stroke"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.0f}" fill="{colour}" font-size="{size}"{around}>'
        f"{escape(text)}</text>"
    )


def _place(root: Node, places: dict[Node, tuple[float, int]]) -> float:
    """Give each node its x and its row: leaves from left to right, others above their children's
    middle. Returns how far to the right it goes.
    """
    right = float(_GAP)
    todo = [(root, 0, False)]
    while todo:
        node, row, done = todo.pop()
        width = max(len(str(node)), len(node.source)) * _LETTER
        if node.children and not done:
            todo.append((node, row, True))
            todo += [(child, row + 1, False) for child in reversed(node.children)]
        elif node.children:
            x = (places[node.children[0]][0] + places[node.children[-1]][0]) / 2
            x = max(x, _GAP + width / 2)
            places[node] = x, row
            right = max(right, x + width / 2 + _GAP)
        else:
            places[node] = right + width / 2, row
            right += width + _GAP
    return right
