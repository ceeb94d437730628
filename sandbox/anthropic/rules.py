"""What a generation of models refuses of a request's settings, in Anthropic's words."""

import re

from sandbox.anthropic import history, schemas
from sandbox.anthropic.generations import EFFORTS, Generation
from sandbox.anthropic.request import (
    Adaptive,
    AnyChoice,
    Asked,
    BetweenTools,
    Body,
    Disabled,
    Enabled,
    ToolChoice,
    invalid,
)

NEW_VERSION = "2026-10-21"  # sampling parameters are gone in it
_PERSONAL = re.compile(r"\S+@\S+\.\S+|\+[\d\s().-]{7,}")
_SAMPLING = ("temperature", "top_p", "top_k")


def check(body: Body, generation: Generation, version: str) -> None:
    if body.max_tokens > generation.output_tokens_max:
        raise invalid(
            f"max_tokens: {body.max_tokens} > {generation.output_tokens_max}, which is the maximum allowed number of "
            f"output tokens for {body.model}"
        )
    check_asked(body, generation)
    _check_sampling(body, generation, version)
    if isinstance(body.thinking, Enabled) and body.thinking.budget_tokens >= body.max_tokens:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
    for at, sequence in enumerate(body.stop_sequences):
        if not sequence:
            raise invalid(f"stop_sequences.{at}: each stop sequence must be non-empty")
        if not sequence.strip():
            raise invalid(f"stop_sequences.{at}: each stop sequence must contain non-whitespace")
    if body.metadata.user_id and _PERSONAL.fullmatch(body.metadata.user_id):
        raise invalid("metadata.user_id: user_id appears to contain an email address or phone number")


def check_asked(asked: Asked, generation: Generation) -> None:
    _check_thinking(asked, generation)
    _check_tools(asked)
    _check_tool_choice(asked, generation)
    if asked.output_config.format is not None:
        schemas.check(asked.output_config.format.schema, "output_config.format.schema")
    has_budget = isinstance(asked.thinking, Enabled)
    history.check(asked, generation, thinks=thinks(asked, generation), has_budget=has_budget)


def thinks(asked: Asked, generation: Generation) -> bool:
    if asked.thinking is None:
        return bool(generation.effort_unsaid)
    return not isinstance(asked.thinking, Disabled)


def effort(asked: Asked, generation: Generation) -> str:
    """How hard the model thinks when it thinks adaptively."""
    return asked.output_config.effort or generation.effort_unsaid or "high"


def _check_thinking(asked: Asked, generation: Generation) -> None:
    thinking = kind(asked)
    if thinking and thinking not in generation.thinking:
        raise invalid(
            f'"thinking.type.{thinking}" is not supported for this model. Use '
            f'"thinking.type.{generation.thinking[0]}" and "output_config.effort" to control thinking behavior.'
        )
    wanted = asked.output_config.effort
    if wanted and not generation.efforts:
        raise invalid("This model does not support the effort parameter.")
    if wanted and wanted not in generation.efforts:
        known = ", ".join(sorted(generation.efforts))
        raise invalid(f"This model does not support effort level '{wanted}'. Supported levels: {known}.")
    too_hard = EFFORTS[EFFORTS.index(generation.off_effort_max) + 1 :]
    if isinstance(asked.thinking, Disabled | BetweenTools) and wanted in too_hard:
        raise invalid(f"\"thinking.type.{thinking}\" is not supported with effort level '{wanted}' on this model.")


def kind(asked: Asked) -> str:
    match asked.thinking:
        case Adaptive():
            return "adaptive"
        case Enabled():
            return "enabled"
        case Disabled():
            return "disabled"
        case BetweenTools():
            return "between_tools"
    return ""


def _check_sampling(body: Body, generation: Generation, version: str) -> None:
    given = [name for name in _SAMPLING if getattr(body, name) is not None]
    if given and version == NEW_VERSION:
        raise invalid(f"{given[0]}: Extra inputs are not permitted")
    if given and not generation.sampling:
        raise invalid(f"`{given[0]}` is deprecated for this model.")
    if "temperature" in given and "top_p" in given:
        raise invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if given and thinks(body, generation) and body.temperature != 1:
        raise invalid(f"`{given[0]}` may not be set when thinking is enabled or in adaptive mode.")


def _check_tools(asked: Asked) -> None:
    names = [tool.name for tool in asked.offered]
    if len({*names}) < len(names):
        raise invalid("tools: Tool names must be unique.")
    for at, tool in enumerate(asked.functions):
        if tool.input_schema.get("type") != "object":
            raise invalid(f"tools.{at}.custom.input_schema.type: Input should be 'object'")
        if tool.strict:
            schemas.check(tool.input_schema, f"tools.{at}.custom.input_schema")


def _check_tool_choice(asked: Asked, generation: Generation) -> None:
    choice = asked.tool_choice
    if choice is None:
        return
    if not asked.tools:
        raise invalid("tool_choice: may only be specified while providing tools")
    if isinstance(choice, AnyChoice | ToolChoice):
        if not generation.forced_tools:
            raise invalid('tool_choice: type "tool" and "any" are not supported for this model.')
        if isinstance(asked.thinking, Enabled):
            raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
    if isinstance(choice, ToolChoice) and choice.name not in [tool.name for tool in asked.offered]:
        raise invalid(f"tool_choice: Tool '{choice.name}' not found in provided tools")
