"""Makes a job of a compiled pipeline with Google's own library, without a network, and reads the
spec as kfp's message."""

import json
import sys

from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
    spec = json.load(file)
json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
job = aiplatform.PipelineJob(
    display_name="shop",
    template_path=sys.argv[1],
    pipeline_root="gs://bucket/root",
    project="project",
    location="europe-west1",
    job_id="shop-1",
    credentials=AnonymousCredentials(),
)
sent = json_format.MessageToDict(job._gca_resource._pb)["pipelineSpec"]
if sent != spec:
    sys.exit(f"the job has\n{sent}\nof\n{spec}")
