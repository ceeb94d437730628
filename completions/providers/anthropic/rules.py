"""What a Claude model takes, as the catalog says it. Pure; docs/providers.md explains every key.

Models of one vendor differ in what they refuse, so it is data of the route and never a branch on a
name. Every rule is a permission: what a route's rules do not permit is refused by name.
"""

from typing import Literal

from completions.routes import Route, RouteRules

ThinkingMode = Literal["adaptive", "enabled", "disabled", "between_tools"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]


class Rules(RouteRules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    thinking: tuple[ThinkingMode, ...] = ()  # the types its `thinking` takes; `enabled` is the one with a budget
    thinks_unasked: bool = False  # it thinks when nothing is said about it
    efforts: tuple[Effort, ...] = ()  # the levels of `output_config.effort`
    sampling: bool = False  # temperature, top_p, top_k
    forced_tools: bool = False  # tool_choice `any` and `tool`
    prefill: bool = False  # a conversation may end with the assistant's own beginning
    later_system: bool = False  # role `system` inside the conversation


NO_PERMISSION = Rules()


def rules_of(route: Route) -> Rules:
    """A route without rules permits nothing."""
    return route.rules if isinstance(route.rules, Rules) else NO_PERMISSION
