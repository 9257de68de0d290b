"""DataFrames and Series: columns by name, rows by position, and what holds no numbers."""

import numpy as np
import pytest

import fastnn as fn
from fastnn.data import ArrayDataset, DataLoader

from doors import NAMES, X, Y, bits, fitted, make


def test_columns_are_found_by_name_in_whatever_order_they_come():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pandas.DataFrame(X, columns=NAMES).astype({"b": np.float32})
    other = frame[list("fbdace")]
    trainer = fitted((frame, Y), validation_data=(other, Y))
    wanted = trainer.predict(X)
    assert trainer.predict(other).tobytes() == wanted.tobytes()
    assert trainer.predict(polars.DataFrame(X[:, ::-1].copy(), schema=NAMES[::-1])).tobytes() == wanted.tobytes()
    assert trainer.evaluate((other, Y)) == trainer.evaluate((X, Y))
    history = trainer.history.history
    assert history["val_loss"][-1] == trainer.evaluate((X, Y))["loss"]
    for wrong, message in (
        (frame.rename(columns={"a": "z"}), "missing: a; unexpected: z; to go by their order alone give .to_numpy"),
        (frame[list("abcde")], "x: its columns are not those that the model was trained on; missing: f"),
        (frame.assign(g=1.0), "unexpected: g"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.predict(wrong)
    with pytest.raises(ValueError, match="give them in that order"):
        trainer.evaluate(DataLoader((other, Y), 16))
    before = bits(trainer)
    trainer.fit((other, Y), epochs=1, batch_size=16, seed=1, verbose=False)
    again = fitted((frame, Y))
    assert bits(again) == before
    again.fit((frame, Y), epochs=1, batch_size=16, seed=1, verbose=False)
    assert bits(again) == bits(trainer)


def test_inputs_by_name_and_resumed_runs_know_their_columns(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=NAMES)
    trainer = fitted(({"input": frame}, Y))
    wanted = trainer.predict(X)
    assert trainer.predict({"input": frame[NAMES[::-1]]}).tobytes() == wanted.tobytes()
    trainer.save_checkpoint(tmp_path / "c")
    with pytest.raises(ValueError, match=r"features: input input was trained on the columns a, b, .* have f, e"):
        make().fit(({"input": frame[NAMES[::-1]]}, Y), epochs=3, resume=tmp_path / "c", batch_size=16, verbose=False)
    other = make()
    other.fit(({"input": X}, Y), epochs=2, resume=tmp_path / "c", batch_size=16, seed=1, verbose=False)
    assert other.predict({"input": frame[NAMES[::-1]]}).tobytes() == wanted.tobytes()


def pandas_refused():
    import pandas

    frame = pandas.DataFrame(X, columns=NAMES)
    return {
        "categories": (
            frame.assign(b=pandas.Categorical(["x"] * 50)),
            "column b, got dtype category|column b: .* category",
        ),
        "categories of numbers": (frame.assign(b=pandas.Categorical(Y)), "column b: expected numbers .*TableRecipe"),
        "texts": (frame.assign(b="x"), "column b: expected numbers"),
        "objects": (frame.assign(b=[None] * 50).astype({"b": object}), "column b: .* object"),
        "times": (frame.assign(b=pandas.Timestamp("2020-01-01")), "column b: .* datetime64"),
        "NA": (
            frame.assign(b=pandas.array([1, None] * 25, "Int64")),
            "column b: 25 values are missing, as pandas' NA; fill",
        ),
        "a name twice": (pandas.DataFrame(X, columns=list("abcdea")), "more than one column a"),
        "no columns": (frame[[]], "no columns"),
    }


def test_columns_of_pandas_that_are_no_numbers_are_refused_by_name():
    pytest.importorskip("pandas")
    for frame, message in pandas_refused().values():
        for call in (lambda f=frame: make().predict(f), lambda f=frame: ArrayDataset(f)):
            with pytest.raises((TypeError, ValueError), match=message):
                call()


def test_columns_of_polars_that_are_no_numbers_are_refused_by_name():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X, schema=NAMES)
    for column, message in (
        (polars.lit("x"), "String"),
        (polars.lit("x").cast(polars.Categorical), "Categorical"),
        (polars.lit(1).cast(polars.Date), "Date"),
        (polars.when(polars.col("a") > 0).then(1.0), "values are missing, as polars' null; fill them"),
        (polars.concat_list("a", "c"), "List"),
        (polars.lit(1).cast(polars.Decimal(5, 2)), "Decimal"),
    ):
        with pytest.raises(TypeError, match=f"column b: .*{message}"):
            make().predict(frame.with_columns(column.alias("b")))
    with pytest.raises(TypeError, match="x: polars's LazyFrame is no DataFrame"):
        make().predict(frame.lazy())


def test_nan_stands_for_what_is_missing_where_one_says_so():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pandas.DataFrame(X, columns=NAMES)
    frame.loc[3, "b"] = np.nan
    for given in (
        frame,
        frame.astype({"b": "Float64"}).astype({"b": "float64"}),
        polars.from_pandas(frame, nan_to_null=False),
    ):
        assert np.isnan(make().predict(given)).all(1).tolist() == [i == 3 for i in range(50)]


def test_a_series_is_a_column_of_numbers():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    x, y = ArrayDataset(pandas.Series([1.5, 2.5], index=[9, 3]), polars.Series([True, False]))[[1, 0]]
    assert x.tolist() == [2.5, 1.5] and y.tolist() == [False, True]
    with pytest.raises(TypeError, match=r"arrays\[0\]: expected numbers .* str"):
        ArrayDataset(pandas.Series(["a"], name=None))


def test_what_a_refusal_advises_makes_features_of_categories():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    columns = {"h": [1.5, 2.0, 3.0, float("nan")], "kind": ["a", "b", "a", "b"], "c": ["x", "y", "x", "y"]}
    for df in (pandas.DataFrame(columns), polars.DataFrame(columns)):
        with pytest.raises(
            TypeError, match=r"column.* kind.* fn.data.Table\(df.columns, df.to_numpy\(\).astype\(str\)\)"
        ):
            ArrayDataset(df)
        table = fn.data.Table(df.columns, df.to_numpy().astype(str))
        x, y = fn.data.TableRecipe.fit(table, "kind")(table)
        assert x.shape == (4, 3) and y.tolist() == [0, 1, 0, 1] and np.isfinite(x).all()


def test_batches_that_are_data_frames_are_aligned_by_the_first_one():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=NAMES)
    parts = [(frame.iloc[:25], Y[:25]), (frame.iloc[25:][NAMES[::-1]], Y[25:])]
    trainer, twin = make(), make()
    trainer.fit(iter(parts), verbose=False)
    twin.fit(iter([(x[NAMES].to_numpy(), y) for x, y in parts]), verbose=False)
    assert bits(trainer) == bits(twin)
    assert trainer.predict(frame[NAMES[::-1]]).tobytes() == trainer.predict(X).tobytes()
    assert trainer.evaluate(iter(parts[::-1]))["loss"] == pytest.approx(trainer.evaluate((X, Y))["loss"], rel=1e-6)
    with pytest.raises(ValueError, match="missing: f"):
        trainer.fit(iter([(frame[NAMES[:5]], Y)]), verbose=False)
