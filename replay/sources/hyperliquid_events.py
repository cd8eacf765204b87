"""``misc_events_by_block``: Hyperliquid's funding payments and moves of cash, beside node fills.

One JSON object a block; format and meaning of each kind from tape-formats.md section 1.5. Amounts are those of
perpetual accounts: what moves spot tokens only is counted and left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from replay.sources._read import Lines, Progress
from replay.sources._rejects import Rejects
from replay.sources.hyperliquid_blocks import Block, in_order
from replay.tape.schema import MAIN_DEX, TransferKind
from replay.tape.write import TapeWriter
from replay.units import to_atoms

_DOLLAR = "USDC"
_BATCH = 65_536


class Effect(NamedTuple):
    """What an event does to the cash of one account."""

    user: str
    dex: str
    amount: int
    kind: TransferKind


def _atoms(value: Any) -> int:
    if type(value) not in (str, int, float):
        raise ValueError(f"{value!r} is not an amount")
    return to_atoms(str(value))[0]


def _text(delta: Mapping[str, Any], key: str) -> str:
    if type(delta.get(key)) is not str:
        raise ValueError(f"lacks {key}")
    return str(delta[key])


def _amount(delta: Mapping[str, Any], key: str) -> int:
    if key not in delta:
        raise ValueError(f"lacks {key}")
    return _atoms(delta[key])


def _fee(delta: Mapping[str, Any]) -> int:
    return _atoms(delta["fee"]) if "fee" in delta else 0


def _deposit(delta: Mapping[str, Any], users: list[str]) -> list[Effect]:
    return [Effect(users[0], MAIN_DEX, _amount(delta, "usdc"), TransferKind.DEPOSIT)]


def _withdraw(delta: Mapping[str, Any], users: list[str]) -> list[Effect]:
    amount = _amount(delta, "usdc") + _fee(delta)
    return [Effect(users[0], MAIN_DEX, -amount, TransferKind.WITHDRAWAL)]


def _between_classes(delta: Mapping[str, Any], users: list[str]) -> list[Effect]:
    if type(delta.get("toPerp")) is not bool:
        raise ValueError("lacks toPerp")
    sign, kind = (1, TransferKind.DEPOSIT) if delta["toPerp"] else (-1, TransferKind.WITHDRAWAL)
    return [Effect(users[0], MAIN_DEX, sign * _amount(delta, "usdc"), kind)]


def _between_accounts(delta: Mapping[str, Any], _users: list[str]) -> list[Effect]:
    amount, fee = _amount(delta, "usdc"), _fee(delta)
    return [
        Effect(_text(delta, "user"), MAIN_DEX, -amount - fee, TransferKind.MOVE),
        Effect(_text(delta, "destination"), MAIN_DEX, amount, TransferKind.MOVE),
    ]


def _into_vault(delta: Mapping[str, Any], users: list[str]) -> list[Effect]:
    amount, fee = _amount(delta, "usdc"), _fee(delta)
    return [
        Effect(users[0], MAIN_DEX, -amount - fee, TransferKind.MOVE),
        Effect(_text(delta, "vault"), MAIN_DEX, amount, TransferKind.MOVE),
    ]


def _out_of_vault(delta: Mapping[str, Any], _users: list[str]) -> list[Effect]:
    amount = _amount(delta, "netWithdrawnUsd")
    return [
        Effect(_text(delta, "vault"), MAIN_DEX, -amount, TransferKind.MOVE),
        Effect(_text(delta, "user"), MAIN_DEX, amount, TransferKind.MOVE),
    ]


def _paid(delta: Mapping[str, Any], users: list[str]) -> list[Effect]:
    return [Effect(users[0], MAIN_DEX, _amount(delta, "usdc"), TransferKind.OTHER)]


def _reward(delta: Mapping[str, Any], users: list[str]) -> list[Effect]:
    if delta.get("token", _DOLLAR) != _DOLLAR:
        return []
    return [Effect(users[0], MAIN_DEX, _amount(delta, "amount"), TransferKind.OTHER)]


def _sent(delta: Mapping[str, Any], _users: list[str]) -> list[Effect]:
    if delta.get("token") != _DOLLAR:
        return []
    amount, found = _amount(delta, "amount"), []
    for who, where, sign in (("user", "sourceDex", -1), ("destination", "destinationDex", 1)):
        dex = _text(delta, where)
        if dex != "spot":
            found.append(Effect(_text(delta, who), dex, sign * amount, TransferKind.MOVE))
    return found


def _nothing(_delta: Mapping[str, Any], _users: list[str]) -> list[Effect]:
    return []


DELTAS: Mapping[str, Callable[[Mapping[str, Any], list[str]], list[Effect]]] = {
    "deposit": _deposit,
    "withdraw": _withdraw,
    "accountClassTransfer": _between_classes,
    "internalTransfer": _between_accounts,
    "subAccountTransfer": _between_accounts,
    "vaultDeposit": _into_vault,
    "vaultCreate": _into_vault,
    "vaultWithdraw": _out_of_vault,
    "vaultDistribution": _paid,
    "vaultLeaderCommission": _paid,
    "rewardsClaim": _reward,
    "send": _sent,
    **dict.fromkeys(
        (
            "spotTransfer",
            "borrowLend",
            "liquidation",
            "activateDexAbstraction",
            "deployGasAuction",
            "gossipPriorityGasAuction",
            "accountActivationGas",
            "cStakingTransfer",
            "spotGenesis",
        ),
        _nothing,
    ),
}
"""What each kind of ledger update does to the cash of perpetual accounts."""

_OTHER_KINDS = ("CDeposit", "CWithdrawal", "Delegation", "ValidatorRewards", "GossipPriorityAuctionRestart")


class Events:
    """Reads the events of all files onto `transfers`; ``counts`` says how many of what.

    Args:
        writer: The tape.
        rejects: Where events go that cannot be understood.
        after: Block up to which events are left out.
    """

    def __init__(self, writer: TapeWriter, rejects: Rejects, after: int = -1) -> None:
        self._writer = writer
        self._after = after
        self._rejects = rejects
        self._effects: list[tuple[int, Effect]] = []
        self.rows = 0
        self.counts: Counter[str] = Counter()

    def read(
        self, inputs: Sequence[Path], names: dict[Path, str], progress: Progress
    ) -> list[dict[str, Any]]:
        """Read files in the order of their first blocks; return their provenance.

        Raises:
            SourceError: A file that cannot be read, or an event that cannot be understood while none is set aside.
        """
        sources = []
        for file in in_order(inputs):
            with Lines(file, names[file]) as lines:
                for number, line in lines:
                    self._block(line, file, number)
                    if len(self._effects) >= _BATCH:
                        self._flush()
                        progress.reading(lines)
                sources.append(lines.provenance())
                progress.read(lines)
        self._flush()
        return sources

    def _block(self, line: bytes, file: Path, number: int) -> None:
        text = line.decode("utf-8", "backslashreplace")
        try:
            block = Block.parse(line)
        except ValueError as failure:
            self.rows += 1
            self._rejects.add(f"is no block of events: {failure}", file=file, line=number, text=text)
            return
        if block.number <= self._after:
            self.rows += len(block.events)
            return
        for item, event in enumerate(block.events):
            self.rows += 1
            try:
                self._effects += [(block.ts, effect) for effect in self._effects_of(event)]
            except (KeyError, TypeError, ValueError, IndexError) as failure:
                self._rejects.add(
                    f"is no event that is understood: {failure}", file=file, line=number, text=text, item=item
                )

    def _effects_of(self, event: Any) -> Iterator[Effect]:
        ((kind, content),) = event["inner"].items()
        if kind == "Funding":
            for delta in content["deltas"]:
                self.counts["funding payments"] += 1
                dex = str(delta["coin"]).rpartition(":")[0]
                yield Effect(
                    _text(delta, "user"), dex, _amount(delta, "funding_amount"), TransferKind.FUNDING
                )
        elif kind == "LedgerUpdate":
            delta = content["delta"]
            word = _text(delta, "type")
            if word not in DELTAS:
                raise ValueError(f"the ledger update {word!r} is not known")
            self.counts[f"ledger updates: {word}"] += 1
            yield from DELTAS[word](delta, content["users"])
        elif kind in _OTHER_KINDS:
            self.counts[f"other events: {kind}"] += 1
        else:
            raise ValueError(f"the kind {kind!r} is not known")

    def _flush(self) -> None:
        effects = [(ts, effect) for ts, effect in self._effects if effect.amount]
        self._effects.clear()
        if not effects:
            return
        self._writer.append(
            "transfers",
            {
                "ts": np.array([ts for ts, _ in effects], np.int64),
                "account": [self._writer.account(effect.user) for _, effect in effects],
                "ledger": [self._writer.ledger(effect.dex, _DOLLAR) for _, effect in effects],
                "amount": [effect.amount for _, effect in effects],
                "kind": [int(effect.kind) for _, effect in effects],
            },
        )
