"""What was in force under a name, one after another, and why."""

from __future__ import annotations

import json

import pytest
from versioned import Repo

from featurekit.cli import main
from featurekit.errors import RegistryError
from featurekit.results import Revision

ROWS = [(1, 5, 0), (1, 7, 1), (2, 11, 2)]


@pytest.fixture
def changed(repo: Repo) -> Repo:
    """The window is changed twice and rolled back; an unrelated feature comes, and all goes."""
    repo.files(*ROWS)
    repo.deploy()
    repo.define(window="9d")
    repo.deploy()
    with repo.store() as store:
        store.rollback("service")
    file = repo.folder / "definitions.py"
    text = file.read_text()
    file.write_text(text.replace('"sum": Sum', '"most": Sum("x", window="5d"), "sum": Sum'))
    repo.deploy()
    return repo


def applied(repo: Repo) -> None:
    with repo.store() as store:
        store.apply(allow_breaking=True)
        store.materialize()


def told(found: list[Revision]) -> list[tuple[str, tuple[str, ...]]]:
    return [(r.action, r.reasons) for r in found]


def test_a_feature_has_the_changes_of_its_own_meaning(changed: Repo) -> None:
    with changed.store() as store:
        found = store.history("window:sum")
        assert told(found) == [("add", ()), ("change", ("window 30d → 9d",))]
        assert told(store.history("window:most")) == [("add", ())]
        assert told(store.history("latest:x")) == [("add", ())]
        assert store.history("window")[1].fingerprint == found[1].fingerprint
        assert {r.by for r in found} == {store.versions("service")[0].applied_by}


def test_a_view_and_a_service_have_all_of_theirs(changed: Repo) -> None:
    with changed.store() as store:
        view = told(store.history("window"))
        assert view == [
            ("add", ()),
            ("change", ("sum: window 30d → 9d",)),
            ("change", ("most: new, int | None",)),
        ]
        service = store.history("service")
        assert [r.action for r in service] == ["add", "change", "rollback", "change"]
        versions = store.versions("service")
        assert service[2].fingerprint == versions[0].fingerprint
        assert service[1].reasons == ("view window is another version",)


def test_what_was_removed_and_came_again(changed: Repo) -> None:
    file = changed.folder / "definitions.py"
    whole = file.read_text()
    file.write_text(whole.replace("features=[latest, window]", "features=[latest]"))
    applied(changed)
    file.write_text(whole[: whole.index("window = FeatureView")] + whole[whole.index("service =") :]
                    .replace("features=[latest, window]", "features=[latest]"))  # fmt: skip
    applied(changed)
    file.write_text(whole)
    applied(changed)
    with changed.store() as store:
        for name in ("window", "window:sum"):
            assert [r.action for r in store.history(name)][-2:] == ["remove", "add"]
            assert store.history(name)[-2].fingerprint is None


def test_a_name_that_was_never_applied_is_told(changed: Repo) -> None:
    with changed.store() as store:
        for name, said in (
            ("windows", "no view or service 'windows' was ever applied; did you mean 'window'"),
            ("window:none", "no version of view 'window' had a feature 'none'"),
        ):
            with pytest.raises(RegistryError, match=said):
                store.history(name)


def test_the_command_shows_it(changed: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--repo", str(changed.folder), "--redis-url", changed.url]
    assert main([*options, "history", "window__sum"]) == 0
    shown = capsys.readouterr().out
    assert "window 30d → 9d" in shown
    assert main([*options, "history", "window:sum", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["history"]
    assert [r["action"] for r in found] == ["add", "change"]
    assert main([*options, "history", "nope"]) == 2
