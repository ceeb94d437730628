"""The endpoints beside the answers: the models and what they can, the tokens of a prompt."""

from typing import Any

from sandbox.anthropic.generations import EFFORTS, MODELS, Generation

_THINKING = ("adaptive", "between_tools", "disabled", "enabled")


def models() -> dict[str, Any]:
    """Newest first, on one page."""
    listed = sorted(MODELS, key=lambda name: MODELS[name].created_at, reverse=True)
    data = [model(name, MODELS[name]) for name in listed]
    return {"data": data, "first_id": listed[0], "last_id": listed[-1], "has_more": False}


def model(name: str, generation: Generation) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": generation.name,
        "created_at": generation.created_at,
        "max_input_tokens": generation.context_tokens,
        "max_tokens": generation.output_tokens_max,
        "capabilities": {
            "thinking": {"types": {kind: _supported(kind in generation.thinking) for kind in _THINKING}},
            "effort": {level: _supported(level in generation.efforts) for level in EFFORTS},
            "structured_outputs": _supported(True),
            "image_input": _supported(True),
            "pdf_input": _supported(True),
        },
    }


def _supported(is_so: bool) -> dict[str, bool]:
    return {"supported": is_so}
