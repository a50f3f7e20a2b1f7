"""What `ml2sc-deploy` and `ml2sc-update` do before anything is sent: is the folder's bytecode its source's?"""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml2sc.backends.base import Artifact
    from ml2sc.runtime.bytecode import Comparison

log = logging.getLogger(__name__)

SOLC_HELP = "the solc that the source is compiled with again, to compare the bytecode (default: one on this machine)"


def compare_folder(artifact: Artifact, arguments: argparse.Namespace) -> Comparison:
    """Compare a folder's bytecode with its source; warn where that cannot be done.

    Raises:
        CheckError: they differ, or cannot be compared with the solc that was named.
    """
    from ml2sc.runtime.bytecode import compare_bytecode
    from ml2sc.runtime.toolchain import Toolchain

    named = arguments.solc is not None
    compared = compare_bytecode(artifact, Toolchain(arguments.solc, downloads=named), needed=named)
    if not compared.compared:
        log.warning("the bytecode is %s", compared.summary)
    return compared
