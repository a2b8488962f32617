"""Loads the definitions of a code location, and asks the schedule what it would start."""

import datetime as dt
import importlib.util
import json
import sys

import dagster as dg

found = importlib.util.spec_from_file_location("made", sys.argv[1])
made = importlib.util.module_from_spec(found)
found.loader.exec_module(made)
repository = made.defs.get_repository_def()
(job,) = [one for one in repository.get_all_jobs() if not one.name.startswith("__")]
needs = {
    node.name: sorted(
        output.node_name
        for outputs in job.graph.dependency_structure.input_to_upstream_outputs_for_node(
            node.name
        ).values()
        for output in outputs
    )
    for node in job.nodes
}
told = {"job": job.name, "needs": needs}
for schedule in repository.schedule_defs:
    at = dt.datetime(2026, 7, 1, 3, 10, tzinfo=dt.UTC)
    context = dg.build_schedule_context(scheduled_execution_time=at)
    (request,) = schedule.evaluate_tick(context).run_requests
    told["schedule"] = [schedule.cron_schedule, schedule.execution_timezone]
    told["tags"] = request.tags
json.dump(told, sys.stdout)
