"""Settings: defaults, file, environment, options, and one line for everything that no setting takes."""

import pytest

from licensesvc.settings import Settings, SettingsError, load


def file(tmp_path, text):
    (tmp_path / "licensesvc.toml").write_text(text, encoding="utf-8")
    return {"data_dir": str(tmp_path)}


def test_without_anything_the_defaults_hold():
    assert load({}, {}) == Settings()


def test_options_win_over_the_environment_and_that_over_the_file(tmp_path):
    options = file(tmp_path, 'port = 1\nnode = "file"\nissuer = "file"\n')
    environment = {"LICENSESVC_PORT": "2", "LICENSESVC_NODE": "environment"}

    merged = load({**options, "port": 3, "host": None}, environment)

    assert (merged.port, merged.node, merged.issuer, merged.host) == (3, "environment", "file", "127.0.0.1")


@pytest.mark.parametrize(
    "text",
    [
        "prot = 1",
        "port = 70000",
        "port = -1",
        'port = "many"',
        'lock_scope = "none"',
        'log_level = "verbose"',
        'node = ""',
        'node = "a b"',
        'node = "a\\n"',
        'issuer = ""',
        'data_dir = "elsewhere"',
        "port = ",
        "[port]\nx = 1",
        "\xff",
    ],
)
def test_a_file_with_a_fault_is_refused_in_one_line_that_names_it(tmp_path, text):
    options = file(tmp_path, "")
    (tmp_path / "licensesvc.toml").write_bytes(text.encode("latin-1"))

    with pytest.raises(SettingsError) as refused:
        load(options, {})

    assert "\n" not in str(refused.value)
    assert "licensesvc.toml" in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"LICENSESVC_PROT": "1"}, "LICENSESVC_PROT"),
        ({"LICENSESVC_": "1"}, "LICENSESVC_"),
        ({"LICENSESVC_PORT": "x"}, "port"),
        ({"LICENSESVC_PORT": ""}, "port"),
        ({"LICENSESVC_LOCK_SCOPE": "nobody"}, "lock_scope"),
    ],
)
def test_an_environment_with_a_fault_is_refused(environment, word):
    with pytest.raises(SettingsError, match=word) as refused:
        load({}, environment)

    assert "\n" not in str(refused.value)


def test_a_foreign_variable_is_none_of_ours():
    assert load({}, {"PORT": "1", "LICENSE": "x"}) == Settings()


def test_the_password_of_the_database_is_never_shown():
    assert "canary" not in repr(Settings(database_url="postgresql://me:canary@db/x"))


@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_refusal_does_not_repeat_a_secret(tmp_path, source):
    options = file(tmp_path, 'database_url = ["postgresql://me:canary@db/x"]') if source == "file" else {}
    environment = {"LICENSESVC_DATABASE_URI": "postgresql://me:canary@db/x"} if source == "environment" else {}

    with pytest.raises(SettingsError) as refused:
        load(options, environment)
    assert "canary" not in str(refused.value)
