"""Reads DAGs as Airflow's scheduler does, and writes them as it keeps them."""

import json
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

bag = DagBag(dag_folder=sys.argv[1])
if bag.import_errors:
    sys.exit(str(bag.import_errors))
told = {}
for name, dag in bag.dags.items():
    DagSerialization.to_dict(dag)
    told[name] = {
        "schedule": getattr(dag.timetable, "summary", "None"),
        "tasks": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
    }
json.dump(told, sys.stdout)
