"""FastV's count of operations, for planning and for its own table.

A decoder layer over n tokens of width d, with a feed-forward width m, costs

    C(n) = 4 n d^2 + 2 n^2 d + 2 n d m      multiply-adds

(the projections q, k, v, o; the two products of attention; two feed-forward matrices). With T layers, of which the
first K see all n tokens and the rest n' = text + keep * image, the ratio is (K C(n) + (T - K) C(n')) / (T C(n)).

Source: Chen et al., arXiv 2403.06764, section 4. It leaves out the third matrix of a gated feed-forward layer and
counts grouped keys and values as full ones, so it is the paper's figure and not a prediction for a given model:
``trimtab.measure`` counts that.
"""

from __future__ import annotations


def per_layer(n: float | int, width: int, hidden: int) -> float:
    """C(n): multiply-adds of one decoder layer over ``n`` tokens."""
    return float(4 * n * width**2 + 2 * n**2 * width + 2 * n * width * hidden)


def prefill(text: int, image: int, keep: float, layer: int, layers: int, width: int, hidden: int) -> float:
    """Multiply-adds of ``layers`` decoder layers when ``keep`` of the image tokens enter those from ``layer`` on.

    Raises ValueError where ``keep`` is not above 0 and at most 1, or ``layer`` is no layer.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep: got {keep}; accepted: above 0, at most 1 (the share that is kept)")
    if not 0 <= layer <= layers:
        raise ValueError(f"layer: got {layer}; accepted: 0 to {layers}")
    before = per_layer(text + image, width, hidden)
    after = per_layer(text + keep * image, width, hidden)
    return layer * before + (layers - layer) * after


def ratio(text: int, image: int, keep: float, layer: int, layers: int, width: int, hidden: int) -> float:
    """``prefill`` over the same with every token kept."""
    whole = prefill(text, image, 1.0, layer, layers, width, hidden)
    return prefill(text, image, keep, layer, layers, width, hidden) / whole
