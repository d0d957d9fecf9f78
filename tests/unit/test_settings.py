"""Configuration: precedence, defaults, and the words of every refusal."""

from __future__ import annotations

import contextlib
import string
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.settings import fingerprint, load_settings, mask_url
from monitor.settings_reference import reference, variable_for
from monitor.settings_types import Schedule, format_duration, parse_duration, parse_schedule

DESIGN = """
[store]
url = "sqlite:///narrows.db"              # or postgresql+psycopg://...
[registry]
uri = "registry"                           # folder of model artifacts; object storage URIs later
[kafka]
bootstrap_servers = ["localhost:9092"]     # plus security.* for TLS / SASL
client = "kafka-python"                    # or "librdkafka" with the extra narrows[librdkafka]
[[streams]]
name = "gas"
topic = "gas-sensor"
[streams.schema]
id = "id"
event_time = "ts"                          # epoch seconds, epoch milliseconds or ISO 8601
label = "gas"                              # optional: unlabelled and partly labelled streams work too
features = "features"                      # an array of numbers, or a list of field paths
dimension = 128
[streams.detector]
encoder = "mlp"
profile = "full"                           # or "fast": one network and the cheapest score, for the highest rates
embedding_dim = 32
false_alarm_rate = 0.01
[streams.schedule]
recalibrate = "15m"
retrain = "cron: 0 3 * * *"
"""
SMALLEST = '[[streams]]\nname = "gas"\ntopic = "gas-sensor"\n[streams.schema]\ndimension = 3\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The smallest file that configures a stream."""
    path = tmp_path / "narrows.toml"
    path.write_text(SMALLEST)
    return path


def refusal(file: Path, **environ: str) -> str:
    """The message of the error that loading ends with."""
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ=environ)
    assert caught.value.exit_code == 2
    return str(caught.value)


