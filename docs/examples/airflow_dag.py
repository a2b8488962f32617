"""Features by the day: judged, filled, compared, and a training set as it was known that day.

FEATUREKIT_REPO names the feature repo, and `featurekit` is on the PATH of Airflow's workers. Every
task asks for the end of its data interval, so a day may run again, and be filled later.
"""

import datetime as dt
import os

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from featurekit.plugins.airflow import (
    DeployableSensor,
    DeployCheckOperator,
    MaterializedSensor,
    MaterializeOperator,
    ParityOperator,
    TrainingSetOperator,
    ValidateOperator,
)

with DAG(
    dag_id="features",
    schedule=CronDataIntervalTimetable("0 3 * * *", timezone="UTC"),
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    max_active_runs=1,
    default_args={
        "repo": os.environ.get("FEATUREKIT_REPO", "/home/featurekit/repo"),
        "retries": 2,
        "retry_delay": dt.timedelta(seconds=30),
    },
):
    judge = ValidateOperator(task_id="validate")
    fill = MaterializeOperator(task_id="materialize")
    filled = MaterializedSensor(task_id="materialized", timeout=600, poke_interval=10)
    compare = ParityOperator(task_id="parity", budget="2000")
    training = TrainingSetOperator(
        task_id="training_set",
        service="checkout",
        frame="labels.csv",
        output="train.parquet",
        contract="train.contract.json",
    )
    check = DeployCheckOperator(task_id="deploy_check", contract="train.contract.json")
    ready = DeployableSensor(
        task_id="deployable", contract="train.contract.json", timeout=600, poke_interval=10
    )
    judge >> fill >> filled >> [compare, training]
    [compare, training] >> check >> ready
