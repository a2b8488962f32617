"""The catalogue: what its pages say, that nothing of a repo is markup, and that a browser shows and
searches it."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import AXE, CHROMIUM, Page, browser
from many_features import write_many

from featurekit import (
    Deprecated,
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    OneOf,
    RowCount,
    feature,
)
from featurekit.aggregates import Last, Max, Sum, ValueCounts
from featurekit.aggregates.quantiles import bucket
from featurekit.cli import main
from featurekit.core.page import escaped
from featurekit.define.repo import load_repo
from featurekit.errors import ConfigError, ContractWarning, DataError
from featurekit.language.to_python import to_python
from featurekit.project.site import write as writing
from featurekit.project.site.code import sql_of
from featurekit.project.site.gathered import Asked
from featurekit.project.site.parts import number
from featurekit.project.site.profiles import BINS, Bounds, profile_of
from featurekit.project.site.write import write_site

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::featurekit.errors.{name}")
    for name in ("DeprecatedFeature", "ContractWarning")
]
ROOT = Path(__file__).parents[2]
AT = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)
HOSTILE = '</script><img src=x onerror="window.hacked=1">\'"&\u2028 ünï 漢'
COLUMN = "</td><script>window.hacked=1</script>' onfocus='window.hacked=1' x='\"& $name ${name}"


class Read(HTMLParser):
    """A page as a browser takes it apart: its elements, links, ids and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.shown: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        for name, value in attrs:
            if name in ("href", "src", "action") and value is not None:
                self.links.append(value)
            if name == "id" and value is not None:
                self.ids.append(value)

    def handle_data(self, data: str) -> None:
        self.shown.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.shown))


def events(n: int = 400) -> pa.Table:
    at = [AT - dt.timedelta(hours=i % 200) for i in range(n)]
    return pa.table(
        {
            "k": pa.array([i % 40 for i in range(n)], pa.int64()),
            "x": [None if i % 4 == 0 else i / 7 for i in range(n)],
            "kind": [f"kind{i % 3}" for i in range(n)],
            COLUMN: [f"{i}" for i in range(n)],
            "at": pa.array(at, pa.timestamp("us", "UTC")),
        }
    )


def shop(folder: Path, window: str = "2d") -> list[Any]:
    """A service whose every text is hostile, over data in a folder."""
    source = EventSource(
        "lines",
        path=str(folder / "lines.parquet"),
        schema={"k": int, "x": float | None, "kind": str, COLUMN: str},
        timestamp_field="at",
        description=HOSTILE,
        owner=HOSTILE,
        tags={HOSTILE: HOSTILE},
        expect=[
            OneOf("kind", ["kind0", "kind1", "kind2"], severity="warn"),
            OneOf(COLUMN, [HOSTILE], severity="warn", name="hostile"),
            RowCount(at_least=1),
        ],
    )

    @feature(owner=HOSTILE, description=HOSTILE, tags={"a": HOSTILE})
    def tripled(x: float | None) -> float:
        """</script> in a docstring."""
        return 0.0 if x is None else x * 3.0

    @feature
    def against(basket: float, spend: float) -> float:
        return basket - spend

    view = FeatureView(
        "v",
        entities=[Entity("customer", {"k": int}, description=HOSTILE)],
        source=source,
        features={
            "spend": Sum(tripled, window=window, default=0.0),
            "most": Max("x", window="1d"),
            "kind": Last("kind", window="30d"),
            "hostile": Last(COLUMN, window="30d"),
            "kinds": ValueCounts("kind", window="30d"),
        },
        description=HOSTILE,
        owner=HOSTILE,
        deprecated={"most": Deprecated("2020-01-01", use="v:spend", why=HOSTILE)},
    )
    return [
        FeatureService(
            "s", features=[view, against], request={"basket": float}, description=HOSTILE,
            owner=HOSTILE, deprecated=Deprecated(dt.date(9999, 1, 1), why=HOSTILE),
        )
    ]  # fmt: skip


