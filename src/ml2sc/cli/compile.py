"""`ml2sc-compile`: from an ONNX file to a folder with a contract."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml2sc.errors import UsageError
from ml2sc.jsontext import json_text
from ml2sc.sheet import table
from ml2sc.verdict import LEAST

from .common import PROFILE_HELP, add_prices, make_parser, one_of, prices_of, print_sheet, process_count, run

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact
    from ml2sc.frontend.ranges import ColumnRange
    from ml2sc.ir.chains import ChainProfile
    from ml2sc.money import Prices
    from ml2sc.passes.search_formats import Candidate

_WEIGHTS = ("auto", "code", "data")
_OPTIMIZE = ("inference", "deploy", "balanced")
_WHOSE = ("onnxruntime", "scores")
_FORKS = ("prague", "osaka", "glamsterdam")
_FORMS = ("contract", "abstract", "library")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(_parser(), _run, argv, takes_value=("--input-range", "--l1-fees"))


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("ml2sc-compile", "Compile an ONNX model into a smart contract that runs inference on the EVM.")
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL.onnx", help="the model; left out only with --explain")
    add("--unpickle", action="store_true", help="the model is a pickle that I trust: loading it runs the code in it")
    add("--target", default="solidity", metavar="NAME", help="solidity (default), or another backend that is installed")
    add("-o", dest="output", metavar="DIR", help="folder for the results (default: one named after the contract)")
    add(
        "--precision",
        default="auto",
        metavar="P",
        help="int8, wNaM (w8a16), layer by layer (w7a8/w8a7), qI.F (q31.32), auto",
    )
    add("--calibrate", metavar="data.npz", help="typical inputs: x of shape (samples, ...); chooses ranges and formats")
    add(
        "--min-agreement",
        type=float,
        metavar="SHARE",
        help="share of the calibration data's decisions (for regressions: R²) that must be kept, else exit status 4 "
        "(default: auto keeps all, int8 and other wNaM 0.95)",
    )
    add(
        "--tolerance",
        type=float,
        metavar="E",
        help="auto keeps errors within E: on the calibration data; without them, proved for every input (1e-6); a "
        "precision with larger ones fails",
    )
    add(
        "--margin",
        type=float,
        metavar="SHARE",
        help="share of the gas that auto spends on smaller errors than the calibration data ask for (default: 0.03)",
    )
    add("--plot", metavar="FILE.svg", type=Path, help="draw accuracy against gas of the formats auto chose between")
    add(
        "--input-range",
        action="append",
        default=[],
        metavar="RANGE",
        help="LO,HI: range of the inputs' values, once for each input (default: the calibration data's, else "
        "-65536,65536); COLUMN=LO,HI: of one column, by its number from 0 (as InputOutOfRange counts), its name or "
        "that of an input; FILE.csv with the header column,lo,hi, or FILE.json: of many, named so if each has a line",
    )
    add(
        "--columns",
        metavar="NAMES",
        help="names of the inputs' columns: A,B,C, or a .txt (a name a line) or .json file",
    )
    add("--weights", default="auto", metavar="WHERE", help="where weights are: auto (default), code, data")
    add(
        "--optimize",
        default="inference",
        metavar="GOAL",
        help="inference (default), balanced or deploy: as if called 10,000 times, 100 times, once",
    )
    add("--expected-calls", type=int, metavar="N", help="inferences to spread the deployment's cost over, instead")
    add(
        "--form",
        default="contract",
        metavar="FORM",
        help="contract (default); or internal functions for a contract of yours: abstract to inherit from, library",
    )
    add("--fork", metavar="NAME", help="EVM version: prague (default), osaka, glamsterdam")
    add("--chain-profile", metavar="CHAIN", help=PROFILE_HELP)
    add("-O", dest="level", type=int, choices=(0, 1, 2), default=2, help="how much the graph is rewritten (default: 2)")
    add("--passes", metavar="SPEC", help="these passes instead: 'name{option=value},O2,...'")
    add("--dump-ir", metavar="DIR", type=Path, help="write the graph after each pass, and the Program, into DIR")
    add("--explain", action="store_true", help="say what each pass did and why; without a model list the operators")
    add("--name", metavar="NAME", help="name of the contract (default: the file's)")
    add("--strict-input", action="store_true", help="revert on an input out of range instead of saturating")
    add("--packed-only", action="store_true", help="leave predict and classify (WAD inputs) out, and their code")
    add(
        "--labels",
        default="onnxruntime",
        metavar="NAMES|WHOSE",
        help="names of the decisions 0, 1, ..., given as --columns; or whose label it is where that of trees "
        "contradicts their scores: onnxruntime (default) or scores",
    )
    add("--updatable", action="store_true", help="let the contract's owner replace the weights later")
    add("--expected-updates", type=int, metavar="N", help="with --updatable: updates in that time (a hundredth of it)")
    add("--headroom", type=int, metavar="BITS", help="with --updatable: bits that weights may be wider later (1)")
    add("--timelock", type=int, metavar="SECONDS", help="with --updatable: notice before new weights are in use (0)")
    add("--erc165", action="store_true", help="let the contract say which functions it has (supportsInterface)")
    add("--erc7201", action="store_true", help="with --updatable, in Solidity: state from the slot of ml2sc.NAME on")
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes for many samples and auto's formats (default: one a core)",
    )
    add("--solc", metavar="PATH", help="the solc to use (default: ML2SC_SOLC, PATH, py-solc-x, the npm package)")
    add("--no-cache", action="store_true", help="run the compiler even if it compiled this very source before")
    add(
        "--kit",
        action="append",
        default=[],
        metavar="NAME",
        help="a project around it in DIR/kits: foundry, hardhat, python, ts; or an adapter: erc7007, erc7992, erc8004",
    )
    add("--json", action="store_true", help="print a summary as JSON")
    add_prices(parser)
    add(
        "--l1-fees",
        metavar="GAS,BLOB",
        help="for rollups of the OP Stack: say what a transaction's bytes cost at these prices of Ethereum's, in gwei",
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.model is None:
        if not arguments.explain:
            raise UsageError("no model given", hint="ml2sc-compile MODEL.onnx; --help lists the options")
        _list_operators(as_json=arguments.json)
        return
    one_of("place for weights", arguments.weights, _WEIGHTS)
    one_of("goal", arguments.optimize, _OPTIMIZE)
    if arguments.fork is not None:
        one_of("fork", arguments.fork, _FORKS)
    one_of("form", arguments.form, _FORMS)
    ranges = tuple(_range(text, text) for text in arguments.input_range if "=" not in text and not _is_file(text))
    columns = [column for text in arguments.input_range for column in _columns(text)]
    if arguments.output == "":
        raise UsageError("-o names no folder", hint="left out, the folder is named after the contract")
    update = {name: getattr(arguments, name) for name in ("expected_updates", "headroom", "timelock")}
    update = {name: value for name, value in update.items() if value is not None}
    if update and not arguments.updatable:
        raise UsageError(f"--{next(iter(update)).replace('_', '-')} is of use with --updatable only")
    profile = _profile(arguments.chain_profile)
    prices = _prices(arguments, profile)
    if arguments.plot is not None and arguments.calibrate is None:
        raise UsageError("--plot draws what auto chose between on calibration data", hint="add --calibrate data.npz")

    from ml2sc.backends.columns import column_lines
    from ml2sc.backends.summary import sheet_of
    from ml2sc.compiler import build
    from ml2sc.compiler import compile as compile_model
    from ml2sc.folder import require_room, write_folder
    from ml2sc.frontend.names import check_names, contract_name, read_names
    from ml2sc.options import Options
    from ml2sc.placing import require_writable
    from ml2sc.runtime.compiler_cache import CompilerCache
    from ml2sc.runtime.toolchain import Toolchain

    column_names = () if arguments.columns is None else read_names(arguments.columns, "--columns")
    check_names(column_names, "column")
    name = arguments.name
    if name is None and arguments.unpickle:
        name = contract_name(Path(arguments.model).stem)
    options = Options(
        target=arguments.target,
        precision=arguments.precision,
        min_agreement=_least(arguments),
        margin=arguments.margin,
        tolerance=arguments.tolerance,
        input_ranges=ranges,
        column_ranges=tuple(columns),
        column_names=column_names,
        class_names=() if arguments.labels in _WHOSE else read_names(arguments.labels, "--labels"),
        weights=arguments.weights,
        optimize=arguments.optimize,
        expected_calls=arguments.expected_calls,
        fork=arguments.fork or ("prague" if profile is None else profile.evm),
        chain_profile=profile,
        level=arguments.level,
        passes=arguments.passes,
        name=name,
        strict_input=arguments.strict_input,
        packed_only=arguments.packed_only,
        labels=arguments.labels if arguments.labels in _WHOSE else _WHOSE[0],
        updatable=arguments.updatable,
        erc165=arguments.erc165,
        erc7201=arguments.erc7201,
        form=arguments.form,
        **update,
    )
    if arguments.output is not None:
        require_writable(Path(arguments.output))
    candidates: list[Candidate] = []
    wanted = arguments.explain or arguments.plot is not None
    artifact = compile_model(
        _model(arguments),
        calibration=arguments.calibrate,
        options=options,
        dump_ir=arguments.dump_ir,
        explain=_explain if arguments.explain else None,
        runners_up=candidates.extend if wanted else None,
        workers=process_count(arguments),
    )
    if arguments.plot is not None:
        _draw(artifact, candidates, arguments.plot)
    folder = Path(arguments.output if arguments.output is not None else artifact.name)
    require_room(artifact, folder)
    if arguments.kit:
        from ml2sc.kits import require_kits  # they deploy contracts, and import what that takes

        require_kits(arguments.kit, artifact, folder)
    cache = CompilerCache(None) if arguments.no_cache else CompilerCache.default()
    artifact = build(artifact, Toolchain(arguments.solc, cache))
    files = write_folder(artifact, folder)
    if arguments.kit:
        from ml2sc.kits import write_kits

        files += write_kits(arguments.kit, artifact, folder, {})
    for warning in artifact.bytecode.warnings if artifact.bytecode is not None else ():
        print(f"warning: {warning}", file=sys.stderr)
    if arguments.json:
        print(json_text(_summary(artifact, folder, files)))
    elif arguments.quiet:
        print("\n".join(map(str, files)))
    else:
        sheet = sheet_of(artifact, prices, explain=arguments.explain)
        names = ", ".join(str(path.relative_to(folder)) for path in files)
        print_sheet(replace(sheet, facts=[*sheet.facts, ("files", f"{folder}: {names}")]))
        if arguments.explain:
            print("\n".join(["  inputs", *(f"  {line}" for line in column_lines(artifact.manifest))]))
            print("\n".join(_fidelity(artifact.manifest, candidates)))


def _model(arguments: argparse.Namespace) -> Any:
    """Return the model: its path, or what a pickle holds that is trusted."""
    if not arguments.unpickle:
        return arguments.model
    from ml2sc.frontend.unpickle import unpickled

    return unpickled(arguments.model)


def _profile(name: str | None) -> ChainProfile | None:
    if name is None:
        return None
    from ml2sc.chain_file import chain_profile

    return chain_profile(name)


def _prices(arguments: argparse.Namespace, profile: ChainProfile | None) -> Prices:
    """Return what gas costs, and on a rollup the chain below.

    Raises:
        UsageError: a price is none, or of use on other chains only.
    """
    prices = prices_of(arguments)
    if arguments.l1_fees is None:
        return prices
    if profile is None or not profile.prices_data:
        raise UsageError(
            "--l1-fees is of use for a rollup of the OP Stack only",
            hint="--chain-profile base, op, or a FILE.toml with data_fee, l1_base_scalar and l1_blob_scalar",
        )
    try:
        base, blob = map(float, arguments.l1_fees.split(","))
    except ValueError:
        raise UsageError("--l1-fees takes two numbers: gwei of gas, gwei of blobs", hint="--l1-fees 2.5,0.01") from None
    return replace(prices, below=(base, blob))


def _least(arguments: argparse.Namespace) -> float | None:
    """Return the share of the model that must be kept: of narrow formats some, even if nobody asks for it."""
    from ml2sc.passes.precision import Integer, Layered, parse_precision

    if arguments.min_agreement is not None:
        return float(arguments.min_agreement)
    narrow = isinstance(parse_precision(arguments.precision), Integer | Layered)
    return LEAST if narrow and arguments.calibrate is not None else None


def _columns(text: str) -> Sequence[ColumnRange]:
    """Return the columns' ranges that an --input-range holds; none if it is one of a whole input."""
    from ml2sc.frontend.ranges import ColumnRange, read_ranges

    if _is_file(text):
        return read_ranges(text)
    name, equals, ends = text.rpartition("=")
    return [ColumnRange(name, *_range(ends, text))] if equals else ()


