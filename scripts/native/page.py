"""Parts of a page on kernels."""

from . import sass


def table(head, rows):
    lines = [" | ".join(head), "|".join("---" for _ in head)]
    return "\n".join(f"| {line} |" if number != 1 else f"|{line}|"
                     for number, line in enumerate(lines + [" | ".join(map(str, row)) for row in rows])) + "\n"


def stores(code):
    widths = [f"{code.total('STG', '256')} of 32 B", f"{code.total('STG', '128')} of 16 B"]
    narrow = code.total("STG") - code.total("STG", "256") - code.total("STG", "128")
    return ", ".join(widths + [f"{narrow} narrower"])


def spilled(code):
    """What a function keeps in local memory, in words."""
    return ", ".join(f"{name} {number}" for name, number in sass.spills(code).items()) or "none"
