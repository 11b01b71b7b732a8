"""Prompts told apart by what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from svdtrace.prompts.prompt import Prompt


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """SHA-256 over all that prompts say (their ids aside), as hexadecimal."""
    digest = hashlib.sha256()
    hash_prompts(digest, prompts)
    return digest.hexdigest()


def hash_prompts(digest: Any, prompts: Sequence[Prompt]) -> None:
    """Add what prompts say to a digest, so that prompts can be hashed as they come."""
    for prompt in prompts:
        roles = [[role, int(position)] for role, position in prompt.roles.items()]
        asked = [None if token is None else int(token) for token in (prompt.answer, prompt.distractor)]
        digest.update(json.dumps([[int(token) for token in prompt.tokens], roles, *asked]).encode())
