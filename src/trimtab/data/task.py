"""What a model is asked to do, and on which data: the recipe's ``task:``."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trimtab.core.errors import BadInput, nearest, unknown
from trimtab.data.builtin import BUILTIN

TYPES = ("vqa", "classify", "caption", "retrieve", "text")
METRICS = ("exact", "vqa", "f1")
SPLITS = ("train", "test", "validation")
# What other tools and older habits call things -> what a task calls them.
FOREIGN = {
    "file": "data", "path": "data", "data_files": "data", "data_file": "data", "data_dir": "data", "csv": "data",
    "filename": "data", "name": "dataset", "dataset_name": "dataset", "task_name": "dataset", "images": "image_root",
    "image_dir": "image_root", "image_folder": "image_root", "img_root": "image_root", "root": "image_root",
    "n": "limit", "num_examples": "limit", "num_samples": "limit", "max_samples": "limit", "max_examples": "limit",
    "size": "limit", "random_seed": "seed", "template": "prompt", "prompt_template": "prompt", "metrics": "metric",
    "task": "type", "kind": "type", "task_type": "type", "subset": "split", "fold": "split",
    "image_column": "columns.image", "question_column": "columns.question", "text_column": "columns.question",
    "answer_column": "columns.answer", "label_column": "columns.answer", "group_column": "columns.group",
    "group_by": "columns.group", "group": "columns.group", "id_column": "columns.id", "split_column": "columns.split",
}  # fmt: skip
FOREIGN_COLUMNS = {
    "img": "image", "image_path": "image", "picture": "image", "file_name": "image", "q": "question",
    "text": "question", "prompt": "question", "label": "answer", "labels": "answer", "target": "answer",
    "class": "answer", "caption": "answer", "patient": "group", "document": "group", "subject": "group",
    "fold": "split", "uid": "id", "key": "id",
}  # fmt: skip


def _known(value: Any, where: str, options: list[str], foreign: dict[str, str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: got {type(value).__name__}; accepted: keys and values ({', '.join(options)})")
    for key in value:
        if key not in options:
            other = foreign.get(str(key))
            hint = f" (here it is called {other!r})" if other else nearest(str(key), options)
            raise BadInput(f"{where}.{key}: unknown key{hint}; accepted: {', '.join(options)}")
    return value


class Columns(BaseModel):
    """Names of a table's columns; what is not named is looked for under its own name (``image``, ``question`` ...)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    image: str | None = None
    question: str | None = None
    answer: str | None = None
    group: str | None = None
    split: str | None = None
    id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        if isinstance(value, Columns):
            return value
        return _known(value, "task.columns", list(cls.model_fields), FOREIGN_COLUMNS)


class Task(BaseModel):
    """A built-in ``dataset`` or a user's ``data`` (csv, jsonl, parquet, a folder of class folders; text files).

    ``prompt`` is a template with ``{question}``: with the model's image placeholder in it, it is taken as it stands,
    else it is what the user says in the model's chat template. Without a question column it may be a fixed text.
    ``limit`` samples of ``split`` are chosen by ``seed``, so that a smaller limit takes a subset of a larger one's.
    ``figure`` is what its figures are called after, which stands in reports.
    Raises BadInput that names the key, what it was, what is accepted and the nearest valid name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["vqa", "classify", "caption", "retrieve", "text"] = "vqa"
    dataset: str | None = None
    data: str | None = None
    image_root: str | None = None
    columns: Columns = Columns()
    prompt: str | None = None
    metric: Literal["exact", "vqa", "f1"] = "exact"
    split: Literal["train", "test", "validation"] = "test"
    limit: int | None = Field(None, ge=1)
    seed: int = 0
    figure: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        if isinstance(value, Task):
            return value
        given = dict(_known(value, "task", list(cls.model_fields), FOREIGN))
        for key, options in (("type", TYPES), ("metric", METRICS), ("split", SPLITS), ("dataset", BUILTIN)):
            if given.get(key) is not None and given[key] not in options:
                raise _not_an_option(key, str(given[key]), options)
        if (given.get("dataset") is None) == (given.get("data") is None):
            got = "both" if given.get("data") is not None else "neither"
            raise BadInput(f"task: got {got} of 'dataset' and 'data'; accepted: one of them, dataset one of "
                           f"{', '.join(BUILTIN)}, or data: a file or folder of your own")  # fmt: skip
        if given.get("dataset") is not None:
            natural = BUILTIN[given["dataset"]].type
            if given.setdefault("type", natural) != natural:
                raise BadInput(f"task.type: got {given['type']!r}; the data set {given['dataset']} is {natural!r}")
        return given

    @model_validator(mode="after")
    def _prompt(self) -> Task:
        for name in re.findall(r"\{(\w*)\}", self.prompt or ""):
            if name != "question":
                raise BadInput(f"task.prompt: got the placeholder {{{name}}}; accepted: {{question}}")
        return self

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Task:
        """From plain data. Raises BadInput on anything that is not a task."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            rows = [f"task.{'.'.join(map(str, row['loc']))}: got {row['input']!r}; {row['msg']}"
                    for row in error.errors()]  # fmt: skip
            raise BadInput("\n".join(rows)) from error

    @property
    def name(self) -> str:
        """What figures are called after: ``figure``, else the data set's name, ``task`` for a user's own data."""
        return self.figure or self.dataset or "task"


def _not_an_option(key: str, got: str, options: Any) -> BadInput:
    error = unknown(f"task.{key}", got, options)
    more = "; your own file goes under 'data:'" if key == "dataset" else ""
    return BadInput(f"{error}{more}")
