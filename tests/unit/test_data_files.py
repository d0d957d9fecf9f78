"""Data files: every format gives the same arrays, and every refusal says what, where and how to mend it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.data_files import read_data_file
from monitor.errors import UsageError
from monitor.settings_streams import RecordSchema

X = np.array([[1.5, 2], [3, -4], [0, 5]], dtype=np.float32)
LABELS = ["a", "", "7"]
TIMES = [10.0, 11.5, 12.0]


def write_npz(folder: Path, **arrays: Any) -> Path:
    """An NPZ file of these arrays."""
    path = folder / "rows.npz"
    np.savez(path, **arrays)
    return path


def write_lines(folder: Path, *rows: Any, name: str = "rows.jsonl") -> Path:
    """A text file of these lines; what is no text is written as JSON."""
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def refusal(path: Path, *, schema: RecordSchema | None = None) -> str:
    """The message that reading ends with."""
    with pytest.raises(UsageError) as caught:
        read_data_file(path, schema=schema)
    return str(caught.value)


class TestFormats:
    """The same three rows in every format."""

    def same_rows(self, folder: Path, kind: str) -> Path:
        """Write them."""
        rows = list(zip(X.tolist(), LABELS, TIMES, strict=True))
        if kind == "npz":
            return write_npz(folder, X=X, y=np.array(LABELS), t=np.array(TIMES))
        if kind == "jsonl":
            return write_lines(folder, *({"features": x, "label": y or None, "t": t} for x, y, t in rows))
        if kind == "csv":
            lines = [f"{x[0]},{x[1]},{y},{t}" for x, y, t in rows]
            return write_lines(folder, "left,right,label,t", *lines, name="rows.csv")
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = {"left": X[:, 0], "right": X[:, 1], "label": [y or None for y in LABELS], "t": TIMES}
        parquet.write_table(pytest.importorskip("pyarrow").table(columns), folder / "rows.parquet")
        return folder / "rows.parquet"

    @pytest.mark.parametrize("kind", ["npz", "jsonl", "csv", "parquet"])
    def test_read_gives_features_labels_and_times(self, tmp_path: Path, kind: str) -> None:
        """Types, values and the name of the file."""
        recorded = read_data_file(self.same_rows(tmp_path, kind))
        assert recorded.x.dtype == np.float32
        np.testing.assert_array_equal(recorded.x, X)
        assert recorded.labels.tolist() == LABELS
        assert recorded.t is not None
        assert recorded.t.tolist() == TIMES
        assert recorded.name == f"rows.{kind}"
        assert (len(recorded), recorded.dimension) == (3, 2)

    def test_read_names_the_kinds_that_there_are(self, tmp_path: Path) -> None:
        """For an ending that nothing is known of."""
        assert ".npz, .jsonl" in refusal(write_lines(tmp_path, "x", name="rows.xls"))

    def test_read_refuses_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        """Named by its path."""
        assert refusal(tmp_path / "no.npz") == f"{tmp_path}/no.npz: there is no such file."

    def test_read_refuses_a_file_that_would_not_fit_into_memory(self, tmp_path: Path) -> None:
        """Before it is read, whether the file or what it unpacks to is too large."""
        path = tmp_path / "zeros.npz"
        np.savez_compressed(path, X=np.zeros((1000, 100)))
        with pytest.raises(UsageError, match="Take a sample"):
            read_data_file(path, max_bytes=100)
        with pytest.raises(UsageError, match="arrays are larger"):
            read_data_file(path, max_bytes=path.stat().st_size + 1)

    def test_read_says_which_extra_parquet_needs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without pyarrow the message is the command that mends it."""
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert "pip install 'narrows[parquet]'" in refusal(write_lines(tmp_path, "x", name="rows.parquet"))