def _is_file(text: str) -> bool:
    """Whether what is given for a range is the name of a file."""
    return text.lower().endswith((".csv", ".json"))


def _range(ends: str, text: str) -> tuple[float, float]:
    try:
        lo, hi = map(float, ends.split(","))
    except ValueError:
        raise UsageError(
            f"--input-range {text!r} is not LO,HI, COLUMN=LO,HI or a .csv or .json file",
            hint="for instance --input-range -1,1",
        ) from None
    if not (lo < hi and abs(lo) < float("inf") and abs(hi) < float("inf")):
        raise UsageError(f"--input-range {text!r}: LO must be less than HI, both finite")
    return lo, hi


def _draw(artifact: Artifact, candidates: Sequence[Candidate], path: Path) -> None:
    """Write the picture of what was chosen between."""
    from ml2sc.errors import OutputError
    from ml2sc.plot import picture

    precision = str(artifact.manifest["precision"])
    if not candidates:
        raise UsageError(f"there is nothing to draw: {precision} was not chosen from several formats")
    decides = bool(artifact.manifest["decision"])
    title = f"{artifact.name}: formats on the calibration data, {precision} chosen"
    try:
        accuracy = artifact.manifest["calibration"]["model_accuracy"]
        drawn = picture(candidates, precision, decides=decides, title=title, model_accuracy=accuracy)
        path.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _fidelity(manifest: Mapping[str, Any], candidates: Sequence[Candidate]) -> Iterator[str]:
    """Return what calibration found, layer by layer, and what the choice was between."""
    found = manifest.get("calibration")
    if found is None:
        return
    rows = [
        [
            layer["tensor"],
            layer["operator"],
            layer["format"],
            f"{layer['scale']:.3g}",
            layer["range"] or "",
            f"{layer['saturated']:,}",
            f"{layer['error']:.2g}",
            f"{layer['added']:.2g}",
            "" if layer["signal_to_noise"] is None else f"{layer['signal_to_noise']:.1f} dB",
        ]
        for layer in found["layers"]
    ]
    header = ["tensor", "operator", "format", "scale", "range", "saturated", "error", "added", "signal/noise"]
    yield f"  on {found['assessed']:,} calibration samples (errors: root of the mean square)"
    yield from (f"  {line}" for line in table(header, rows))
    if candidates:
        rows = [
            [
                f"{c.precision}{' *' if str(c.precision) == manifest['precision'] else ''}",
                f"{c.gas:,}",
                "" if c.measured is None or not manifest["decision"] else f"{c.measured.kept / c.measured.samples:.2%}",
                "" if c.accuracy is None else f"{c.accuracy:.2%}",
                "" if c.measured is None else f"{c.measured.largest:.3g}",
                "yes" if c.good else "no",
            ]
            for c in candidates
        ]
        yield "  formats auto chose between (* taken), by their gas in Solidity whatever the target"
        header = ["precision", "gas", "decisions kept", "accuracy", "largest error", "enough"]
        yield from (f"  {line}" for line in table(header, rows))


