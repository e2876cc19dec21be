"""Compile the package's kernels for a GPU that need not be there: `python -m benchmarks.compile_kernels [CAPABILITY]`.

Prints for each kernel and size its registers, and what spills from them to memory: nothing should. That it compiles
says nothing of its speed. CAPABILITY is the GPU's compute capability without its dot, 90 by default.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Compiled(NamedTuple):
    """What became of a kernel."""

    name: str
    size: str
    registers: int
    spilled_bytes: int
    fused_products: int  # products and sums that are rounded together: 0


def compile_all(capability: int) -> list[Compiled]:
    """Compile each kernel, at the sizes that runs have."""
    from assl_lightning.augment import fused_kernel
    from assl_lightning.method import score_kernels

    compiled = []
    sizes = ((3, 32, 32, False), (3, 32, 32, True), (1, 28, 28, False), (3, 64, 64, True))
    for channels, height, width, channels_last in sizes:
        pixels = height * width
        block = max(256, 1 << (pixels - 1).bit_length())
        constants: dict[str, Any] = {
            "C": channels,
            "H": height,
            "W": width,
            "BLOCK": block,
            "AUGMENTS_LABELLED": True,
            "FLIP": True,
        }
        constants |= {"PAD_Y": height // 8, "PAD_X": width // 8, "NUM_OPS": 2, "NUM_CODES": 14, "LARGEST": 9}
        constants |= {"PROBABILITY": 0.5, "HAS_BOX": True, "SIDE_Y": height // 2, "SIDE_X": width // 2}
        constants["CHANNELS_LAST"] = channels_last
        lying = ", channels last" if channels_last else ""
        size, warps = f"{channels} × {height} × {width}{lying}", min(16, max(2, block // 256))
        compiled.append(_compile(fused_kernel.make_views, size, _OF_VIEWS, constants, warps, capability))
    for kind in ("fp32", "bf16"):
        arguments = {"weak": f"*{kind}", "strong": f"*{kind}", "observed": "*fp32", "C": "i32"}
        constants = {"HAS_STRONG": True, "BLOCK": 128}
        compiled.append(_compile(score_kernels.score_rows, f"100 classes, {kind}", arguments, constants, 1, capability))
    constants = {"IS_POST": True, "SKIPS": False, "BLOCK": 512}
    compiled.append(_compile(score_kernels.visit_rows, "448 rows", _OF_VISITS, constants, 4, capability))
    return compiled


_OF_VIEWS = {
    **{"pool": "*u8", "labelled": "*i64", "labelled_row": "*i64", "unlabelled": "*i64", "unlabelled_row": "*i64"},
    **{"labelled_key": "i64", "weak_key": "i64", "strong_key": "i64", "num_labelled": "i32", "num_unlabelled": "i32"},
    **{"codes": "*i64", "matrices": "*i32", "curves": "*u8", "stretches": "*u8", "factors": "*fp32"},
    **{"moments": "*fp32", "views": "*fp32"},
}
_OF_VISITS = {
    **{"index": "*i64", "observed": "*fp32", "values": "*fp32", "visits": "*i32", "updates": "*i64", "fault": "*i64"},
    **{"fault_values": "*fp32", "num_rows": "i32", "num_samples": "i32", "alpha": "fp32", "rest": "fp32"},
}


def _compile(
    kernel: Any, size: str, arguments: Mapping[str, str], constants: Mapping[str, Any], warps: int, capability: int
) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = list(kernel.arg_names)
    source = ASTSource(
        fn=kernel,
        signature={name: arguments.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
    )
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(source, target=target, options={"num_warps": warps, "enable_fp_fusion": False})
    text = made.asm["ptx"]
    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kernel.ptx"
        path.write_text(text, encoding="utf-8")
        architecture = f"sm_{capability}{'a' if capability >= 90 else ''}"
        command = [str(assembler), "-v", f"-arch={architecture}", str(path), "-o", str(path.with_suffix(".cubin"))]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers, spilled = re.search(r"Used (\d+) registers", said), re.findall(r"(\d+) bytes spill", said)
    assert registers is not None
    name = str(kernel.fn.__name__)
    return Compiled(name, size, int(registers[1]), sum(map(int, spilled)), text.count("fma.rn.f32"))


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    given = sys.argv[1:] if arguments is None else arguments
    print("| kernel | size | registers | spilled bytes | fused products |\n|---|---|--:|--:|--:|")
    for compiled in compile_all(int(given[0]) if given else 90):
        print("| " + " | ".join(map(str, compiled)) + " |")


if __name__ == "__main__":
    main()
