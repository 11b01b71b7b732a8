"""What every page shares that opens offline: its files, and the policy that lets no other script run.

Two things keep what a page says from becoming markup: jinja2 escapes every text, and data is JSON whose `<`, `>` and
`&` are escaped, which the scripts put into text nodes alone. The policy in the page's head is a third: it forbids every
script but ours, known by their hashes, and every request.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

import jinja2

HERE = "svdtrace.report"


def policy(scripts: Sequence[str]) -> str:
    """A content security policy: these scripts, the style that is in the page, and nothing from anywhere."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


@cache
def asset(name: str, package: str = HERE) -> str:
    """A text file that belongs to a room."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def template(name: str, package: str = HERE) -> jinja2.Template:
    """A template in a room's folder `page`, every text in it escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda each: asset(f"page/{each}", package)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(name)
