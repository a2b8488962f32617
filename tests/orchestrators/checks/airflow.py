"""Reads DAGs as Airflow's scheduler does, and writes them as it keeps them."""

import json
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

bag = DagBag(dag_folder=sys.argv[1])
if bag.import_errors:
    sys.exit(str(bag.import_errors))
told = {}


def rendered(dag, task):
    """The variables and the script of a pod, once Jinja has read them."""
    read = dag.get_template_env().from_string
    values = {one.name: read(one.value).render() for one in task.env_vars if one.value is not None}
    return [values, [read(word).render() for word in task.cmds]]


for name, dag in bag.dags.items():
    DagSerialization.to_dict(dag)
    told[name] = {
        "schedule": getattr(dag.timetable, "summary", "None"),
        "tasks": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "pods": {task.task_id: rendered(dag, task) for task in dag.tasks},
    }
json.dump(told, sys.stdout)
