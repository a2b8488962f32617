"""Training sets and models in MLflow, on a tracking store in SQLite: what is logged, and that a
model predicts with the features of its contract or not at all."""

from __future__ import annotations

import importlib
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import retail_models
from contracted import training
from registered import (
    LACKING,
    NOW,
    ROWS,
    bits,
    deploy,
    edited,
    files,
    fitted,
    log,
    needs_mlflow,
    offline,
)

from featurekit import Contract, FeatureStore
from featurekit.core.signing import PrivateKey
from featurekit.define.feature_contract.document import Body, written
from featurekit.errors import (
    ArgumentError,
    ConfigError,
    ContractRefused,
    DataError,
    EntityFrameError,
    NotServed,
)

ROOT = Path(__file__).parents[2]
KEY = PrivateKey.make()


def assert_same(frame: Any, other: Any) -> None:
    """Two frames have the same columns, dtypes and bits."""
    assert list(frame.columns) == list(other.columns)
    assert list(frame.dtypes) == list(other.dtypes)
    for name in frame.columns:
        for one, two in zip(frame[name].tolist(), other[name].tolist(), strict=True):
            assert type(one) is type(two)
            if isinstance(one, float):
                assert struct.pack("<d", one) == struct.pack("<d", two), name
            else:
                assert one is two or one == two, name


@pytest.mark.skipif(not LACKING, reason="MLflow and scikit-learn are installed")
def test_without_the_extra_an_error_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"install featurekit\[mlflow\]"):
        importlib.import_module("featurekit.plugins.mlflow")


def test_serving_loads_no_mlflow() -> None:
    code = "import sys, featurekit.store, featurekit.monitor.deploy; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.stdout == "False\n"


