"""What a decision returns."""

from __future__ import annotations

from supervisor.core.commands import Command
from supervisor.core.session import Session

Outcome = tuple[Session, tuple[Command, ...]]
