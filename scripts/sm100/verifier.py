"""SentryWard's input from a recorded launch, its run, and the judgment of its result."""

import json
import os
import subprocess
import sys

from . import ptx
from native.build import FETCHED, Failure

# CUtensorMapDataType, CUtensorMapSwizzle, CUtensorMapFloatOOBfill in SentryWard's words.
DATA_TYPES = {0: "u8", 1: "u16", 13: "16u4_align8b"}
SWIZZLES = {0: "none", 1: "32B", 2: "64B", 3: "128B"}
OOB_FILLS = {0: "zero", 1: "nan"}
TENSOR_MAP_BYTES = 128
TIMEOUT_S = 900
MEMORY_MIB = 8000


def object_of(launch, address):
    """The operand that an address is in and the offset there; None for other values."""
    number = address >> launch["object_shift"]
    for name, base in launch["objects"].items():
        if number == base >> launch["object_shift"]:
            return name, address - base
    return None


def tensor_map(launch, parameter, recorded):
    name, offset = object_of(launch, recorded["address"])
    entry = {
        "parameter": parameter,
        "offset": recorded["offset"],
        "element_type": DATA_TYPES[recorded["data_type"]],
        "rank": len(recorded["global_dim"]),
        "global_shape": recorded["global_dim"],
        "global_strides_bytes": recorded["global_strides"],
        "box_shape": recorded["box_dim"],
        "element_strides": recorded["element_strides"],
        "swizzle": SWIZZLES[recorded["swizzle"]],
        "interleave": "none",
        "oob_fill": OOB_FILLS[recorded["oob_fill"]],
        "object": name,
    }
    if recorded["interleave"] != 0:
        raise Failure("a tensor map with interleave")
    if offset:
        entry["base_byte_offset"] = offset
    return entry


def kernel_input(launch, text):
    """SentryWard's input.json: the launch, every word of the parameter that the PTX loads, the tensor maps."""
    parameter, size = ptx.parameter(text)
    data = bytes.fromhex(launch["parameter"])
    if size != len(data) or size != launch["kernel"]["params_bytes"]:
        raise Failure(f"the parameter has {size} bytes in the PTX and {len(data)} on the host")
    maps = [tensor_map(launch, parameter, recorded) for recorded in launch["tensor_maps"]]
    arguments, declarations = [], []
    for offset, width in sorted(ptx.parameter_words(text)):
        if any(m["offset"] < offset + width and offset < m["offset"] + TENSOR_MAP_BYTES for m in maps):
            raise Failure(f"the kernel loads bytes {offset}..{offset + width} of its parameter, inside a tensor map")
        value = int.from_bytes(data[offset:offset + width], "little")
        place = {"parameter": parameter, "offset": offset}
        pointee = object_of(launch, value) if width == 8 else None
        if pointee is None:
            arguments.append({**place, "type": f"u{8 * width}", "value": value})
        elif pointee[1] == 0:
            declarations.append({**place, "type": "pointer", "object": pointee[0]})
        else:
            raise Failure(f"the pointer at byte {offset} of the parameter is {pointee[1]} bytes into {pointee[0]}")
    return {
        "schema": "spverify.kernel-input/v1",
        "launch": {
            "grid_dim": launch["grid"],
            "block_dim": launch["block"],
            "cluster_dim": launch["cluster"],
            "dynamic_shared_bytes": launch["smem_bytes"],
        },
        "arguments": arguments,
        "declarations": declarations,
        "tma_descriptors": maps,
    }


def verify(text, config, stem):
    """Runs SentryWard on `stem`.ptx and `stem`.json and gives its result."""
    source, description = stem.with_suffix(".ptx"), stem.with_suffix(".json")
    source.write_text(text)
    description.write_text(json.dumps(config, indent=1))
    environment = dict(os.environ)
    fetched = FETCHED / "proof"
    if fetched.exists():
        environment["PYTHONPATH"] = str(fetched)
    command = [sys.executable, "-m", "sentryward", str(source), "--input", str(description),
               "--timeout", str(TIMEOUT_S), "--memory-limit-mib", str(MEMORY_MIB)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    try:
        result = json.loads(done.stdout)
    except ValueError:
        words = done.stderr.strip()
        raise Failure(f"sentryward printed no result (third_party/fetch.sh --proof gets it): {words}") from None
    stem.with_suffix(".result.json").write_text(done.stdout)
    return result


def objections(result):
    """Why a result is not a clean proof; nothing if it is."""
    found = []
    if result.get("result") != "race_free":
        found.append(f"result {result.get('result')}")
    checks = result.get("checks", {})
    found += [f"{name} {checks.get(name)}" for name in ("synchronization", "memory") if checks.get(name) != "passed"]
    if result.get("races"):
        found.append(f"{len(result['races'])} races")
    # null where the check did not come that far
    if result.get("warning_count") != 0:
        found.append(f"{result.get('warning_count')} warnings")
    for diagnostic in result.get("diagnostics", [])[:1]:
        line = diagnostic.get("details", {}).get("ptx_line")
        found.append(f"{diagnostic.get('code')}: {diagnostic.get('message')}" + (f", line {line}" if line else ""))
    for race in result.get("races", [])[:1]:
        places = [f"{race[end]['mode']} in line {race[end]['location']['line']}" for end in ("first", "second")]
        found.append(f"{' and '.join(places)} at {race['region']['address_space']}+{race['region']['offset']}")
    return found