class TestMlflow:
    pytestmark = needs_mlflow

    def test_a_registered_model_predicts_online_what_it_predicts_offline(
        self, mlflow: Any, churn: Any, repo: Path
    ) -> None:
        model, contract, uri = churn
        with FeatureStore(".") as store:
            served = mlflow.load_model(uri, store=store)
            made = offline(store, contract.names)
            assert_same(served.features(ROWS, NOW), made)
            assert made["x"].isna().any()  # None is in them
            assert bits(served.predict(ROWS, NOW)) == bits(model.predict_proba(made))
            # Keys in another order, and a frame of pandas, are the same question.
            import pandas as pd

            turned = pd.DataFrame([{"budget": r["budget"], "k": r["k"]} for r in ROWS])
            assert bits(served.predict(turned, NOW)) == bits(model.predict_proba(made))
        assert served.contract == contract

    def test_a_training_set_is_an_input_of_the_run(self, mlflow: Any, repo: Path) -> None:
        from mlflow import MlflowClient, artifacts, start_run

        with FeatureStore(".") as store, start_run() as run:
            made = training(store)
            contract = mlflow.log_training_set(made)
        (found,) = MlflowClient().get_run(run.info.run_id).inputs.dataset_inputs
        dataset, (tag,) = found.dataset, found.tags
        assert (tag.key, tag.value) == ("mlflow.data.context", "training")
        assert dataset.name == contract.version
        assert dataset.digest == made.manifest["content_hash"][:32]
        columns = json.loads(dataset.schema)["mlflow_colspec"]
        assert [c["name"] for c in columns] == [*contract.names, "next"]
        assert {c["name"]: c["type"] for c in columns}["orders"] == "long"
        profile = json.loads(dataset.profile)
        assert profile == contract.body.profile.model_dump(mode="json")
        source = json.loads(dataset.source)
        assert source["content_hash"] == contract.content_hash
        manifest = Path(artifacts.download_artifacts(source["manifest"]))
        assert json.loads(manifest.read_text()) == made.manifest
        kept = artifacts.download_artifacts(source["contract"])
        assert Contract.load(kept) == contract

    def test_run_model_and_registered_version_have_the_tags(self, mlflow: Any, churn: Any) -> None:
        from mlflow import MlflowClient

        _, contract, uri = churn
        wanted = {
            "featurekit.contract": contract.version,
            "featurekit.contract_sha256": contract.sha256,
            "featurekit.content_hash": contract.content_hash,
        }
        client = MlflowClient()
        version = client.get_model_version("churn", uri.rpartition("/")[2])
        for tags in (version.tags, client.get_run(version.run_id).data.tags):
            assert wanted.items() <= tags.items()
        assert mlflow.load_contract(uri) == contract

    @pytest.mark.parametrize(
        ("variant", "names"),
        [("transform", ["total"]), ("type", ["orders", "share"]), ("order", ["total", "x"])],
    )
    def test_a_model_on_a_version_that_is_gone_is_refused_with_what_differs(
        self, mlflow: Any, churn: Any, variant: str, names: list[str]
    ) -> None:
        model, contract, uri = churn
        with FeatureStore(".") as store:
            wanted = bits(model.predict_proba(offline(store, contract.names)))
        deploy(variant)
        with FeatureStore(".") as store:
            served = mlflow.load_model(uri, store=store)  # it is retained, and so still fed
            assert bits(served.predict(ROWS, NOW)) == wanted
            store.gc(retained=True)
        with FeatureStore(".") as store:
            with pytest.raises(NotServed, match="to what is live differ") as refused:
                mlflow.load_model(uri, store=store)
            assert all(name in str(refused.value) for name in names)

    def test_a_version_that_goes_while_the_model_is_loaded_is_refused(
        self, mlflow: Any, churn: Any
    ) -> None:
        with FeatureStore(".") as store:
            served = mlflow.load_model(churn[2], store=store)
            deploy("transform")
            with FeatureStore(".") as other:
                other.gc(retained=True)
            with pytest.raises(NotServed, match=r"to what is live differ: .*total"):
                served.predict(ROWS, NOW)

    def test_a_pinned_version_serves_whatever_is_live(self, mlflow: Any, churn: Any) -> None:
        model, contract, uri = churn
        with FeatureStore(".") as store:
            store.pin(contract.version, by=uri)
            wanted = bits(model.predict_proba(offline(store, contract.names)))
        deploy("transform")
        with FeatureStore(".") as store:
            store.gc(retained=True)
            served = mlflow.load_model(uri, store=store)
            assert bits(served.predict(ROWS, NOW)) == wanted

    def test_a_version_that_was_rolled_back_is_refused(self, mlflow: Any, repo: Path) -> None:
        """The model learnt from the new version, and the old one is live again."""
        deploy("transform")
        with FeatureStore(".") as store:
            _, _, uri = log(mlflow, store)
            store.rollback("churn")
            store.gc(retained=True)
        with FeatureStore(".") as store, pytest.raises(NotServed, match=r"differ: .*total"):
            mlflow.load_model(uri, store=store)

    def test_columns_that_are_swapped_are_refused_by_name(
        self, mlflow: Any, churn: Any, repo: Path
    ) -> None:
        _, contract, uri = churn
        names = list(contract.names)
        names[2], names[3] = names[3], names[2]
        with FeatureStore(".") as store:
            swapped = fitted(training(store), names)
        with pytest.raises(ContractRefused, match="has orders, total in another order"):
            mlflow.log_model(swapped, contract)
        told = [
            (lambda columns: columns.insert(2, columns.pop(3)), "orders, total in another order"),
            (
                lambda columns: columns[3].update(type="double"),
                "of orders .* double or null, .* is long or null",
            ),
        ]
        for change, message in told:
            refused = pytest.raises(ContractRefused, match=f"its signature .*{message}")
            with edited(uri, change), FeatureStore(".") as store, refused:
                mlflow.load_model(uri, store=store)

    def test_a_contract_that_was_changed_or_exchanged_is_refused(
        self, mlflow: Any, churn: Any, repo: Path
    ) -> None:
        _, contract, uri = churn
        path = files(uri) / "extra_files" / "featurekit_contract.json"
        kept = path.read_bytes()
        said = contract.body.model_dump(mode="json")
        said["features"][3]["type"] = said["manifest"]["features"]["orders"]["type"] = "float"
        forged = written(Body.model_validate_json(json.dumps(said)), None)
        told = [
            (kept.replace(b'"never"', b'"nevar"', 1), "was changed after it was written"),
            (forged, "is not the contract that the model was logged with"),
        ]
        try:
            for data, message in told:
                path.write_bytes(data)
                with FeatureStore(".") as store, pytest.raises(ContractRefused, match=message):
                    mlflow.load_model(uri, store=store)
        finally:
            path.write_bytes(kept)
        with FeatureStore(".") as store:
            mlflow.load_model(uri, store=store)

    def test_a_version_whose_tags_name_another_contract_is_refused(
        self, mlflow: Any, churn: Any
    ) -> None:
        from mlflow import MlflowClient

        _, contract, uri = churn
        number, key = uri.rpartition("/")[2], "featurekit.contract_sha256"
        MlflowClient().set_model_version_tag("churn", number, key, "0" * 64)
        try:
            with pytest.raises(ContractRefused, match="the registered version of the model 0000"):
                mlflow.load_contract(uri)
        finally:
            MlflowClient().set_model_version_tag("churn", number, key, contract.sha256)

    def test_a_contract_without_the_signature_that_is_wanted_is_refused(
        self, mlflow: Any, churn: Any
    ) -> None:
        with pytest.raises(ContractRefused, match="is not signed"):
            mlflow.load_contract(churn[2], public_keys=[KEY.public.text])

    def test_a_model_with_a_signed_contract_is_believed_by_the_key_that_signed_it(
        self,
        mlflow: Any,
        repo: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from featurekit.cli import main

        other = PrivateKey.make().public.text
        with FeatureStore(".") as store, monkeypatch.context() as signing:
            signing.setenv("FEATUREKIT_SIGNING_KEY", KEY.text)
            store.apply()  # the plans have to be signed, too
            model, contract, uri = log(mlflow, store)
        assert contract.signed_by == KEY.public.text
        assert mlflow.load_contract(uri) == contract  # nobody holds a key
        assert mlflow.load_contract(uri, public_keys=[other, KEY.public.text]) == contract
        with pytest.raises(ContractRefused, match="a signature that none of the keys held here"):
            mlflow.load_contract(uri, public_keys=[other])
        for held, code, said in (
            (KEY.public.text, 0, f"unchanged, and signed by {KEY.public.text}"),
            (other, 3, "a signature that none of the keys held here made"),
        ):
            monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", held)
            assert main(["deploy", "check", uri, "--json"]) == code
            first = json.loads(capsys.readouterr().out)["checks"][0]
            assert (first["check"], first["held"]) == ("contract", code == 0)
            assert said in first["found"]
        with FeatureStore(".") as store, pytest.raises(ContractRefused, match="none of the keys"):
            mlflow.load_model(uri, store=store)
        monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
        with FeatureStore(".") as store:
            served = mlflow.load_model(uri, store=store)
            wanted = bits(model.predict_proba(served.features(ROWS, NOW)))
            assert bits(served.predict(ROWS, NOW)) == wanted

    def test_what_cannot_be_logged_loaded_or_asked_is_told(
        self, mlflow: Any, churn: Any, repo: Path
    ) -> None:
        model, contract, uri = churn
        with pytest.raises(ArgumentError, match="signature cannot be given"):
            mlflow.log_model(model, contract, signature=None)
        with FeatureStore(".") as store:
            with pytest.raises(DataError, match="models:/churn/999: MLflow at sqlite"):
                mlflow.load_model("models:/churn/999", store=store)
            served = mlflow.load_model(uri, store=store)
            with pytest.raises(ArgumentError, match="there are no rows"):
                served.predict([])
            with pytest.raises(EntityFrameError, match="budget"):
                served.predict([{"k": 1}])

    def test_a_model_is_checked_before_it_is_deployed(
        self, mlflow: Any, churn: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from mlflow import MlflowClient

        from featurekit.cli import main

        _, contract, uri = churn
        number = uri.rpartition("/")[2]
        MlflowClient().set_registered_model_alias("churn", "champion", number)

        def check(model: str, code: int) -> dict[str, Any]:
            assert main(["deploy", "check", model, "--json"]) == code
            return {c["check"]: c for c in json.loads(capsys.readouterr().out)["checks"]}

        for model in (uri, "models:/churn@champion"):
            found = check(model, 0)
            assert all(one["held"] for one in found.values())
            assert "agree bit for bit" in found["parity"]["found"]
        deploy("transform")
        with FeatureStore(".") as store:
            store.gc(retained=True)
        found = check(uri, 3)
        assert [found[n]["held"] for n in ("contract", "version", "parity")] == [True, False, None]
        assert "total" in {one["name"] for one in found["version"]["differences"]}
        MlflowClient().set_model_version_tag("churn", number, "featurekit.contract_sha256", "0")
        try:
            found = check(uri, 3)
        finally:
            sha = contract.sha256
            MlflowClient().set_model_version_tag("churn", number, "featurekit.contract_sha256", sha)
        assert found["contract"]["held"] is False
        assert "registered version of the model 0" in found["contract"]["found"]
        with edited(uri, lambda columns: columns.insert(2, columns.pop(3))):
            found = check(uri, 3)
        assert found["contract"]["held"] is False
        assert "its signature" in found["contract"]["found"]
        assert main(["deploy", "check", "models:/churn/999"]) == 2
        assert "models:/churn/999: MLflow at sqlite" in capsys.readouterr().err

    def test_a_scaler_that_was_fitted_again_is_refused(
        self, mlflow: Any, churn: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The pipeline is the same, of the same columns; its file is another."""
        from featurekit.cli import main

        _, _, uri = churn
        name = mlflow.KeptModel(uri).info.flavors["sklearn"]["pickled_model"]
        path = files(uri) / name
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        try:
            with FeatureStore(".") as store, pytest.raises(ContractRefused, match="not the one th"):
                mlflow.load_model(uri, store=store)
            assert main(["deploy", "check", uri]) == 3
            assert "the model's file is not the one that was logged" in capsys.readouterr().out
        finally:
            path.write_bytes(kept)
        assert mlflow.load_contract(uri)

    def test_a_model_of_someone_else_carries_no_contract(self, mlflow: Any, repo: Path) -> None:
        import mlflow as theirs
        from sklearn.dummy import DummyClassifier

        model = DummyClassifier().fit([[0], [1]], [0, 1])
        info = theirs.sklearn.log_model(model, name="plain", pip_requirements=["scikit-learn"])
        refused = pytest.raises(ContractRefused, match="carries no feature contract")
        with FeatureStore(".") as store, refused:
            mlflow.load_model(info.model_uri, store=store)


# --- real data, and the page ----------------------------------------------------------------------


def of_countries(model: Any) -> Any:
    """A model that is given each country as columns of its own."""
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    countries = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = make_column_transformer((countries, ["country"]), remainder="passthrough")
    return make_pipeline(numbers.set_output(transform="pandas"), model)


class TestRealData:
    pytestmark = needs_mlflow

    @pytest.mark.skipif(
        not retail_models.RETAIL.exists(),
        reason=f"the real order lines are not here: {retail_models.RETAIL}",
    )
    def test_predictions_of_real_customers_are_those_of_their_training_set(
        self, mlflow: Any, tmp_path: Path, redis_url: str
    ) -> None:
        """5,000 rows, of every customer of these lines and of unknown ones, bit for bit."""
        from sklearn.ensemble import RandomForestClassifier

        retail_models.make(tmp_path, redis_url)
        known = retail_models.customers(10_000)
        rows = [
            {"customer_id": known[i % len(known)] + (i % 97 == 0), "basket": 0.1 * i}
            for i in range(5_000)
        ]
        asked = [{**row, "event_timestamp": retail_models.instant()} for row in rows]
        with FeatureStore(tmp_path) as store:
            made = store.get_historical_features(pa.Table.from_pylist(asked), "churn_v1")
            contract = made.contract()
            frame = made.to_pandas()[contract.names]
            model = of_countries(RandomForestClassifier(20, random_state=1))
            model.fit(frame, frame["spend"].fillna(0.0) > 300.0)
            told = {"skops_trusted_types": ["sklearn.tree._tree.Tree"]}
            info = mlflow.log_model(
                model, contract, registered_model_name="retail",
                pyfunc_predict_fn="predict_proba", **told,
            )  # fmt: skip
            served = mlflow.load_model("models:/retail/1", store=store)
            assert_same(served.features(rows, retail_models.AS_OF), frame)
            found = served.predict(rows, retail_models.AS_OF)
        assert found.tobytes() == model.predict_proba(frame).tobytes()
        said = {one["name"]: one["type"] for one in info.signature.inputs.to_dict()}
        assert said == {
            "spend": "double", "n": "long", "mean_price": "double", "last_quantity": "long",
            "country": "string", "abroad": "boolean", "basket_share": "double",
            "basket_itself": "double",
        }  # fmt: skip
        assert len({*found[:, 0].tolist()}) > 5

    def test_the_block_of_the_page_runs(self, tmp_path: Path) -> None:
        page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
        (label,) = re.findall(r"cat > future.py <<'EOF'\n(.*?)^EOF", page, re.M | re.S)
        (block,) = re.findall(r"```python\n(import mlflow\n.*?)^```", page, re.M | re.S)
        shell = [sys.executable, "-m", "featurekit.cli"]
        env = {n: v for n, v in os.environ.items() if not n.startswith("MLFLOW_")}
        env["PYTHONPATH"] = str(ROOT)
        subprocess.run(
            [*shell, "init", "shop"], cwd=tmp_path, env=env, check=True, capture_output=True
        )
        folder = tmp_path / "shop"
        (folder / "future.py").write_text(label)
        for verb in ("apply", "materialize"):
            subprocess.run([*shell, verb], cwd=folder, env=env, check=True, capture_output=True)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", block],
            cwd=folder, env=env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2_000:]
        assert re.fullmatch(r"\[ ?(True|False)\]", done.stdout.splitlines()[-1])