class TestFile:
    def test_load_reads_every_value_of_the_printed_example(self, tmp_path: Path) -> None:
        """The example of DESIGN loads exactly as it is printed."""
        (tmp_path / "narrows.toml").write_text(DESIGN)
        settings = load_settings(tmp_path / "narrows.toml", environ={})
        stream = settings.stream()
        assert settings.store.url == f"sqlite:///{tmp_path}/narrows.db"
        assert settings.registry.uri == str(tmp_path / "registry")
        assert (stream.name, stream.topic) == ("gas", "gas-sensor")
        assert (stream.record_schema.dimension, stream.record_schema.label) == (128, "gas")
        assert stream.detector.to_config().profile == "full"
        assert stream.schedule.recalibrate == Schedule(interval=timedelta(minutes=15))
        assert stream.schedule.retrain == Schedule(cron="0 3 * * *")

    def test_load_gives_defaults_when_keys_are_left_out(self, file: Path) -> None:
        """A stream needs a name, a topic and a dimension; the rest has defaults."""
        settings = load_settings(file, environ={})
        assert settings.kafka.bootstrap_servers == ["localhost:9092"]
        assert settings.stream().batch.max_records == 8000
        assert settings.stream().batch.poll_timeout == timedelta(seconds=0.5)
        assert settings.file == file

    def test_load_needs_no_file_when_the_environment_names_the_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Commands that only ask the store work without a file."""
        monkeypatch.chdir(tmp_path)
        settings = load_settings(environ={"NARROWS_STORE__URL": "postgresql+psycopg://u:p@h/d"})
        assert settings.store.url == "postgresql+psycopg://u:p@h/d"
        assert settings.file is None
        with pytest.raises(ConfigError, match="narrows init"):
            settings.stream()

    def test_load_prefers_the_named_file_over_the_variable_over_the_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """--config, then NARROWS_CONFIG, then narrows.toml."""
        monkeypatch.chdir(tmp_path)
        for name in ("narrows", "variable", "option"):
            (tmp_path / f"{name}.toml").write_text(SMALLEST.replace('"gas"', f'"{name}"'))
        environ = {"NARROWS_CONFIG": str(tmp_path / "variable.toml")}
        assert load_settings(environ={}).stream().name == "narrows"
        assert load_settings(environ=environ).stream().name == "variable"
        assert load_settings(tmp_path / "option.toml", environ=environ).stream().name == "option"

    def test_load_refuses_a_named_file_that_is_not_there(self, tmp_path: Path) -> None:
        """A file that was asked for is never silently left out."""
        assert "there is no such file (--config)" in refusal(tmp_path / "no.toml")

    def test_load_names_line_and_column_when_it_is_not_toml(self, file: Path) -> None:
        """The place of a syntax error is in the message."""
        file.write_text("[store\n")
        assert f"{file}: not valid TOML" in refusal(file)
        assert "line 1" in refusal(file)


class TestEnvironment:
    def test_environment_wins_over_the_file(self, file: Path) -> None:
        """By section, by name of a stream, and by its index."""
        environ = {
            "NARROWS_LOG__LEVEL": "DEBUG",
            "NARROWS_KAFKA__BOOTSTRAP_SERVERS": "a:1, b:2",
            "NARROWS_STREAMS__GAS__DETECTOR__PROFILE": "fast",
            "NARROWS_STREAMS__0__BATCH__MAX_RECORDS": "7",
            "NARROWS_STREAMS__GAS__SCHEMA__FEATURES": '["a", "b", "c"]',
            "NARROWS_STREAMS__GAS__TOPIC": "",
        }
        settings = load_settings(file, environ=environ)
        assert settings.log.level == "DEBUG"
        assert settings.kafka.bootstrap_servers == ["a:1", "b:2"]
        assert settings.stream().detector.profile == "fast"
        assert settings.stream().batch.max_records == 7
        assert settings.stream().record_schema.features == ("a", "b", "c")
        assert settings.stream().topic == "gas-sensor", "an empty variable counts as not set"

    def test_common_variable_wins_over_the_file_but_not_over_ours(self, file: Path) -> None:
        """KAFKA_BOOTSTRAP_SERVERS stands between the file and NARROWS_KAFKA__BOOTSTRAP_SERVERS."""
        common = {"KAFKA_BOOTSTRAP_SERVERS": "common:1"}
        ours = {"NARROWS_KAFKA__BOOTSTRAP_SERVERS": '["ours:1"]'}
        assert load_settings(file, environ=common).kafka.bootstrap_servers == ["common:1"]
        assert load_settings(file, environ=common | ours).kafka.bootstrap_servers == ["ours:1"]

    def test_environment_alone_configures_a_stream(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An index one past the end begins a stream."""
        monkeypatch.chdir(tmp_path)
        environ = {
            "NARROWS_STREAMS__0__NAME": "a",
            "NARROWS_STREAMS__0__TOPIC": "t",
            "NARROWS_STREAMS__0__SCHEMA__DIMENSION": "2",
        }
        assert load_settings(environ=environ).stream("a").record_schema.dimension == 2

    def test_variables_of_a_kubernetes_service_are_no_settings(self, file: Path) -> None:
        """A service called narrows sets NARROWS_PORT in every pod; that must not end the program."""
        load_settings(file, environ={"NARROWS_PORT": "tcp://10.0.0.1:80", "NARROWS_SERVICE_HOST": "10.0.0.1"})

    def test_secret_is_read_from_a_file(self, file: Path, tmp_path: Path) -> None:
        """The variable with _FILE names it; a trailing line end is not part of it."""
        (tmp_path / "url").write_text("postgresql+psycopg://u:s3cret@h/d\n")
        settings = load_settings(file, environ={"NARROWS_STORE__URL_FILE": str(tmp_path / "url")})
        assert settings.store.url == "postgresql+psycopg://u:s3cret@h/d"

    def test_refusal_names_the_variable(self, file: Path) -> None:
        """A wrong value from the environment is not looked for in the file."""
        message = refusal(file, NARROWS_STREAMS__GAS__DETECTOR__EPOCHS="many")
        assert "streams.gas.detector.epochs (from NARROWS_STREAMS__GAS__DETECTOR__EPOCHS)" in message
        assert "'many'" in message

    def test_refusal_lists_names_when_a_variable_names_no_stream(self, file: Path) -> None:
        """A typing error in the name of a stream is not silently ignored."""
        assert "(GAS)" in refusal(file, NARROWS_STREAMS__GASS__TOPIC="x")


