"""Describes the same steps with SageMaker's own SDK, which writes the same definition; and compares
each step with the shape of CreateProcessingJob in the API's model."""

import json
import sys

import boto3
import botocore.session
from botocore.validate import ParamValidator
from sagemaker.processing import Processor
from sagemaker.workflow.execution_variables import ExecutionVariables
from sagemaker.workflow.parameters import ParameterString
from sagemaker.workflow.pipeline import Pipeline
from sagemaker.workflow.pipeline_context import PipelineSession
from sagemaker.workflow.steps import ProcessingStep

with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
    given = json.load(file)
keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
boto = boto3.Session(region_name="eu-west-1", **keys)
session = PipelineSession(boto_session=boto, default_bucket="bucket")
role = ParameterString("Role")
kind = ParameterString("InstanceType", default_value="ml.m5.large")


def described(step):
    """A step as its author would write it."""
    told = step["Arguments"]
    env = {
        name: ExecutionVariables.START_DATETIME if isinstance(value, dict) else value
        for name, value in told.get("Environment", {}).items()
    }
    processor = Processor(
        role=role,
        image_uri=told["AppSpecification"]["ImageUri"],
        instance_count=1,
        instance_type=kind,
        volume_size_in_gb=30,
        entrypoint=told["AppSpecification"]["ContainerEntrypoint"],
        env=env or None,
        max_runtime_in_seconds=told.get("StoppingCondition", {}).get("MaxRuntimeInSeconds"),
        sagemaker_session=session,
    )
    return ProcessingStep(step["Name"], step_args=processor.run(), depends_on=step.get("DependsOn"))


def filled(value):
    """Arguments with a value for each variable of a pipeline."""
    if isinstance(value, dict):
        if set(value) == {"Get"}:
            return "arn:aws:iam::123456789012:role/role"
        return {name: filled(one) for name, one in value.items()}
    return [filled(one) for one in value] if isinstance(value, list) else value


made = Pipeline(
    "shop",
    parameters=[role, kind],
    steps=[described(step) for step in given["Steps"]],
    sagemaker_session=session,
)
theirs = json.loads(made.definition())
for part in ("Version", "Parameters", "Steps"):
    if theirs[part] != given[part]:
        sys.exit(f"the SDK writes\n{theirs[part]}\nand here is\n{given[part]}")
model = botocore.session.get_session().get_service_model("sagemaker")
shape = model.operation_model("CreateProcessingJob").input_shape
for step in given["Steps"]:
    job = {"ProcessingJobName": step["Name"], **filled(step["Arguments"])}
    told = ParamValidator().validate(job, shape).generate_report()
    if told:
        sys.exit(f"{step['Name']}: {told}")