class TestNpz:
    def test_read_takes_images_as_rows(self, tmp_path: Path) -> None:
        """Further axes are features."""
        assert read_data_file(write_npz(tmp_path, X=np.zeros((4, 3, 2)))).x.shape == (4, 6)

    @pytest.mark.parametrize(
        ("y", "labels"),
        [
            (np.array([2, 10, 1]), ["2", "10", "1"]),
            (np.array([2.0, np.nan, 1.5]), ["2", "", "1.5"]),
            (np.array(["b", "", "a"]), ["b", "", "a"]),
        ],
    )
    def test_labels_are_text_whatever_they_were(self, tmp_path: Path, y: Any, labels: list[str]) -> None:
        """A class is "2" and not "2.0"; NaN is no label."""
        assert read_data_file(write_npz(tmp_path, X=X, y=y)).labels.tolist() == labels

    def test_classes_of_numbers_are_in_the_order_of_numbers(self, tmp_path: Path) -> None:
        """Ten comes after two, words after numbers, no label is no class."""
        y = np.array(["10", "b", "2", ""])
        assert read_data_file(write_npz(tmp_path, X=np.ones((4, 1)), y=y)).classes == ("2", "10", "b")

    def test_times_may_be_dates(self, tmp_path: Path) -> None:
        """As epoch seconds."""
        t = np.array(["1970-01-01", "1970-01-02", "1970-01-02T00:00:00.5"], dtype="datetime64[ms]")
        recorded = read_data_file(write_npz(tmp_path, X=X, t=t))
        assert recorded.t is not None
        assert recorded.t.tolist() == [0, 86_400, 86_400.5]

    @pytest.mark.parametrize(
        ("arrays", "expected"),
        [
            ({"x": X}, "has no array X (it has x)"),
            ({"X": X, "y": np.array([1, 2])}, "y (the labels) has shape (2,), but there are 3 rows"),
            ({"X": X, "t": np.array([[1.0, 2, 3]])}, "t (the times) has shape (1, 3)"),
            ({"X": np.array(["a", "b"])}, "it must be numbers"),
            ({"X": np.array([1.0, 2.0])}, "one row a record"),
            ({"X": np.zeros((0, 3))}, "has no rows"),
            (
                {"X": np.array([[0, 1], [np.nan, 2], [3, np.inf]])},
                "feature 0 of row 1 is not a finite number, and 2 of 3",
            ),
            ({"X": np.array([[1e300]])}, "not a finite number"),
            ({"X": X, "y": np.array([{}, 1, 2], dtype=object)}, "without objects"),
        ],
    )
    def test_read_refuses_arrays_that_do_not_fit(self, tmp_path: Path, arrays: dict[str, Any], expected: str) -> None:
        """Also objects, which would run code when unpickled."""
        assert expected in refusal(write_npz(tmp_path, **arrays))

    def test_read_refuses_what_is_no_zip_file(self, tmp_path: Path) -> None:
        """A file with the wrong ending."""
        assert "not a usable NPZ file" in refusal(write_lines(tmp_path, "hello", name="rows.npz"))


class TestTables:
    def test_schema_says_where_the_parts_are(self, tmp_path: Path) -> None:
        """Paths with dots lead into objects."""
        schema = RecordSchema(dimension=2, features=("m.a", "m.b"), label="kind", event_time="at")
        path = write_lines(tmp_path, {"m": {"a": 1, "b": 2}, "kind": "k", "at": "1970-01-01T00:01:00Z", "label": "no"})
        recorded = read_data_file(path, schema=schema)
        assert recorded.x.tolist() == [[1, 2]]
        assert recorded.labels.tolist() == ["k"]
        assert recorded.t is not None
        assert recorded.t.tolist() == [60]

    def test_guess_leaves_id_and_text_columns_out(self, tmp_path: Path) -> None:
        """Features are the columns of numbers that have no other meaning."""
        recorded = read_data_file(write_lines(tmp_path, "id,place,b,a,class", "7,here,1,2,x", name="rows.csv"))
        assert recorded.x.tolist() == [[1, 2]]
        assert recorded.labels.tolist() == ["x"]
        assert recorded.t is None

    def test_csv_cell_may_hold_the_array(self, tmp_path: Path) -> None:
        """As JSON text in quotes."""
        recorded = read_data_file(write_lines(tmp_path, "features,y", '"[1, 2.5]",3', name="rows.csv"))
        assert recorded.x.tolist() == [[1, 2.5]]
        assert recorded.labels.tolist() == ["3"]

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            (['{"features": [1]}', "{"], "line 2: not JSON"),
            (["[1, 2]"], "line 1: not an object"),
            ([{"features": [1, 2]}, "", {"features": [1]}], "line 3: has 1 features, but the first row has 2"),
            ([{"features": [1, "x"]}], "line 1, features[1]: 'x' is not a finite number"),
            ([{"features": [1, None]}], "line 1, features[1]: None is not a finite number"),
            ([{"features": [True]}], "line 1, features[0]: True is not"),
            ([{"features": [1], "ts": "soon"}], "line 1, ts: 'soon' is not a number or an ISO 8601 time"),
            ([{"name": "x"}], "line 1: no features found"),
            ([{"a": 1}, {"b": 2}], "line 2: has no a. It has: b"),
            ([""], "has no rows"),
        ],
    )
    def test_json_lines_refusal_names_line_and_field(self, tmp_path: Path, rows: list[Any], expected: str) -> None:
        """Lines count from one, as editors count them."""
        assert expected in refusal(write_lines(tmp_path, *rows))

    def test_csv_refusal_names_the_line(self, tmp_path: Path) -> None:
        """A row with a column too few or too many."""
        assert "line 3: has not the 2 columns" in refusal(write_lines(tmp_path, "a,b", "1,2", "3", name="rows.csv"))
        assert "line 2: has not the 2 columns" in refusal(write_lines(tmp_path, "a,b", "1,2,3", name="rows.csv"))

    def test_refusal_compares_with_the_schema(self, tmp_path: Path) -> None:
        """A file of another dimension is not trained on."""
        message = refusal(write_lines(tmp_path, {"features": [1]}), schema=RecordSchema(dimension=2))
        assert "has 1 features; the stream's schema says dimension = 2" in message

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
    @given(st.binary(max_size=200), st.sampled_from(["rows.jsonl", "rows.csv", "rows.npz", "rows.parquet"]))
    def test_read_raises_nothing_but_usage_error(self, tmp_path: Path, content: bytes, name: str) -> None:
        """Any bytes are either rows or refused in words."""
        path = tmp_path / name
        path.write_bytes(content)
        try:
            read_data_file(path)
        except UsageError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right
