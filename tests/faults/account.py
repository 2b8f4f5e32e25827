"""What a fault run comes to, counted by the ledger and its parts."""

from __future__ import annotations

from dataclasses import dataclass, field

_SHOWN = 200


@dataclass
class Account:
    """The result: `lost`, `doubled`, `out_of_order` and `wrong` count offences, `offenders` names the first ones."""

    results: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    issued: int = 0
    erased: int = 0  # credentials
    events: int = 0
    repeated_events: int = 0
    status_changes: int = 0
    deliveries: int = 0
    received: int = 0
    emails: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    wrong: int = 0
    offenders: list[str] = field(default_factory=list)

    def note(self, kind: str, what: str, number: int = 1) -> None:
        """kind: lost, doubled, out_of_order or wrong."""
        setattr(self, kind, getattr(self, kind) + number)
        if len(self.offenders) < _SHOWN:
            self.offenders.append(f"{kind}: {what}")

    @property
    def exact(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order or self.wrong)