def _explain(text: str) -> None:
    print(text, file=sys.stderr)


def _list_operators(*, as_json: bool) -> None:
    from ml2sc.frontend.onnx_import import supported_operators
    from ml2sc.ir.ops import OPS
    from ml2sc.ir.ops.folding import folds_only

    operators = []
    for name in supported_operators():
        owner = OPS.owner(name) if name in OPS else "ml2sc"
        # a plugin is not loaded for a list: it may fail to
        operators.append({"operator": name, "folds_only": owner == "ml2sc" and folds_only(name), "owner": owner})
    if as_json:
        print(json_text(operators))
        return
    for entry in operators:
        folds = "  (only where it folds to a constant)" if entry["folds_only"] else ""
        plugin = "" if entry["owner"] == "ml2sc" else f"  (by {entry['owner']})"
        print(f"{entry['operator']}{folds}{plugin}")


def _summary(artifact: Artifact, folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Return what `--json` prints: the manifest without what is long (the tensors, what calibration found)."""
    manifest = {key: value for key, value in artifact.manifest.items() if key not in {"tensors", "calibrated"}}
    return {**manifest, "directory": str(folder), "files": [str(path) for path in files], **_sizes(artifact)}


def _sizes(artifact: Artifact) -> dict[str, int]:
    runtime = artifact.bytecode.runtime if artifact.bytecode is not None else b""
    return {"code_bytes": len(runtime), "data_bytes": sum(map(len, artifact.data))}


if __name__ == "__main__":
    sys.exit(main())