@pytest.mark.parametrize(
    ("addition", "expected"),
    [
        ('[streams.detector]\nprofil = "fast"', "streams.gas.detector.profil: unknown key. Did you mean profile?"),
        ('[stor]\nurl = "x"', "stor: unknown key. Did you mean store?"),
        ("[kafka.security]\nxyz = 1", "kafka.security.xyz: unknown key. There is: protocol"),
        ('[streams.schedule]\nretrain = "cron: 0 24 * * *"', "streams.gas.schedule.retrain: cron"),
        ('[streams.schedule]\nrecalibrate = "15"', "not a duration"),
        ('[streams.batch]\npoll_timeout = "0s"', "not longer than zero"),
        ('[streams.detector]\nprofile = "slow"', "Input should be 'full' or 'fast'. It is 'slow'."),
        ('[kafka.security]\nprotocol = "SASL_SSL"', "needs sasl_mechanism, sasl_username and sasl_password"),
        ('[kafka]\nbootstrap_servers = ["http://a:1"]', "without a scheme"),
        ('[store]\nurl = "narrows.db"', "not a database URL"),
    ],
)
def test_load_says_what_where_and_how_to_mend_it(file: Path, addition: str, expected: str) -> None:
    """Each refusal names the file, the key, the problem and the remedy."""
    file.write_text(SMALLEST + addition)
    message = refusal(file)
    assert str(file) in message
    assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[[streams]]\nname = "a"\ntopic = "t"', "streams.a.schema: missing. Add [streams.schema] with dimension"),
        ('[[streams]]\nname = "a"\n[streams.schema]\ndimension = 1', "streams.a.topic: missing. Add topic"),
        (SMALLEST.replace("3", "0"), "streams.gas.schema.dimension: Input should be greater than or equal to 1"),
        (SMALLEST + 'features = ["a", "b"]', "features lists 2 paths, but dimension is 3"),
        (SMALLEST + "features = 7", "write the path of an array"),
        (SMALLEST + 'id = "meta"\nlabel = "meta.class"', "'meta' and 'meta.class' name the same place"),
        (SMALLEST + 'id = "features"', "'features' and 'features' name the same place"),
        (SMALLEST + 'features = ["a", "a.b", "c"]', "'a' and 'a.b' name the same place"),
        (SMALLEST + 'id = "meta..id"', "'meta..id' is not a path"),
        (SMALLEST + SMALLEST.replace("gas", "GAS"), "two streams are named gas"),
        (SMALLEST.replace('"gas"', '"../gas"'), "is not a name"),
    ],
)
def test_load_refuses_a_stream_that_cannot_work(file: Path, text: str, expected: str) -> None:
    """A stream that cannot be read or told apart is refused before anything starts."""
    file.write_text(text)
    assert expected in refusal(file)


def test_load_tells_all_problems_at_once(file: Path) -> None:
    """Nobody should mend a file one error at a time."""
    file.write_text(SMALLEST + "[log]\nlevel = 3\n[metrics]\nport = -1\n")
    message = refusal(file)
    assert "log.level" in message
    assert "metrics.port" in message


class TestStream:
    def test_stream_may_be_left_out_only_where_one_is_configured(self, file: Path) -> None:
        """With two, the error lists their names."""
        file.write_text(SMALLEST + SMALLEST.replace('"gas"', '"air"'))
        settings = load_settings(file, environ={})
        assert settings.stream("air").name == "air"
        with pytest.raises(ConfigError, match=r"gas, air.*--stream NAME"):
            settings.stream()
        with pytest.raises(ConfigError, match="no stream 'water'"):
            settings.stream("water")

    def test_fingerprint_follows_changes_and_nothing_else(self, file: Path) -> None:
        """A default that is written out changes nothing; another value does."""
        plain = fingerprint(load_settings(file, environ={}).stream())
        file.write_text(SMALLEST + '[streams.detector]\nprofile = "full"')
        assert fingerprint(load_settings(file, environ={}).stream()) == plain
        file.write_text(SMALLEST + '[streams.detector]\nprofile = "fast"')
        assert fingerprint(load_settings(file, environ={}).stream()) != plain


