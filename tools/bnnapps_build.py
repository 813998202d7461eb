"""The build back end: scikit-build-core, but a machine without CMake gets the package without the compiled kernels.

scikit-build-core itself tries again without CMake where a compilation fails (see `if.failed` in pyproject.toml), not
where there is no CMake at all, as in `pip install --no-build-isolation` on a bare machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from scikit_build_core import build as _scikit
from scikit_build_core.build import *  # noqa: F403 - every other hook is passed on
from scikit_build_core.errors import NotFoundError

Settings = dict[str, list[str] | str]
Build = Callable[[str, Settings | None, str | None], str]


def _with_or_without_kernels(
    build: Build, wheel_directory: str, config_settings: Settings | None, metadata_directory: str | None
) -> str:
    try:
        return build(wheel_directory, config_settings, metadata_directory)
    except NotFoundError as problem:
        print(
            f"bnnapps: no compiled kernels ({problem}); packed models will run on their function bodies",
            file=sys.stderr,
        )
    without: Settings = {"wheel.cmake": "false", "wheel.platlib": "false"}
    return build(wheel_directory, (config_settings or {}) | without, metadata_directory)


def build_wheel(
    wheel_directory: str, config_settings: Settings | None = None, metadata_directory: str | None = None
) -> str:
    """Builds a wheel; the arguments are those of PEP 517."""
    return _with_or_without_kernels(_scikit.build_wheel, wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings | None = None, metadata_directory: str | None = None
) -> str:
    """Builds an editable wheel; the arguments are those of PEP 660."""
    return _with_or_without_kernels(_scikit.build_editable, wheel_directory, config_settings, metadata_directory)
