"""Turns what is told of a run into an event of OpenLineage, and sends it by the official client.

No other module loads that client, which is of featurekit[lineage].
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.core.version import VERSION
from featurekit.errors import ConfigError
from featurekit.online.store.url import without_logins
from featurekit.project.lineage.runs import Dataset, ReadColumn, RunTold
from featurekit.project.lineage.teller import Teller

if TYPE_CHECKING:
    from featurekit.project.config import OpenLineageConfig

PRODUCER = f"urn:featurekit:{VERSION}"
_ROLES = {
    "filter": "FILTER",
    "group": "GROUP_BY",
    "key": "GROUP_BY",
    "time": "WINDOW",
    "order": "SORT",
    "id": "FILTER",
    "correction": "FILTER",
}
"""What OpenLineage calls a role of a column that gives no value."""


def teller_of(config: OpenLineageConfig | None, project: str, folder: Path) -> Teller | None:
    """What tells of the runs of a project; None where its settings do not ask for it."""
    if config is None:
        return None
    namespace = config.namespace or project
    return Teller(lambda: sender(config, namespace, folder), config.timeout_s)


def sender(config: OpenLineageConfig, namespace: str, folder: Path) -> Callable[[RunTold], None]:
    """What sends a run's event to the URL or the file that is configured, relative to the repo's
    folder. ConfigError where the client is not installed."""
    transport = _transport(config, folder)

    def send(told: RunTold) -> None:
        transport.emit(event(told, namespace))

    return send


def _transport(config: OpenLineageConfig, folder: Path) -> Any:
    try:
        from openlineage.client.transport.file import FileConfig, FileTransport
        from openlineage.client.transport.http import (
            ApiKeyTokenProvider,
            HttpConfig,
            HttpTransport,
        )
    except ImportError as error:
        raise ConfigError(
            f"openlineage-python is not installed ({error}); run `pip install "
            "'featurekit[lineage]'`, or leave openlineage: out of the settings"
        ) from None
    if config.file is not None:
        return FileTransport(FileConfig(log_file_path=str(folder / config.file), append=True))
    more: dict[str, Any] = {}
    if config.api_key_env is not None:
        key = os.environ.get(config.api_key_env)
        if not key:
            raise ConfigError(
                f"featurekit.openlineage.api_key_env: the environment has no {config.api_key_env}"
            )
        more["auth"] = ApiKeyTokenProvider({"api_key": key})
    assert config.url is not None
    # Not sent again: what is late is of no use to a run that is over.
    retry = {"total": 0, "connect": 0, "read": 0}
    return HttpTransport(HttpConfig(url=config.url, timeout=config.timeout_s, retry=retry, **more))


def event(told: RunTold, namespace: str) -> Any:
    """The event of a run."""
    from openlineage.client.event_v2 import (
        InputDataset,
        Job,
        OutputDataset,
        Run,
        RunEvent,
        RunState,
    )
    from openlineage.client.facet_v2 import (
        error_message_run,
        job_type_job,
        output_statistics_output_dataset,
        processing_engine_run,
    )

    engine = processing_engine_run.ProcessingEngineRunFacet(version=VERSION, name="featurekit")
    run: dict[str, Any] = {"processing_engine": engine}
    if told.error:
        # The type alone: the text may name values of events.
        run["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=told.error, programmingLanguage="PYTHON"
        )
    kind = job_type_job.JobTypeJobFacet(
        processingType="BATCH", integration="FEATUREKIT", jobType=told.job.partition(".")[0].upper()
    )
    outputs = []
    for one in told.outputs:
        counted: dict[str, Any] = {}
        if one.rows is not None:
            counted["outputStatistics"] = (
                output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                    rowCount=one.rows
                )
            )
        facets = _facets(one, namespace)
        outputs.append(OutputDataset(namespace, one.name, facets=facets, outputFacets=counted))
    made = RunEvent(
        eventTime=told.at.isoformat(),
        producer=PRODUCER,
        run=Run(told.run, run),
        job=Job(namespace, told.job, {"jobType": kind}),
        eventType=RunState[told.state],
        inputs=[InputDataset(namespace, i.name, facets=_facets(i, namespace)) for i in told.inputs],
        outputs=outputs,
    )
    return made


def send_definitions(
    where: str, namespace: str, inputs: Sequence[Dataset], outputs: Sequence[Dataset]
) -> None:
    """Send what is defined, to a URL or into a file. ConfigError where that fails."""
    import datetime as dt

    from featurekit.project.config import OpenLineageConfig

    is_url = "://" in where
    config = OpenLineageConfig(url=where if is_url else None, file=None if is_url else where)
    transport = _transport(config, Path())
    from openlineage.client.event_v2 import InputDataset, Job, JobEvent, OutputDataset

    made = JobEvent(
        eventTime=dt.datetime.now(dt.UTC).isoformat(),
        producer=PRODUCER,
        job=Job(namespace, "definitions"),
        inputs=[InputDataset(namespace, i.name, facets=_facets(i, namespace)) for i in inputs],
        outputs=[OutputDataset(namespace, o.name, facets=_facets(o, namespace)) for o in outputs],
    )
    try:
        transport.emit(made)
    except Exception as error:  # of whatever kind: the client has many
        raise ConfigError(
            without_logins(f"--openlineage: nothing was sent: {type(error).__name__}: {error}")
        ) from None


def _facets(one: Dataset, namespace: str) -> dict[str, Any]:
    """What OpenLineage is told of a dataset."""
    from openlineage.client.facet_v2 import (
        column_lineage_dataset,
        dataset_version_dataset,
        datasource_dataset,
        documentation_dataset,
        ownership_dataset,
        schema_dataset,
    )

    columns = [
        schema_dataset.SchemaDatasetFacetFields(name=name, type=type_)
        for name, type_ in one.fields.items()
    ]
    found: dict[str, Any] = {"schema": schema_dataset.SchemaDatasetFacet(fields=columns)}
    if one.columns:
        made = {
            name: column_lineage_dataset.Fields(inputFields=[_input(r, namespace) for r in read])
            for name, read in one.columns.items()
        }
        found["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(fields=made)
    if one.owner:
        owner = ownership_dataset.Owner(name=one.owner)
        found["ownership"] = ownership_dataset.OwnershipDatasetFacet(owners=[owner])
    if one.description:
        found["documentation"] = documentation_dataset.DocumentationDatasetFacet(one.description)
    if one.version:
        found["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(one.version)
    if one.uri:
        found["dataSource"] = datasource_dataset.DatasourceDatasetFacet(one.name, one.uri)
    return found


def _input(read: ReadColumn, namespace: str) -> Any:
    from openlineage.client.facet_v2 import column_lineage_dataset

    direct = read.role == "value"
    how = column_lineage_dataset.Transformation(
        type="DIRECT" if direct else "INDIRECT",
        subtype="TRANSFORMATION" if direct else _ROLES[read.role],
        description=" → ".join(read.through) or read.role,
    )
    return column_lineage_dataset.InputField(namespace, f"source.{read.source}", read.column, [how])
