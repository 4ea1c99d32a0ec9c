"""Bundles: the same files give the same bytes; nothing unpacks outside of its folder."""

import io
import os
import warnings
import zipfile

import pytest

from sextant.project import loading
from sextant.project import bundle
from sextant.project.bundle import digest_of, pack, scan, unpack
from sextant.project.config import read_config
from sextant.kernel.errors import Damaged, ProjectError


def fill(root, files):
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


FILES = {
    "sextant.toml": "",
    "ops.py": "x",
    "flights/ops.py": "y",
    "sql/a.sql": "z",
    "infra/a.json.j2": "t",
}
OTHERS = {
    ".sextant/state.py": "", ".git/x.py": "", "__pycache__/ops.py": "", ".venv/lib/a.py": "",
    "env/pyvenv.cfg": "", "env/lib/a.py": "", ".hidden.py": "", "data.parquet": "",
    "node_modules/a.js": "", "seeds/a.csv": "1",
}  # fmt: skip


def test_only_the_projects_own_files_are_packed(tmp_path):
    """Data, environments and secrets would travel to every worker."""
    fill(tmp_path, FILES | OTHERS)
    assert sorted(scan(tmp_path)) == sorted(FILES)
    assert sorted(scan(tmp_path, ["seeds/*.csv"])) == sorted([*FILES, "seeds/a.csv"])


def test_packing_is_deterministic_and_round_trips(tmp_path):
    """A worker would unpack again what it has, or something else."""
    fill(tmp_path / "a", FILES)
    fill(tmp_path / "b", dict(reversed(FILES.items())))
    os.utime(tmp_path / "b" / "ops.py", (1, 1))
    digest, data = pack(tmp_path / "a")
    assert (digest, data) == pack(tmp_path / "b")
    assert digest == digest_of(scan(tmp_path / "a"))
    assert unpack(data, tmp_path / "out") == digest
    assert scan(tmp_path / "out") == scan(tmp_path / "a")
    fill(tmp_path / "a", {"ops.py": "X"})
    assert pack(tmp_path / "a")[0] != digest


def test_unpacking_over_an_unpacked_bundle_leaves_it(tmp_path):
    """Two workers start at once; one would pull the files away from under the other."""
    fill(tmp_path / "a", FILES)
    digest, data = pack(tmp_path / "a")
    unpack(data, tmp_path / "out")
    before = os.stat(tmp_path / "out" / "ops.py").st_ino
    assert unpack(data, tmp_path / "out") == digest
    assert os.stat(tmp_path / "out" / "ops.py").st_ino == before
    (tmp_path / "empty").mkdir()
    unpack(data, tmp_path / "empty")
    assert (tmp_path / "empty" / "ops.py").read_text() == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a",
        "empty",
        "out",
    ]  # no half-written folder stays


def archive(*names, link=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same name twice is what one case is about
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if link else 0o100644) << 16
            file.writestr(entry, "x")
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        archive("../evil.py"),
        archive("a/../../evil.py"),
        archive("/tmp/evil.py"),
        archive("a\\..\\evil.py"),
        archive("C:/evil.py"),
        archive("./a.py"),
        archive("a//b.py"),
        archive("a.py", "a.py"),
        archive("a.py", link=True),
        archive("dir/"),
        b"no zip at all",
        archive("a.py")[:40],
    ],
)
def test_a_bundle_that_leads_out_of_its_folder_is_damaged(tmp_path, data):
    """A file anywhere on the worker could be overwritten."""
    into = tmp_path / "deep" / "out"
    with pytest.raises(Damaged) as caught:
        unpack(data, into)
    assert caught.value.code == "SX-BUNDLE-003"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert not into.exists()


def test_links_out_of_the_project_are_not_its_files(tmp_path):
    """A link to a key file would pack the key."""
    fill(tmp_path, {"project/ops.py": "x", "secret.toml": "key", "elsewhere/a.py": "y"})
    (tmp_path / "project" / "s.toml").symlink_to(tmp_path / "secret.toml")
    (tmp_path / "project" / "dir").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "project" / "same.py").symlink_to(tmp_path / "project" / "ops.py")
    assert sorted(scan(tmp_path / "project")) == ["ops.py", "same.py"]


def test_limits_are_errors_that_name_the_file(tmp_path, monkeypatch):
    """A dump beside the code would be sent to every worker, each time."""
    fill(tmp_path, {"ops.py": "x", "dump.json": "y" * 100})
    monkeypatch.setattr(bundle, "TEXT_FILE_BYTES_MAX", 50)
    with pytest.raises(ProjectError) as caught:
        pack(tmp_path)
    assert (caught.value.code, caught.value.where) == ("SX-BUNDLE-002", "dump.json")
    assert caught.value.message == "`dump.json` makes the project's bundle too large (100 bytes)"
    monkeypatch.setattr(bundle, "BUNDLE_FILES_MAX", 1)
    with pytest.raises(ProjectError) as caught:
        pack(tmp_path)
    assert caught.value.code == "SX-BUNDLE-001"
    with pytest.raises(Damaged):
        unpack(archive("a.py", "b.py"), tmp_path / "out")


@pytest.mark.parametrize(
    "settings",
    [
        "",
        'lake = "lake"',
        'lake = "data/../tables/lake"',
        'state = "kept/state.db"',
        'key = "keys/mine.pem"',
        'lake = "lake"\nstate = "state.db"\nkey = "mine.txt"',
    ],
)
@pytest.mark.parametrize("include", ["", 'include = ["*"]'])
def test_what_the_platform_writes_is_no_code(shop, running, settings, include):
    """If this fails, each run makes another bundle of the same code, or the signing key is sent to
    every worker."""
    shop.toml(f'module = "ops"\nenvironment = "dev"\n{settings}\n{include}\n')
    (shop.root / "kept").mkdir()
    shop.write(
        "@sx.dataset()\ndef numbers() -> pl.DataFrame:\n    return pl.DataFrame({'n': [1]})\n"
    )
    digests = []
    for _ in range(3):
        with shop.open(home=shop.root.parent / "home") as p:
            assert running(p, force=True).state == "finished"
            assert sorted(p.core.project.manifest().files) == ["ops.py", "sextant.toml"]
            digests.append(p.core.project.manifest().bundle)
            assert loading.unchanged(shop.root, p.core.project.manifest())
            digests.append(
                pack(shop.root, p.core.project.config.include, p.core.project.config.written)[0]
            )
    assert len(set(digests)) == 1


def test_a_lake_around_the_project_hides_none_of_it(tmp_path):
    """If this fails, a project below its lake's folder has no code."""
    fill(tmp_path, {"ops.py": "x", "sextant.toml": 'module = "ops"\nlake = ".."\n'})
    config = read_config(tmp_path)
    assert sorted(scan(tmp_path, (), config.written)) == ["ops.py", "sextant.toml"]
