"""An artifact's table: what was compiled, whether it keeps the model, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml2sc.ir.chains import ChainProfile, rules_of
from ml2sc.ir.data_fee import DataPrices, data_fee
from ml2sc.ir.forks import FORKS, Fork
from ml2sc.money import Prices
from ml2sc.sheet import Sheet, short_names
from ml2sc.verdict import Kept

if TYPE_CHECKING:
    from .base import Artifact

_COLUMNS = {
    "layer": "layer",
    "operator": "operator",
    "macs": "MACs",
    "bits": "bits",
    "lanes": "lanes",
    "storage": "weights",
    "bytes": "bytes",
    "procedure": "procedure",
    "contract": "in",
    "gas": "gas",
    "share": "share",
}
_LEGEND = (
    "MACs: products of an inference; bits, lanes: of a sum, and sums a 256-bit word; weights, bytes: where, how many",
    "gas, share: of a transaction; the rest: values brought to where layers read them, the frame, calldata and 21,000",
)


def sheet_of(artifact: Artifact, prices: Prices | None = None, *, explain: bool = False) -> Sheet:
    """Return an artifact's table.

    Args:
        artifact: What `ml2sc.compile` or `ml2sc.build` returned, or `ml2sc.load_folder`.
        prices: What gas costs.
        explain: Give layers their full names, state the bounds for every input, too, and the tensors.
    """
    manifest, prices = artifact.manifest, prices or Prices()
    gas, found = manifest.get("gas"), manifest.get("calibration")
    header, rows = _plan(manifest.get("plan", ()), (gas or {}).get("predicted", 0), explain=explain)
    facts = [
        *_measured(manifest),
        *_form(artifact),
        *([] if gas is None else _costs(gas, prices)),
        *([] if gas is None else _posted(gas, prices, manifest.get("options", {}))),
        *_chain(manifest.get("options", {})),
        *_fits(manifest),
        *_proved(manifest, every=explain or found is None),
        *_product(artifact),
    ]
    title = f"{artifact.name}: {one_line(artifact)}"
    return Sheet(title, "", header, rows, _LEGEND if rows and gas is not None else (), facts)


def _form(artifact: Artifact) -> list[tuple[str, str]]:
    """Return what is said of the form, if it is another one than a contract."""
    if artifact.form == "contract":
        return []
    around = f"internal functions for a contract of yours; what follows is the contract {artifact.name} around them"
    return [("form", f"{artifact.form}: {around}")]


def one_line(artifact: Artifact) -> str:
    """Return how many inputs and outputs an artifact has, and its precision."""
    manifest = artifact.manifest
    inputs, outputs = (sum(math.prod(t["shape"]) for t in manifest.get(kind, ())) for kind in ("inputs", "outputs"))
    return f"{inputs:,} inputs, {outputs:,} outputs, precision {manifest.get('precision', 'unknown')}"


def verdict_of(manifest: Mapping[str, Any]) -> Kept | None:
    """Return how much of the model is kept on the calibration data; None without any."""
    found = manifest.get("calibration")
    if found is None:
        return None
    return Kept(
        samples=found["assessed"],
        agreement=found["decision_agreement"],
        least=found["agreement_lower_bound"],
        accuracy=found.get("accuracy"),
        model_accuracy=found.get("model_accuracy"),
        fit=found.get("r2"),
        label_fit=found.get("label_r2"),
        model_label_fit=found.get("model_label_r2"),
    )


def _plan(plan: Sequence[Mapping[str, Any]], total: int, *, explain: bool) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of the layers' table; columns that no layer fills are left out.

    Args:
        plan: The manifest's plan.
        total: Gas of an inference, of which each layer has a share.
        explain: Whether names and operators are given in full.
    """
    names = short_names(str(layer["layer"]) for layer in plan)
    layers = []
    for layer in plan:
        shown = dict(layer)
        if total:
            shown["share"] = f"{100 * layer['gas'] / total:.0f} %"
        if not explain:
            shown = {key: value for key, value in shown.items() if key not in {"procedure", "contract"}}
            shown["layer"] = names[str(layer["layer"])]
            shown["operator"] = str(layer.get("operator", "")).replace(" + Requantize", "")
        layers.append(shown)
    keys = [key for key in _COLUMNS if any(layer.get(key, "") != "" for layer in layers)]
    return [_COLUMNS[key] for key in keys], [[layer.get(key, "") for key in keys] for layer in layers]


