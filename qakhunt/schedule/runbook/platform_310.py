"""Azure Automation's Python: CPython 3.10 on Linux x86-64, whatever Python builds."""

from __future__ import annotations

PYTHON = "3.10"
PLATFORMS = (
    "manylinux2014_x86_64",
    *(f"manylinux_2_{minor}_x86_64" for minor in range(5, 29)),
    "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64", "any",
)  # fmt: skip
"""Wheels for glibc up to 2.28, which every supported Linux has."""

ENVIRONMENT = {
    "implementation_name": "cpython",
    "implementation_version": "3.10.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.10.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
"""The values of environment markers there; pip takes those of the Python it runs on."""