class TestSecrets:
    def test_masked_and_repr_show_no_secret(self, file: Path) -> None:
        """Neither what people print nor what programs log by accident."""
        environ = {
            "NARROWS_STORE__URL": "postgresql+psycopg://u:s3cret@h/d",
            "NARROWS_KAFKA__SECURITY__SASL_PASSWORD": "s3cret",
        }
        settings = load_settings(file, environ=environ)
        assert "s3cret" not in f"{settings!r} {settings} {settings.masked()}"
        assert settings.masked()["store"]["url"] == "postgresql+psycopg://u:***@h/d"

    def test_refusal_shows_no_secret(self, file: Path) -> None:
        """A password in a URL that is refused stays out of the message."""
        assert "s3cret" not in refusal(file, NARROWS_STORE__URL="u:s3cret@h")

    @pytest.mark.parametrize(
        ("url", "masked"),
        [
            ("postgresql://u:a:b@c/d@h/d", "postgresql://u:***@h/d"),
            ("postgresql://u@h/d?user=u&password=p&x=1", "postgresql://u@h/d?user=u&password=***&x=1"),
            ("sqlite:////folder:a@b/narrows.db", "sqlite:////folder:a@b/narrows.db"),
        ],
    )
    def test_mask_url_hides_the_password_only(self, url: str, masked: str) -> None:
        """Odd characters in a password hide more, never less."""
        assert mask_url(url) == masked


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("500ms", timedelta(milliseconds=500)),
            ("2s", timedelta(seconds=2)),
            ("15m", timedelta(minutes=15)),
            ("1h30m", timedelta(minutes=90)),
            ("90d", timedelta(days=90)),
            ("1.5h", timedelta(minutes=90)),
            ("2w", timedelta(days=14)),
        ],
    )
    def test_parse_duration_reads_number_and_unit(self, text: str, expected: timedelta) -> None:
        """Units from milliseconds to weeks."""
        assert parse_duration(text) == expected

    @pytest.mark.parametrize("text", ["", "5", "5 m", "m", "-5m", "5M", "0s", "1e3s", 5, None, "9" * 20 + "d"])
    def test_parse_duration_refuses_what_has_no_clear_meaning(self, text: object) -> None:
        """No unit, no number, zero, too long."""
        with pytest.raises(ValueError, match=r"duration|longer"):
            parse_duration(text)

    @given(st.integers(1, 10**12))
    def test_format_duration_is_read_back(self, milliseconds: int) -> None:
        """For every whole number of milliseconds up to thirty years."""
        duration = timedelta(milliseconds=milliseconds)
        assert parse_duration(format_duration(duration)) == duration

    @given(st.text(alphabet=string.printable, max_size=12))
    def test_parse_duration_raises_nothing_but_value_error(self, text: str) -> None:
        """Any text is either a positive duration or refused."""
        with contextlib.suppress(ValueError):
            assert parse_duration(text) > timedelta(0)


class TestSchedules:
    @pytest.mark.parametrize("text", ["15m", "cron: 0 3 * * *", "cron: */5 0-6/2 1,15 jan-mar mon-fri", "off"])
    def test_parse_schedule_is_the_inverse_of_str(self, text: str) -> None:
        """What is printed can be configured."""
        assert str(parse_schedule(text)) == text

    def test_off_is_a_schedule_that_never_runs(self) -> None:
        """A job can be switched off."""
        assert not parse_schedule("off").enabled

    @pytest.mark.parametrize(
        "cron",
        ["* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * foo *", "* * * * 8", "*/0 * * * *", "5-1 * * * *"],
    )
    def test_parse_schedule_refuses_a_cron_that_can_never_run(self, cron: str) -> None:
        """The message shows which field is wrong."""
        with pytest.raises(ValueError, match="cron"):
            parse_schedule(f"cron: {cron}")


class TestReference:
    def test_reference_describes_every_setting(self) -> None:
        """No row without words, and both ends of the configuration are there."""
        rows = reference().splitlines()[2:]
        assert all(row.split("|")[3].strip() not in {"", "None"} for row in rows)
        assert any("`store.url`" in row for row in rows)
        assert any("`streams.retention.job_runs`" in row for row in rows)

    def test_variable_for_names_what_the_environment_reads(self, file: Path) -> None:
        """The rule that the documentation prints is the rule that is read."""
        variable = variable_for(("streams", "batch", "max_records")).replace("NAME", "GAS")
        assert load_settings(file, environ={variable: "9"}).stream().batch.max_records == 9
