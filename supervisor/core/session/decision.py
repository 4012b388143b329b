"""What a decision returns."""

from __future__ import annotations

from supervisor.core.session.commands import Command
from supervisor.core.session.state import Session

Outcome = tuple[Session, tuple[Command, ...]]
