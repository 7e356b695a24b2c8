"""The matrix: the unit tests under every supported Python that can be found, with the lowest and the newest libraries.

``make matrix`` runs all of it; ``nox -s 'matrix-3.12(lowest)' -- tests.unit.drain`` a part of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

# pyenv's own commands of these names start only the versions that are chosen at the moment.
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] = os.pathsep.join([*map(str, _PYENV.glob("versions/3.*/bin")), os.environ["PATH"]])

_PROJECT = nox.project.load_toml("pyproject.toml")
_EXTRAS = _PROJECT["project"]["optional-dependencies"]
#: Each library that the package itself needs, with the lowest version that it says it works with.
_FLOORS = re.findall(
    r"([\w-]+)>=([\d.]+)", " ".join([*_PROJECT["project"]["dependencies"], *_EXTRAS["admin"], *_EXTRAS["cli"]])
)

#: What the lowest Twisted came out with: with newer ones it cannot negotiate HTTP/2 over TLS.
_CONTEMPORARIES = ["pyOpenSSL==24.2.1", "cryptography==43.0.3"]


@nox.session(python=nox.project.python_versions(_PROJECT), reuse_venv=True)
@nox.parametrize("libraries", ["lowest", "newest"], ids=["lowest", "newest"])
def matrix(session: nox.Session, libraries: str) -> None:
    """Run the unit tests, or those that are named."""
    constraints = Path(session.create_tmp(), "constraints.txt")
    lowest = [*(f"{name}=={floor}" for name, floor in _FLOORS), *_CONTEMPORARIES]
    constraints.write_text("\n".join(lowest) if libraries == "lowest" else "")
    session.install("--upgrade", "--constraint", str(constraints), "--editable", ".[test]")
    session.run("python", "-m", "pip", "list")
    trial = Path(session.create_tmp(), "trial")
    jobs = f"--jobs={os.cpu_count()}"
    session.run(
        "python", "-m", "twisted.trial", f"--temp-directory={trial}", jobs, *(session.posargs or ["tests.unit"])
    )
