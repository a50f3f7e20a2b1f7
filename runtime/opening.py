"""Opens the chain that a name or a node's URL stands for."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ml2sc.errors import UnknownNameError, UsageError
from ml2sc.ir.chains import PROFILES
from ml2sc.ir.forks import Fork

from .chain import CALL_GAS, LIMITS, Chain, EmbeddedChain, RevmChain, revm_is_installed
from .node import RpcChain, anvil, anvil_limits

logger = logging.getLogger(__name__)

_PUBLIC = re.compile(
    r"mainnet|sepolia|holesky|hoodi|optimism|arbitrum-one|bsc|polygon|gnosis|avalanche|linea|scroll|zksync"
    r"|[a-z]+-(main|test)net|[a-z]+-sepolia|[0-9]+"
)
"""Names of chains, and numbers, that are taken for a node's URL."""


def refuse_name(chain: str) -> None:
    """Refuse a public chain's name, or a number, where a node's URL is asked for.

    Raises:
        UsageError: it is one.
    """
    if chain.lower() in PROFILES or _PUBLIC.fullmatch(chain.lower()):
        raise UsageError(
            f"{chain:.40} is a chain, and a node of it is named by its URL",
            hint="for instance --chain https://..., which whoever runs the node tells (docs/deploy-to-a-testnet.md)",
        )


@contextmanager
def open_chain(spec: str, fork: str = "prague", limits: Fork = LIMITS) -> Iterator[Chain]:
    """Open a chain, and close it at the end of the block.

    Args:
        spec: "embedded" (revm where installed, else py-evm), "py-evm", "revm", "anvil" (started and ended here), or a
            node's URL.
        fork: The rules anvil is to follow; the embedded chains follow Prague's.
        limits: What the chain allows, unless it is a node's own.

    Raises:
        ToolchainError: the chain is not installed, or does not answer.
    """
    if spec == "anvil":
        with anvil(fork, *anvil_limits(limits)) as url:
            yield RpcChain(url, own=True, limits=limits)
    elif "://" in spec:
        yield RpcChain(spec, limits=limits)
    else:
        chains = {"py-evm": EmbeddedChain, "revm": RevmChain}
        chains["embedded"] = RevmChain if revm_is_installed() else EmbeddedChain
        if spec not in chains:
            refuse_name(spec)
            raise UnknownNameError("chain", spec, [*chains, "anvil", "URL of a node"])
        if fork != "prague":
            logger.info("the embedded chain follows Prague's rules, not %s's", fork)
        yield chains[spec](max(limits.call_gas, CALL_GAS), limits)
