"""Describes the same containers in kfp's own language: its compiler writes the same file."""

import sys
import tempfile

import yaml
from google.protobuf import json_format
from kfp import compiler, components, dsl, kubernetes
from kfp.pipeline_spec import pipeline_spec_pb2


def component(name, container, asks_end):
    """A component of a container, as its author would write it."""
    if asks_end:

        def made(end: str):
            return dsl.ContainerSpec(
                image=container["image"], command=container["command"], args=[end]
            )
    else:

        def made():
            return dsl.ContainerSpec(image=container["image"], command=container["command"])

    made.__name__ = name.replace("-", "_")
    return dsl.container_component(made)


def described(spec, given):
    """The pipeline in kfp's language."""
    executors = spec["deploymentSpec"]["executors"]

    @dsl.pipeline(name=spec["pipelineInfo"]["name"])
    def pipeline():
        done = {}
        for name, task in spec["root"]["dag"]["tasks"].items():
            container = executors[f"exec-{name}"]["container"]
            make = component(name, container, "inputs" in task)
            now = dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER
            one = done[name] = make(end=now) if "inputs" in task else make()
            one.set_caching_options(False)
            one.after(*(done[above] for above in task.get("dependentTasks", [])))
            for variable in container.get("env", []):
                one.set_env_variable(variable["name"], variable["value"])
            for secret in given.get(f"exec-{name}", {}).get("secretAsEnv", []):
                keys = {key["secretKey"]: key["envVar"] for key in secret["keyToEnv"]}
                kubernetes.use_secret_as_env(one, secret["secretName"], keys)
            for claim in given.get(f"exec-{name}", {}).get("pvcMount", []):
                kubernetes.mount_pvc(one, claim["constant"], claim["mountPath"])

    return pipeline


with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
    spec, *platforms = yaml.safe_load_all(file)
json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
components.load_component_from_file(sys.argv[1])
given = {}
for platform in platforms:
    given = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
with tempfile.NamedTemporaryFile(suffix=".yaml") as compiled:
    compiler.Compiler().compile(described(spec, given), compiled.name)
    with open(compiled.name, encoding="utf-8") as file:  # noqa: PTH123
        theirs = list(yaml.safe_load_all(file))
theirs[0]["sdkVersion"] = spec["sdkVersion"]
if theirs != [spec, *platforms]:
    sys.exit(f"kfp compiles\n{theirs}\nand here is\n{[spec, *platforms]}")