def made(folder: Path, **asked: Any) -> tuple[FeatureStore, Path]:
    """A store over data in a folder, and its catalogue there."""
    folder.mkdir(exist_ok=True)
    pq.write_table(events(), folder / "lines.parquet")
    store = FeatureStore(definitions=shop(folder))
    write_site(store.parts, folder / "site", Asked(**asked))
    return store, folder / "site"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue with data, of definitions whose texts are hostile."""
    folder = tmp_path_factory.mktemp("site")
    store, out = made(folder, data=Bounds())
    store.apply()
    store.validate()
    store.check_parity("s", mode="fuzz", budget=500)
    labels = [{"k": 1, "event_timestamp": AT, "basket": 1.0}]
    store.get_historical_features(labels, "s").to_parquet(folder / "train.parquet")
    report = {
        "services": [
            {
                "service": "s",
                "mode": "fuzz",
                "features": {"v__spend": {"compared": 1234, "differing": 5, "lagging": 0}},
            }
        ]
    }
    (folder / "parity.json").write_text(json.dumps(report), encoding="utf-8")
    store.apply(shop(folder, window="3d"))
    write_site(store.parts, out, Asked(Bounds(), (folder,), (folder / "parity.json",)))
    return out


def pages(site: Path) -> Iterator[tuple[Path, Read]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Read(path)


# --- what pages say -------------------------------------------------------------------------------


def test_nothing_of_a_repo_is_markup(site: Path) -> None:
    """Every page has the elements of its templates alone, however hostile a text is."""
    templates = [ROOT / "featurekit/project" / room / "page.html" for room in ("site", "lineage")]
    known = {t for path in templates for t in re.findall(r"<(\w+)", path.read_text("utf-8"))}
    assert "img" not in known
    seen = 0
    for path, page in pages(site):
        assert {*page.tags} <= known, path
        scripts = page.tags.count("script")
        assert scripts == (2 if path.name == "index.html" else 0), path
        assert not [name for name, _ in page.attributes if name.startswith("on")], path
        assert not [name for name, _ in page.attributes if name == "style"], path
        seen += "window.hacked=1" in page.text
    assert seen >= 8


def test_hostile_texts_are_shown_as_they_are(site: Path) -> None:
    page = Read(site / "feature" / "v.spend.html")
    assert '</script><img src=x onerror="window.hacked=1">\'"&' in page.text
    assert "ünï 漢" in page.text
    assert escaped("<\ud800>") == "&lt;\\ud800&gt;"
    assert COLUMN in Read(site / "source" / "lines.html").text
    found = json.loads((site / "search.js").read_text(encoding="utf-8").partition("= ")[2][:-2])
    assert " ".join(HOSTILE.split()) in {row[5] for row in found}


def test_every_link_leads_somewhere_and_nothing_is_elsewhere(site: Path) -> None:
    read = {path.resolve(): page for path, page in pages(site)}
    followed = 0
    for path, page in read.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            url = urlsplit(link)
            if link == "data:,":  # no icon, so that none is asked for
                continue
            assert not url.scheme, link
            assert not url.netloc, link
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            assert target.is_file(), (path, link)
            if url.fragment and target in read:
                assert unquote(url.fragment) in read[target].ids, (path, link)
            followed += 1
    assert followed > 100
    for name in ("site.css", "site.js"):
        assert not re.search(r"https?:|@import|url\(", (site / name).read_text(encoding="utf-8"))


def test_a_feature_s_page_has_all_there_is_to_know(site: Path) -> None:
    text = Read(site / "feature" / "v.spend.html").text
    for part in (
        "Sum of @feature tripled over 3d, else 0.0",
        "Of 40 entities as of 2026-01-10 00:00:00 UTC",
        "lines.x value tripled",
        "lines.k key",
        "lines.at time",
        "return 0.0 if x is None else x * 3.0",
        'FROM "lines"',
        "s service",
        "s:against feature",
        "fuzz 1,234 5 (0.4 %)",
        "spend: window 2d → 3d",
        "written at",
    ):
        assert part in text, part
    other = Read(site / "feature" / "v.most.html").text
    assert "window 2d → 3d" not in other
    assert "train.parquet.manifest.json training set 1 rows of s" in other
    assert "train.parquet" not in text, "it has an older version"
    assert "in the oldest version that is known" in other
    assert "lengths from 3 to 3" in Read(site / "feature" / "v.kinds.html").text.lower()


def test_the_values_are_those_of_a_training_set(site: Path) -> None:
    store = FeatureStore(definitions=shop(site.parent, window="3d"))
    labels = [{"k": k, "event_timestamp": AT, "basket": 0.0} for k in range(40)]
    rows = store.get_historical_features(labels, "s").to_pylist()
    nulls = sum(row["most"] is None for row in rows)
    assert 0 < nulls < 40
    assert f"{100 * nulls / 40:.1f} % None" in Read(site / "feature" / "v.most.html").text
    spend = sorted(row["spend"] for row in rows)
    svg = (site / "feature" / "v.spend.html").read_text(encoding="utf-8")
    counts = [int(n.replace(",", "")) for n in re.findall(r"<title>([\d,]+) from ", svg)]
    assert (len(counts), sum(counts)) == (BINS, 40)
    assert f"{len(set(spend))} different values" in Read(site / "feature" / "v.spend.html").text


def test_rare_texts_are_not_shown(site: Path) -> None:
    """What fewer than eleven entities have may tell who one is: kind0 has a few of the forty."""
    page = Read(site / "feature" / "v.hostile.html").text
    values = page.partition("Values")[2].partition("Lineage")[0]
    assert "40 different values" in values
    assert not re.search(r"\b\d+ \d+\.\d %", values)
    shown = Read(site / "feature" / "v.kind.html").text
    assert [f"kind{i}" for i in range(3) if f"kind{i}" in shown] == ["kind1", "kind2"]


def test_no_data_reads_none_and_keeps_nothing(tmp_path: Path) -> None:
    store = FeatureStore(definitions=shop(tmp_path / "nowhere"))
    state = store.state_dir
    before = sorted(state.rglob("*"))
    done = write_site(store.parts, tmp_path / "site", Asked())
    assert done.notes == ()
    assert sorted(state.rglob("*")) == before
    assert "Values" not in Read(tmp_path / "site" / "feature" / "v.spend.html").text


def test_what_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    store, _ = made(tmp_path / "a", data=Bounds())
    out = tmp_path / "a" / "site"
    told = write_site(store.parts, out, Asked(Bounds(rows=10)))
    assert told.notes == (
        "view 'v': its values were not looked at: its source has 400 rows, and at most 10 are read",
    )
    assert "at most 10 are read" in Read(out / "feature" / "v.spend.html").text
    assert "0 s were over" in write_site(store.parts, out, Asked(Bounds(seconds=0.0))).notes[0]
    few = write_site(store.parts, out, Asked(Bounds(entities=7)))
    assert few.notes == ()
    assert "Of 7 entities" in Read(out / "feature" / "v.spend.html").text
    gone = FeatureStore(definitions=shop(tmp_path / "nowhere"))
    assert "no events yet" in write_site(gone.parts, out, Asked(Bounds())).notes[0]
    (tmp_path / "a" / "lines.parquet").write_bytes(b"no Parquet")
    broken = FeatureStore(definitions=shop(tmp_path / "a"))
    assert "could not be looked at" in write_site(broken.parts, out, Asked(Bounds())).notes[0]


def test_an_event_that_lies_ahead_does_not_make_all_others_old(tmp_path: Path) -> None:
    store, out = made(tmp_path / "a", data=Bounds())
    table = events()
    ahead = table.slice(0, 1).set_column(
        table.column_names.index("at"), "at",
        pa.array([dt.datetime(9999, 1, 1, tzinfo=dt.UTC)], pa.timestamp("us", "UTC")),
    )  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    fresh = table.set_column(
        table.column_names.index("at"), "at",
        pa.array([now - dt.timedelta(minutes=i % 50) for i in range(len(table))],
                 pa.timestamp("us", "UTC")),
    )  # fmt: skip
    pq.write_table(pa.concat_tables([fresh, ahead]), tmp_path / "a" / "lines.parquet")
    write_site(store.parts, out, Asked(Bounds()))
    text = Read(out / "feature" / "v.kind.html").text
    assert f"as of {now.year}-" in text
    assert "0.0 % None" in text


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], (0, 0, (), {})),
        ([None, None], (2, 0, (), {})),
        ([5.0, 5.0, None], (1, 1, (5.0, 5.0, 5.0, 5.0, 5.0), {})),
        ([NAN, INF, -INF, NAN], (0, 3, (), {"NaN": 2, "inf": 1, "-inf": 1})),
        ([0.0, 5e-324], (0, 2, (0.0, 0.0, 0.0, 5e-324, 5e-324), {})),
        ([-1.7e308, 1.7e308, 0.0], (0, 3, (-1.7e308, -1.7e308, 0.0, 1.7e308, 1.7e308), {})),
        ([1, 2, 3, 2**63 - 1], (0, 4, (1.0, 2.0, 3.0, 3.0, 2.0**63), {})),
        ([1.0, 1.0000000000000002], (0, 2, (1.0,) * 3 + (1.0000000000000002,) * 2, {})),
    ],
)
def test_profiles_of_awkward_numbers(values: list[Any], told: Any) -> None:
    found = profile_of(values, {})
    nulls, distinct, quantiles, special = told
    assert (found.nulls, found.distinct, dict(found.special)) == (nulls, distinct, special)
    assert found.quantiles[1:4] == quantiles[1:4]
    ends = quantiles and (quantiles[0], quantiles[4])
    # The ends are shown by their buckets, as few entities have them.
    assert [bucket(v) for v in found.quantiles[::4]] == [bucket(v) for v in ends]
    assert not ends or (found.quantiles[0] <= ends[0] and found.quantiles[4] >= ends[1])
    finite = len(values) - nulls - sum(special.values())
    assert sum(count for *_, count in found.bins) == finite


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (-0.0, "0"), (12063.41, "12,063.4"), (1234.0, "1,234"), (0.123456, "0.1235"),
     (1e-7, "1.000e-07"), (-83.431, "-83.43"), (1.5e300, "1.500e+300"), (5e-324, "4.941e-324")],
)  # fmt: skip
def test_numbers_are_shown_in_a_few_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_the_sql_that_is_shown_is_what_the_function_says() -> None:
    """Each function of the shop, run as its page shows it, gives the bits of its Python."""
    repo = load_repo(ROOT / "feature_repo")
    rows = [
        {"invoice_no": ("C1", "7")[i % 2], "stock_code": ("POST ", "22")[i // 2 % 2],
         "quantity": i - 3, "unit_price": i * 1.1 - 2.0, "list_price": None if i % 3 else i * 4.5}
        for i in range(12)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    checked = 0
    with duckdb.connect() as con:
        for view in repo.compiled_views.values():
            con.register(view.source.name, table)
            for slot in view.slots:
                if slot.transform is None:
                    continue
                function, names = to_python(slot.transform), [p.name for p in slot.transform.params]
                found = con.sql(sql_of(slot.transform, view.source.name)).fetchall()
                wanted = [function(*(row[n] for n in names)) for row in rows]
                assert [repr(row[0]) for row in found] == list(map(repr, wanted))
                checked += 1
    assert checked >= 5


def test_a_view_and_a_service_of_one_name_have_features_of_their_own(tmp_path: Path) -> None:
    source = EventSource("s", path="s.parquet", schema={"k": int, "x": float}, timestamp_field="at")
    entity = Entity("e", {"k": int})
    views = {
        name: FeatureView(name, entities=[entity], source=source, features={"f": "x"}, ttl="1d")
        for name in ("both", "other")
    }

    @feature
    def f(basket: float) -> float:
        return basket

    services = [
        FeatureService("both", features=[views["other"][["f"]], f], request={"basket": float}),
        FeatureService("more", features=[views["both"]]),
    ]
    store = FeatureStore(definitions=services)
    write_site(store.parts, tmp_path / "site", Asked())
    folder = tmp_path / "site" / "feature"
    assert {p.name for p in folder.iterdir()} == {"both.f.html", "both.f-2.html", "other.f.html"}
    assert "the latest x" in Read(folder / "both.f.html").text
    assert "of basket, at request time" in Read(folder / "both.f-2.html").text
    assert {t.id for t in store.impact("s.x").features} == {"feature:both:f", "feature:other:f"}


def section_of(page: Read, title: str) -> str:
    """The text of a section, up to the next one."""
    return page.text.partition(f" {title} ")[2]


def test_a_source_has_its_contract_with_what_became_of_it(site: Path) -> None:
    said = section_of(Read(site / "source" / "lines.html"), "Contract")
    assert said.startswith("Judged last at 20")
    assert "schema its rows are as the schema declares work stops holds" in said
    assert "it is said holds" in said, "the kinds"
    assert "broken by 400 of 400 rows" in said, "the hostile column"


def test_a_contract_that_was_not_judged_says_so(tmp_path: Path) -> None:
    store, out = made(tmp_path / "a")
    said = section_of(Read(out / "source" / "lines.html"), "Contract")
    assert said.startswith("Not judged yet.")
    assert "work stops –" in said
    store.apply()
    with pytest.warns(ContractWarning):
        store.materialize()
    write_site(store.parts, out, Asked())
    said = section_of(Read(out / "source" / "lines.html"), "Contract")
    assert "broken by 400 of 400 rows" in said, "materialize judges, too"
    place = store.state_dir / "verdicts" / "judged.lines.json"
    values = {str(i) for i in range(100, 400)} & set(re.findall(r"\w+", place.read_text()))
    assert values == set(), "no value of a row is kept"
    place.write_text("{", encoding="utf-8")
    write_site(store.parts, out, Asked())
    assert "Not judged yet." in Read(out / "source" / "lines.html").text
    assert store.gc().files == ()
    store.validate()
    assert place.exists()
    assert store.gc().files == (), "it is needed"


def test_a_rule_that_was_changed_since_has_no_result(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    store, out = made(folder)
    store.validate()
    one = shop(folder)[0]
    source = one.features[0].source
    other = [OneOf("kind", ["kind0"], severity="warn"), *source.expect[1:]]
    object.__setattr__(source, "expect", tuple(other))
    changed = FeatureStore(definitions=[one], state_folder=store.state_dir)
    write_site(changed.parts, out, Asked())
    said = section_of(Read(out / "source" / "lines.html"), "Contract")
    assert "it is said –" in said
    assert "broken by 400 of 400 rows" in said, "of the rule that stayed"


def test_features_and_services_have_the_last_check_of_parity(site: Path) -> None:
    feature_ = section_of(Read(site / "feature" / "v.spend.html"), "Parity")
    assert re.search(r"s fuzz 1,234 5 \(0\.4 %\) not told", feature_), "of the file"
    assert re.search(r"s fuzz \d+ none 20\d\d-", feature_), "of the state folder"
    service = section_of(Read(site / "service" / "s.html"), "Parity")
    assert "fuzz 1,234 5 (0.4 %): v__spend not told" in service
    assert re.search(r"fuzz [\d,]+ none 20\d\d-", service)


def test_parity_keeps_nothing_where_there_is_no_state(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    assert main(["init", str(repo)]) == 0
    shutil.rmtree(repo / ".featurekit", ignore_errors=True)
    assert main(["--repo", str(repo), "parity", "fuzz", "--budget", "200"]) == 0
    assert not (repo / ".featurekit").exists()
    assert main(["--repo", str(repo), "validate"]) == 0
    assert main(["--repo", str(repo), "parity", "fuzz", "--budget", "200"]) == 0
    assert [p.name for p in (repo / ".featurekit" / "parity").iterdir()] != []


# --- the folder -----------------------------------------------------------------------------------


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    store = FeatureStore(definitions=shop(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds something that is no catalogue"):
        write_site(store.parts, other, Asked())
    assert snapshot(other) == {"thesis.txt": b"mine"}
    with pytest.raises(ConfigError, match="is a file"):
        write_site(store.parts, other / "thesis.txt", Asked())
    with pytest.raises(ConfigError, match="does not exist"):
        write_site(store.parts, tmp_path / "no" / "where", Asked())
    bad = tmp_path / "bad.json"
    bad.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="no report of a parity check"):
        write_site(store.parts, tmp_path / "site", Asked(parity=(bad,)))
    assert not (tmp_path / "site").exists()


def test_a_catalogue_that_fails_half_way_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, out = made(tmp_path / "a")
    before = snapshot(out)
    whole = writing.other_pages

    def breaks(found: Any) -> Iterator[Any]:
        yield next(whole(found))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "other_pages", breaks)
    with pytest.raises(ConfigError, match="No space left"):
        write_site(store.parts, out, Asked())
    assert snapshot(out) == before
    assert sorted(p.name for p in out.parent.iterdir()) == ["lines.parquet", "site"]
    monkeypatch.undo()
    (out / "stale.html").write_text("old", encoding="utf-8")
    write_site(store.parts, out, Asked())
    assert not (out / "stale.html").exists()


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repo, out = tmp_path / "repo", tmp_path / "site"
    assert main(["init", str(repo)]) == 0
    capsys.readouterr()
    assert main(["--repo", str(repo), "catalog", "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["things"]["feature"] == len(list((out / "feature").iterdir()))
    assert told["notes"] == []
    assert "entities as of" in "".join(page.text for _, page in pages(out))
    assert main(["--repo", str(repo), "catalog", "-o", str(repo)]) == 2
    assert main(["--repo", str(repo), "catalog"]) == 64


# --- in a browser ---------------------------------------------------------------------------------

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
LOOKS = [(375, False), (375, True), (1280, False), (1280, True)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as made_page:
        yield made_page


@needs_chromium
def test_a_browser_shows_every_page_without_scrolling_sideways(site: Path, page: Page) -> None:
    for path in sorted(site.rglob("*.html")):
        for width, dark in LOOKS:
            page.look(width, dark=dark)
            page.go(path.as_uri())
            wide = page.run("document.documentElement.scrollWidth")
            assert wide <= width, (path, width)
            assert page.run("typeof window.hacked") == "undefined"
            assert page.complaints() == []
            assert {urlsplit(url).scheme for url in page.asked_for()} == {"file"}
            ground = page.run("getComputedStyle(document.body).backgroundColor")
            assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")


@needs_chromium
def test_the_search_answers_while_typing_and_by_the_keyboard_alone(site: Path, page: Page) -> None:
    page.look(1280)
    page.go((site / "index.html").as_uri())
    first = "document.querySelector('#found b')?.textContent"
    page.type("/")
    assert page.run("document.activeElement.id") == "q"
    page.type("sp")
    assert page.run(first) == "v:spend"
    assert page.run("document.getElementById('all').hidden")
    page.type(" tripled")
    assert page.run("document.getElementById('count').textContent") == "1 found"
    page.press("ArrowDown")
    assert page.run("document.activeElement.querySelector('b').textContent") == "v:spend"
    page.press("ArrowUp")
    assert page.run("document.activeElement.id") == "q"
    page.press("Escape")
    assert not page.run("document.getElementById('all').hidden")
    page.type("</script>")
    assert page.run("document.querySelectorAll('#found li').length") > 5
    assert page.run("document.querySelector('#found img')") is None
    assert page.run("typeof window.hacked") == "undefined"
    page.press("Escape")
    page.type("most")
    page.press("Enter")
    page.until("location.pathname.endsWith('/feature/v.most.html')")
    page.loaded()
    page.run("document.getElementById('q').focus()")
    page.type("kinds&lines")
    page.press("Enter")
    page.until("location.pathname.endsWith('/index.html')")
    page.loaded()
    assert page.run("document.getElementById('q').value") == "kinds&lines"


@needs_chromium
def test_the_page_moves_by_tab_from_skip_link_to_content(site: Path, page: Page) -> None:
    page.look(1280)
    page.go((site / "feature" / "v.spend.html").as_uri())
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    page.press("Enter")
    page.until("location.hash === '#main'")


@needs_chromium
@pytest.mark.skipif(AXE is None, reason="no axe-core: FEATUREKIT_AXE=/path/of/axe.min.js")
def test_axe_finds_nothing(site: Path, page: Page) -> None:
    checked = 0
    for path in sorted(site.rglob("*.html")):
        for width, dark in (LOOKS[0], LOOKS[3]):
            page.look(width, dark=dark)
            page.go(path.as_uri() + ("#q=s" if path.name == "index.html" else ""))
            wrong, passed = page.axe()
            assert wrong == [], (path.name, width, dark)
            checked += passed
    assert checked > 100


@needs_chromium
@pytest.mark.slow
def test_five_thousand_features_are_searched(tmp_path: Path, page: Page) -> None:
    repo = write_many(tmp_path / "repo", 5_000)
    assert main(["--repo", str(repo), "catalog", "--no-data", "-o", str(tmp_path / "site")]) == 0
    page.go((tmp_path / "site" / "index.html").as_uri())
    page.run("document.getElementById('q').focus()")
    page.type("mean_42_7")
    assert page.run("document.querySelector('#found b').textContent") == "view_42:mean_42_7"
    shutil.rmtree(tmp_path / "site")
