"""Who signs: a private key from the environment, an encrypted keystore file, or the node with an account it holds.

A key is read from where it is kept when it is first needed. It never appears in a text, a log or a traceback.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from eth_utils.address import is_address, to_checksum_address

from ml2sc.errors import NodeError, SigningKeyError

from .rpc import Rpc

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

KEY_VARIABLE = "ML2SC_PRIVATE_KEY"
"""Environment variable with a private key."""

PASSPHRASE_VARIABLE = "ML2SC_PASSPHRASE"
"""Environment variable with a keystore's passphrase."""

NO_ACCOUNT = "0x1111111111111111111111111111111111111111"
"""An address that nobody has, with as many bytes that are not zero as most have: they cost gas."""

_SHOWN = 5
"""Accounts of a node that a text names."""

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Private keys lie below the order of secp256k1 (SEC 2, section 2.4.1)."""


class Signer(Protocol):
    """Signs transactions of one account.

    Attributes:
        address: The account, checksummed.
    """

    @property
    def address(self) -> str:
        """The account, checksummed."""

    def sign(self, transaction: Mapping[str, Any]) -> bytes:
        """Return a signed transaction, ready to send: EIP-1559's, or a legacy one (EIP-155) if it has a gas price.

        Args:
            transaction: chainId, nonce, to (left out to create), data, gas, value; maxFeePerGas and
                maxPriorityFeePerGas, or gasPrice.

        Raises:
            SigningKeyError: the key cannot be used.
            NodeError: the node does not sign.
        """


@dataclass(frozen=True)
class Nobody:
    """In a payer's place where nothing is signed, only what would be is shown.

    Attributes:
        address: The account whose part is taken.
    """

    address: str = NO_ACCOUNT

    def sign(self, transaction: Mapping[str, Any]) -> bytes:
        """Refuse.

        Raises:
            SigningKeyError: always.
        """
        raise SigningKeyError("nobody is named to pay")


class KeySigner:
    """Signs with a private key from an environment variable.

    Args:
        variable: Name of the variable: 32 bytes in hexadecimal.

    Raises:
        SigningKeyError: it is not set, or holds no key.
    """

    def __init__(self, variable: str = KEY_VARIABLE) -> None:
        text = os.environ.get(variable, "").strip()
        if not text:
            raise SigningKeyError(f"the environment variable {variable} is not set")
        self._account = _account(_key_bytes(text, variable), f"the environment variable {variable}")

    @property
    def address(self) -> str:
        return str(self._account.address)

    def sign(self, transaction: Mapping[str, Any]) -> bytes:
        return bytes(self._account.sign_transaction(dict(transaction)).raw_transaction)


def _key_bytes(text: str, variable: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        # Without the cause: its text may quote the key.
        raise SigningKeyError(f"the environment variable {variable} holds no key: 64 hexadecimal digits") from None


def _account(key: bytes, where: str) -> LocalAccount:
    from eth_account import Account

    # Looked at first: the libraries' own errors differ from one to the next, and may quote the key.
    if len(key) != 32 or not 0 < int.from_bytes(key, "big") < _CURVE_ORDER:
        raise SigningKeyError(f"{where} holds no valid private key: 64 hexadecimal digits")
    account: LocalAccount = Account.from_key(key)
    return account


class KeystoreSigner:
    """Signs with the key of an encrypted keystore file (Web3 Secret Storage, as geth, Foundry and wallets write).

    Args:
        path: The file.
        passphrase: Asked for the passphrase when the key is first needed.

    Raises:
        SigningKeyError: it is no keystore.
    """

    def __init__(self, path: str | os.PathLike[str], passphrase: Callable[[], str]) -> None:
        self._path, self._passphrase = Path(path), passphrase
        self._account: LocalAccount | None = None
        try:
            self._content = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(self._content, dict) or not {"crypto", "Crypto"} & set(self._content):
                raise SigningKeyError(f"{path} is no keystore: it has no 'crypto'")
        except OSError as error:
            raise SigningKeyError(f"cannot read the keystore {path}: {error.strerror or error}") from error
        except ValueError:
            raise SigningKeyError(f"{path} is no keystore: it is no JSON") from None

    @property
    def address(self) -> str:
        stated = str(self._content.get("address", ""))
        if self._account is None and is_address(stated):
            return str(to_checksum_address(stated if stated.startswith("0x") else f"0x{stated}"))
        return str(self._unlocked().address)

    def sign(self, transaction: Mapping[str, Any]) -> bytes:
        return bytes(self._unlocked().sign_transaction(dict(transaction)).raw_transaction)

    def _unlocked(self) -> LocalAccount:
        if self._account is None:
            from eth_account import Account

            stated = self.address if is_address(str(self._content.get("address", ""))) else None
            passphrase = self._passphrase()
            try:
                key = bytes(Account.decrypt(self._content, passphrase))
            except ValueError:  # "MAC mismatch"
                raise SigningKeyError(f"the passphrase does not open the keystore {self._path}") from None
            except (LookupError, TypeError, NotImplementedError):
                raise SigningKeyError(f"{self._path} is no keystore this version reads") from None
            self._account = _account(key, f"the keystore {self._path}")
            if stated is not None and stated != self._account.address:
                raise SigningKeyError(
                    f"the keystore {self._path} says it is of {stated}, its key is of another account"
                )
        return self._account


class NodeSigner:
    """Has the node sign, with an account it holds unlocked (`eth_signTransaction`).

    The node only signs: it is told to send when the signed bytes are in the journal.

    Args:
        rpc: The node.
        address: Which of its accounts; the first by default.

    Raises:
        SigningKeyError: the node has no such account.
    """

    def __init__(self, rpc: Rpc, address: str | None = None) -> None:
        self._rpc = rpc
        held = rpc.accounts()
        if not held:
            raise SigningKeyError(f"the node at {rpc.host} holds no account", hint="use --keystore or --key-env")
        if address is not None and (not is_address(address) or to_checksum_address(address) not in held):
            more = f" and {len(held) - _SHOWN:,} more" if held[_SHOWN:] else ""
            raise SigningKeyError(
                f"the node at {rpc.host} does not hold {address}", hint=f"it has {', '.join(held[:_SHOWN])}{more}"
            )
        self._address = held[0] if address is None else to_checksum_address(address)

    @property
    def address(self) -> str:
        return self._address

    def sign(self, transaction: Mapping[str, Any]) -> bytes:
        fields = {name: hex(value) if isinstance(value, int) else value for name, value in transaction.items()}
        kind = "0x0" if "gasPrice" in fields else "0x2"
        try:
            return self._rpc.sign({**fields, "from": self._address, "type": kind})
        except NodeError as error:
            if error.reason:
                error.hint = "the node must hold the account unlocked; else use --keystore or --key-env"
            raise
