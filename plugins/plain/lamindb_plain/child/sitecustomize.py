"""Has a Python process that a tracked run started note its files; then the real sitecustomize.

Found by PYTHONPATH, so it must suit any Python there is, and stand alone.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _observe():
    prefix = os.environ.get("LAMINDB_OBSERVED_BY")
    if not prefix or sys.version_info < (3, 8):
        return
    from importlib.util import module_from_spec, spec_from_file_location

    path = os.path.join(os.path.dirname(_HERE), "accesses.py")
    spec = spec_from_file_location("_lamindb_accesses", path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    # what belongs to the interpreter counts for no run
    own = tuple(
        os.path.join(each, name) + os.sep
        for each in {sys.prefix, sys.base_prefix}
        for name in ("lib", "lib64", "bin", "share")
    )
    relay = module.Relay(prefix)

    def heard(kind, path, other):
        if not path.startswith(own):
            relay(kind, path, other)

    module.listen(heard)


def _go_on():
    """Import what would have been imported without us."""
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or ".") != _HERE]
    here = sys.modules.pop("sitecustomize", None)
    sys.path_importer_cache.pop(_HERE, None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", here)


try:
    _observe()
except Exception:  # the process must start as without us
    pass
_go_on()
