"""What `ehrfusion tasks` does: list, show, or label a folder; and `ehrfusion data harmonise`."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from experiments.terminal import console, say
from fusion.component import UsageError


def tasks(arguments: Namespace) -> int:
    """List the tasks, show one, or write its labels into a data folder."""
    from experiments.tasks.load import load_task, task_schema
    from experiments.tasks.show import render_list, render_task, tasks_markdown

    if arguments.schema:
        say(json.dumps(task_schema(), indent=1))
    elif arguments.markdown:
        print(tasks_markdown(), end="")  # noqa: T201 - a document for stdout
    elif arguments.name is None:
        if arguments.on is not None:
            raise UsageError("which task? give its name or a YAML file before --on; see: ehrfusion tasks")
        console().print(render_list())
    elif arguments.on is None:
        console().print(render_task(load_task(arguments.name)))
    else:
        _label(arguments, load_task(arguments.name))
    return 0


def data_harmonise(arguments: Namespace) -> int:
    """Write a folder in common units."""
    from experiments.data.harmonise import harmonise_folder
    from experiments.data.quality import render_quality

    found = harmonise_folder(arguments.source, arguments.out, overwrite=arguments.overwrite, progress=True)
    console().print(render_quality(found))
    say(f"wrote {arguments.out}; what was done is in {arguments.out}/metadata/quality.json")
    return 0


def _label(arguments: Namespace, task: Any) -> None:
    from experiments.tasks.show import render_result
    from experiments.tasks.write import label_folder

    about = label_folder(
        task, arguments.on, interactions=arguments.interactions, overwrite=arguments.overwrite, progress=True
    )
    console().print(render_result(about))
    say(f"wrote {arguments.on}/labels/{task.name} and {arguments.on}/tasks/{task.name} (flow.png, flow.svg, flow.json)")
    say(f"train on it with: data.folder={arguments.on} data.labels={task.name}")
