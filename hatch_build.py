"""Compiles src/trimtab/native when Trimtab is installed or built into a wheel, where there is a C++ compiler.

Without one, or with TRIMTAB_NATIVE=0, nothing is compiled and Trimtab works in torch alone, slower.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("src/trimtab/native")
NAME = "trimtab_native.so"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-shared", "-pthread", "-Wno-psabi"]


class Compile(BuildHookInterface):
    """One shared library with a plain C interface: no headers of Python or torch, so it serves any version of them."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
        if self.target_name != "wheel" or os.environ.get("TRIMTAB_NATIVE") == "0" or not compiler:
            return
        if sys.platform == "win32":
            return
        folder = Path(self.root) / FOLDER
        out, sources = folder / NAME, sorted(str(path) for path in folder.glob("*.cpp"))
        made = out.with_suffix(".part")
        command = [*shlex.split(compiler), *FLAGS, *sources, "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            self.app.display_warning(f"trimtab: not compiled, torch does it all, slower: {done.stderr[-400:]}")
            return
        made.replace(out)
        build_data["artifacts"].append(str(FOLDER / NAME))
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