def _measured(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is said of the calibration data: decisions, errors, and what to do if they are poor."""
    found, verdict = manifest.get("calibration"), verdict_of(manifest)
    facts = [("exact", "yes, by proof: no sum can leave its lane (ml2sc-check tries it on samples)")]
    if found is None or verdict is None:
        return [*facts, ("keeps the model", "as far as is proved below; nothing was measured: no calibration data")]
    errors = f"up to {found['max_abs_error']:.3g} on {found['assessed']:,} samples of the data"
    facts += [*verdict.facts(), ("errors", errors)]
    return facts if found["advice"] is None else [*facts, ("poor result", found["advice"])]


def _proved(manifest: Mapping[str, Any], *, every: bool) -> list[tuple[str, str]]:
    """Return the bounds.

    Args:
        manifest: The manifest.
        every: State that for every input, too, even if calibration data says how large errors are.
    """
    bound, calm = (f"{manifest[key]:.3g}" for key in ("error_bound", "error_bound_unsaturated"))
    share = manifest.get("error_bound_relative")
    relative = "" if share is None else f" ({share:.2g} of the largest output)"
    if bound == calm:
        return [("error bound", f"{bound}{relative}: proved for every input of the declared range")]
    facts = [("error bound", f"{calm}{relative}: proved for inputs on which nothing saturates")]
    return [*facts, ("", f"{bound}: proved for every input of the declared range")] if every else facts


def _costs(gas: Mapping[str, Any], prices: Prices) -> list[tuple[str, str]]:
    """Return what is said of the predicted gas."""
    assumed = "" if gas["inputs"] == "calibration data" else ", for inputs half of whose bytes are zero"
    cold, warm = (f"{gas['called'][state]:,} {state}{prices.of(gas['called'][state])}" for state in ("cold", "warm"))
    average, worst = gas["predicted"], f"{gas['worst']:,} at most"
    whole = gas["deploy"] + gas["weights"]
    weights = f", {gas['weights']:,} of it for its weights" if gas["weights"] else ""
    count = gas["transactions"]
    return [
        ("gas, read", "none: a call from outside (eth_call) is free"),
        ("gas, called", f"{cold}, {warm}: what a contract that calls it pays (predicted{assumed})"),
        ("gas, sent", f"{average:,}{prices.of(average)} as a transaction, 21,000 and calldata included; {worst}"),
        ("to deploy", f"{whole:,} gas{prices.of(whole)} in {transactions(count)}{weights} (predicted)"),
    ]


def _posted(gas: Mapping[str, Any], prices: Prices, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the bytes of transactions cost on the chain below, where that and its prices are known."""
    if gas.get("posted") is None or prices.below is None:
        return []
    chain, below = ChainProfile.of(options["chain_profile"]), DataPrices(*(round(p * 10**9) for p in prices.below))

    def said(sizes: Iterable[int]) -> str:
        return prices.said(sum(data_fee(size, chain, below) for size in sizes) / 10**18)

    deploy = f"; {said(gas['posted']['deploy'])} to deploy" if gas["posted"]["deploy"] else ""
    at = f"gas there at {prices.below[0]:g} gwei, blobs at {prices.below[1]:g}"
    return [("data fee", f"{said([gas['posted']['inference']])} at most as a transaction{deploy} ({at})")]


def transactions(count: int) -> str:
    """Return a number of transactions in words."""
    return "1 transaction" if count == 1 else f"{count:,} transactions"


def _chain(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is to be known of the chain that a contract is compiled for, if there is one."""
    if options.get("chain_profile") is None:
        return []
    rules = ChainProfile.of(options["chain_profile"])
    text = f"{rules.name}: {rules.transaction_gas:,} gas a transaction, {rules.code_limit:,} bytes of code a contract"
    if rules.charges_limit:
        text += "; it charges the gas that a transaction may use: the most an inference takes is its price"
    if rules.data_fee:
        text += "; the bytes of a transaction cost a fee besides, for the chain below"
    return [("chain", text)]


def _fits(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    options, rules = manifest.get("options", {}), dict[str, Fork](FORKS)
    if options.get("chain_profile") is not None:
        own = rules_of(options)
        rules[own.name] = own
    return [("fits" if not index else "", line) for index, line in enumerate(said(manifest.get("verdict", {}), rules))]


def said(verdicts: Mapping[str, Mapping[str, Any]], rules: Mapping[str, Fork] = FORKS) -> list[str]:
    """Return where a contract fits in words, a line for each group of forks that agree.

    Args:
        verdicts: The manifest's.
        rules: What is allowed, by the names there.
    """
    groups: dict[str, list[str]] = {}
    for name in rules:  # in their order: that of a file is another
        if name in verdicts:
            groups.setdefault(_sentence(rules[name], verdicts[name]), []).append(name)
    return [f"{', '.join(names)}: {sentence}" for sentence, names in groups.items()]


def _sentence(rules: Fork, verdict: Mapping[str, Any]) -> str:
    if verdict["fits"] == "transaction":
        return "an inference fits in one transaction, each of those that deploy it, too"
    remedies = "; what may help, and was not tried: " + " or ".join(verdict["remedies"])
    if verdict["obstacles"]:
        return f"does not fit ({'; '.join(verdict['obstacles'])}){remedies}"
    worst, limit = verdict["worst"], rules.transaction_gas
    if verdict["fits"] == "eth_call":
        least = _part(limit, worst)
        return (
            f"an inference only as eth_call (up to {worst:,} gas, and a transaction may use {limit:,}{least}){remedies}"
        )
    allowed = rules.call_gas
    least = _part(allowed, worst)
    return f"does not fit (up to {worst:,} gas, and an eth_call may use {allowed:,}{least}){remedies}"


def _part(limit: int, worst: int) -> str:
    """Return how large a model would fit, at least: memory costs shrink faster than a model does."""
    return f": one of {max(100 * limit // worst, 1)} % of its size would"


def _product(artifact: Artifact) -> list[tuple[str, str]]:
    """Return what the contract is made of, and by what."""
    if artifact.bytecode is None:
        return []
    held = {"code": [part["bytes"] for part in artifact.manifest.get("code_contracts", ())]}
    held["data"] = [*map(len, artifact.data)]
    elsewhere = [
        f"{sum(sizes):,} in {len(sizes)} {kind} contract{'s' if len(sizes) > 1 else ''}"
        for kind, sizes in held.items()
        if sizes
    ]
    size = artifact.manifest.get("code_bytes", len(artifact.bytecode.runtime))
    return [
        ("code", " and ".join([f"{size:,} bytes", *elsewhere])),
        ("compiled by", f"{artifact.bytecode.compiler} ({artifact.bytecode.how})"),
    ]
