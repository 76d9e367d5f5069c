"""Command lines of ``trimtab deploy vllm`` in vLLM itself, for ``make check-deploy``, in an environment of its own:
``python FILE JOB.json``.

The job is a list of lists of words that begin with ``vllm serve``. Each is parsed by the parser of that command,
checked as that command checks it, and made into the engine's config, for which vLLM reads the folder's own but no
weights. The last line is a JSON list of what it found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser


def made(words: list[str]) -> dict[str, Any]:
    """What vLLM understood. Raises SystemExit for an option that it does not know, ValueError for what cannot be."""
    parser = FlexibleArgumentParser()
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(required=True, dest="subparser"))
    given = parser.parse_args(words[1:])
    given.model = getattr(given, "model_tag", None) or given.model
    command.validate(given)
    config = AsyncEngineArgs.from_cli_args(given).create_engine_config()
    model = config.model_config
    return {
        "folder": Path(given.model).name, "architecture": model.architecture, "dtype": str(model.dtype),
        "length": model.max_model_len, "quantization": model.quantization, "host": given.host, "port": given.port,
        "images": given.limit_mm_per_prompt.get("image") if given.limit_mm_per_prompt else None,
        "parts": config.parallel_config.tensor_parallel_size, "origins": given.allowed_origins,
    }  # fmt: skip


def main() -> None:
    print(json.dumps([made(words) for words in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))]))


if __name__ == "__main__":
    main()
