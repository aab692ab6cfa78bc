"""Lets a clone that was never installed import `lightning_ssl_theory.callbacks` from its top-level folder.

setup.cfg installs `callbacks/` inside the package; in a bare clone the folder lies beside it instead. The finder
below is added only there, and answers for that one name only.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parent
_CALLBACKS = _PACKAGE.parent / "callbacks"


class _CallbacksFinder:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "lightning_ssl_theory.callbacks":
            return None
        return importlib.util.spec_from_file_location(
            name, _CALLBACKS / "__init__.py", submodule_search_locations=[str(_CALLBACKS)]
        )


if not (_PACKAGE / "callbacks").is_dir() and (_CALLBACKS / "__init__.py").is_file():
    sys.meta_path.append(_CallbacksFinder)
