"""Networks in named parts: torsos, memories and heads, flax modules all of them.

A part of one's own is a class in one new file, below a line such as `@register_torso("name")`.
"""

from isjax.networks.actor_critic import ActorCritic, RecurrentActorCritic, as_present_protocol
from isjax.networks.critics import Critic, PolicyWithCritics
from isjax.networks.heads import Heads, heads
from isjax.networks.memories import Memory, memories, take_steps
from isjax.networks.torsos import Torso, torsos

__all__ = [
    "ActorCritic",
    "Critic",
    "Heads",
    "Memory",
    "PolicyWithCritics",
    "RecurrentActorCritic",
    "Torso",
    "as_present_protocol",
    "heads",
    "memories",
    "register_heads",
    "register_memory",
    "register_torso",
    "take_steps",
    "torsos",
]

register_torso = torsos.register
register_memory = memories.register
register_heads = heads.register
