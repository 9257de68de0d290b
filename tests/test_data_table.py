"""Tables: CSV files, recipes fitted on training rows, what they refuse and by which words."""

import json
import warnings

import numpy as np
import pytest

from fastnn.data import ClassTarget, NumberTarget, Table, TableRecipe, read_csv


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text, name="t.csv"):
    with open(name, "wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
    return name


def read(text, **options):
    return read_csv(written(text), **options)


def refused(text, **options):
    with pytest.raises(ValueError) as info:
        read(text, **options)
    assert str(info.value).startswith("t.csv") and len(str(info.value)) < 500
    return str(info.value)


# ---- reading ---------------------------------------------------------------------------------------


def test_cells_are_texts_under_the_names_of_the_first_line():
    table = read("a,b\n1,x\n2,y\n")
    assert table.names == ("a", "b") and table["a"].tolist() == ["1", "2"] and table["b"].tolist() == ["x", "y"]
    assert table.lines.tolist() == [2, 3] and table.source == "t.csv"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_the_first_line_has_most_of(delimiter):
    table = read(f'"a,;|\t"{delimiter}b\n1{delimiter}2\n')
    assert table.names == ("a,;|", "b") and table["b"].tolist() == ["2"]


def test_a_given_delimiter_is_taken():
    assert read("a,b:c\n1,2:3\n", delimiter=":").names == ("a,b", "c")
    for wrong in ("", "::", '"', "\n", 5):
        with pytest.raises(ValueError, match="delimiter must be one character"):
            read("a,b\n1,2\n", delimiter=wrong)


def test_quoted_cells_hold_delimiters_quotes_and_line_ends_and_lines_are_counted_through_them():
    table = read('a,b\n"1,5","say ""no"""\n\n"two\nlines",\r\n last , "x"\n'.replace(', "x"', ",x"))
    assert table["a"].tolist() == ["1,5", "two\nlines", "last"] and table["b"].tolist() == ['say "no"', "", "x"]
    assert table.lines.tolist() == [2, 4, 6]


def test_a_byte_order_mark_and_carriage_returns_are_passed_over():
    table = read("\ufeffa;ä\r\n1;ö\r\n")
    assert table.names == ("a", "ä") and table["ä"].tolist() == ["ö"]


def test_more_rows_than_are_gathered_at_a_time_keep_their_order_and_lines():
    table = read("a\n" + "".join(f"{i}\n" for i in range(9000)))
    assert table["a"].tolist() == [str(i) for i in range(9000)]
    np.testing.assert_array_equal(table.lines, np.arange(9000) + 2)


def test_names_may_be_given_for_a_file_that_has_none():
    assert read("1,2\n3,4\n", names=["a", "b"])["b"].tolist() == ["2", "4"]
    assert "line 1: 2 cells, where names= has 1 columns" in refused("1,2\n", names=["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv: the file is empty"),
        ("\ufeff \n\n", "t.csv: the file is empty"),
        ("a,b\n", "t.csv: it names columns, and there are no rows below"),
        ("1,2\n3,4\n", "line 1: numbers, where the names of the columns are expected"),
        ("a,b\n1,2\n1,2,3\n", "t.csv, line 3: 3 cells, where the first line has 2 columns"),
        ("a,b\n1,2\n\n1\n", "t.csv, line 4: 1 cell, where the first line has 2 columns"),
        ("a,b, a\n1,2,3\n", "t.csv, line 1: two columns have the name 'a'"),
        ("a,,b\n1,2,3\n", "t.csv, line 1: column 2 has no name"),
        ('a,b\n1,"2\n3,4\n', "t.csv, line 2: unexpected end of data"),
        ('a,b\n1,"2"x\n', "t.csv, line 2: "),
        (b"a,b\n1,2\n\xe9,3\n", "t.csv, line 3: byte 0xe9 is no UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "t.csv, line 1: byte 0xff is no UTF-8"),
        ("a,b\n1,\0\n", "t.csv, line 2: a zero byte"),
        ("\0a,b\n1,2\n", "t.csv, line 1: a zero byte"),
        ("\ufffd,b\n1\n", "t.csv, line 2: 1 cell, where the first line has 2 columns"),
        ("a\n" + "x" * 200_000 + "\n", "t.csv, line 2: field larger than field limit"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_table_is_refused_with_its_line(text, message):
    assert message in refused(text)


def test_a_table_chooses_columns_and_rows():
    table = read("a,b\n1,x\n2,y\n3,z\n")
    assert table[1:]["a"].tolist() == ["2", "3"] and table[[2, 0]]["b"].tolist() == ["z", "x"]
    assert table[np.array([False, True, False])].lines.tolist() == [3]
    with pytest.raises(ValueError, match=r"t.csv: there is no column 'c'; the columns are a, b"):
        table["c"]
    with pytest.raises(TypeError, match="table"):
        table[1.5]
    with pytest.raises(ValueError, match=r"cells: expected shape \(N, 1\)"):
        Table(["a"], [["1", "2"]])


# ---- features --------------------------------------------------------------------------------------

HOUSES = "rooms,area,district,price\n3,80,north,310\n5,120,south,520\n,90,north,330\n4,,,400\n6,150,west,610\n"


def fitted(text, target, **options):
    table = read(text)
    return table, TableRecipe.fit(table, target, **options)


def test_numbers_are_standardised_and_categories_become_a_feature_each():
    table, recipe = fitted(HOUSES, "price")
    x, y = recipe(table)
    assert recipe.features == ("rooms", "area", "district=north", "district=south", "district=west")
    assert (x.dtype, x.shape, y.dtype, y.shape) == (np.float32, (5, 5), np.float32, (5, 1))
    rooms = np.array([3, 5, 4.5, 4, 6])  # the median of 3, 5, 4, 6 is filled in
    np.testing.assert_allclose(x[:, 0], (rooms - rooms.mean()) / rooms.std(), rtol=1e-6)
    area = np.array([80, 120, 90, 105, 150])
    np.testing.assert_allclose(x[:, 1], (area - area.mean()) / area.std(), rtol=1e-6)
    np.testing.assert_array_equal(x[:, 2:], [[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]])
    price = np.array([310, 520, 330, 400, 610])
    np.testing.assert_allclose(y[:, 0], (price - price.mean()) / price.std(), rtol=1e-6)
    np.testing.assert_allclose(recipe.target.decode(y)[:, 0], price, rtol=1e-6)
    assert recipe.notes() == [
        "column 'rooms': 1 missing value; the median, 4.5, stands in",
        "column 'area': 1 missing value; the median, 105, stands in",
        "column 'district': 1 missing value; the most frequent category, 'north', stands in",
    ]


def test_medians_means_deviations_and_categories_are_of_the_training_rows_alone():
    table, recipe = fitted(HOUSES, "price", rows=[0, 1, 3])
    rooms, area, district = recipe.columns
    assert (rooms.fill, rooms.mean) == (4, 4) and rooms.std == pytest.approx(np.std([3, 5, 4]))
    assert (area.fill, area.mean, area.missing) == (100, 100, 1)
    assert district.categories == ("north", "south")
    assert recipe.target.mean == (410,) and recipe.target.std == pytest.approx((np.std([310, 520, 400]),))
    with pytest.warns(UserWarning, match=r"^t.csv, line 6, column 'district': 'west' is no category that training had"):
        x = recipe.inputs(table)
    np.testing.assert_array_equal(x[4, 2:], 0)


def test_scikit_learn_makes_the_same_features():
    pytest.importorskip("sklearn")
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    numbers = rng.normal(5, 3, (50, 2))
    numbers[rng.random((50, 2)) < 0.2] = np.nan
    texts = rng.choice(["a", "b", "c", "d", "e"], (50, 1), p=[0.4, 0.3, 0.2, 0.05, 0.05]).astype(object)
    cells = [["" if np.isnan(v) else repr(float(v)) for v in pair] for pair in numbers]
    rows = [[*pair, text, "0"] for pair, text in zip(cells, texts[:, 0], strict=True)]
    rows[0][3] = "1"
    table = Table(["x", "y", "kind", "target"], rows)
    recipe = TableRecipe.fit(table, "target", rows=range(30), max_categories=2)
    theirs = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), [0, 1]),
        (OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3, sparse_output=False), [2]),
    )
    whole = np.hstack([numbers, texts])
    theirs.fit(whole[:30])
    np.testing.assert_allclose(recipe.inputs(table), theirs.transform(whole).astype(float), rtol=1e-5, atol=1e-6)


def test_columns_are_found_by_name_in_any_order_and_others_are_passed_over():
    table, recipe = fitted(HOUSES, "price")
    other = read("more,district,area,rooms\n?,south,120,5\n", delimiter=",")
    np.testing.assert_array_equal(recipe.inputs(other), recipe.inputs(table)[1:2])
    with pytest.raises(ValueError, match=r"t.csv: there is no column 'area'; the columns are rooms, district"):
        recipe.inputs(read("rooms,district\n1,south\n"))
    with pytest.raises(ValueError, match="there is no column 'price'"):
        recipe.targets(other)


@pytest.mark.parametrize("cell", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", " ", "#N/A", "<NA>"])
def test_what_pandas_takes_for_missing_is_missing(cell):
    table, recipe = fitted(f"a,b,c\n1,x,0\n{cell},{cell},1\n3,x,5\n4,y,7\n", "c")
    assert [column.missing for column in recipe.columns] == [1, 1]
    assert recipe.columns[0].fill == 3 and recipe.columns[1].fill == "x"
    np.testing.assert_array_equal(recipe.inputs(table)[1, 1:], [1, 0])


def test_rare_categories_share_a_feature_and_unknown_ones_join_them():
    text = "k,t\n" + "".join(f"{k},{i}\n" for i, k in enumerate("aaabbbccd"))
    _, recipe = fitted(text, "t", max_categories=2)
    assert recipe.features == ("k=a", "k=b", "k=(other)")
    assert recipe.notes() == ["column 'k': the 2 most frequent categories have a feature each"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(recipe.inputs(read("k\nc\nnew\nb\n"))[:, 2], [1, 1, 0])


def test_columns_that_never_differ_are_left_out_and_said():
    _, recipe = fitted("a,b,c,d,t\n1,x,,5,1\n1,x,,6,2\n1,x,,7,4\n", "t")
    assert recipe.features == ("d",) and recipe.left_out == ("a", "b", "c")
    assert recipe.notes()[0] == "column 'a': left out, as it has one value in all training rows"
    with pytest.raises(ValueError, match="beside the target there is no column that differs from row to row"):
        fitted("a,t\n1,1\n1,2\n", "t")


def test_kinds_that_are_given_are_taken_and_columns_can_be_dropped():
    text = "code,n,x,t\n1,7,0,a\n2,8,1,b\n1,9,2,a\n"
    _, recipe = fitted(text, "t", categorical=["code"], drop=["n"])
    assert recipe.features == ("code=1", "code=2", "x")
    with pytest.raises(ValueError, match=r"t.csv, line 2, column 't': 'a' is no number"):
        fitted(text, "x", numeric=["t"])
    with pytest.raises(ValueError, match="column 'n' is in both numeric and drop"):
        fitted(text, "t", numeric=["n"], drop=["n"])
    with pytest.raises(ValueError, match="column 't' is in both target and drop"):
        fitted(text, "t", drop=["t"])
    with pytest.raises(ValueError, match=r"t.csv, line 3, column 'n': 'x' is no number"):
        fitted("n,t\n,1\nx,2\n", "t", numeric=["n"])
    for option in ("numeric", "categorical", "drop"):
        with pytest.raises(ValueError, match="there is no column 'z'"):
            fitted(text, "t", **{option: ["z"]})


def test_a_column_is_of_categories_unless_more_than_half_are_numbers():
    assert fitted("a,t\n1,0\nx,1\n", "t")[1].features == ("a=1", "a=x")


def test_decimal_commas_are_read_where_they_are_said_and_refused_where_not():
    text = "a;b;t\n1,5;x, y;2,5\n-2;z;3\n;z;1e1\n"
    table = read(text, decimal=",")
    recipe = TableRecipe.fit(table, "t")
    plain = TableRecipe.fit(read(text.replace("1,5", "1.5").replace("2,5", "2.5")), "t")
    assert recipe == plain and recipe.features == ("a", "b=x, y", "b=z")
    np.testing.assert_array_equal(recipe.inputs(table[:2]), plain.inputs(table[:2]))
    with pytest.raises(
        ValueError, match=r"t.csv, line 2, column 'a': '1,5' is no number; if the table has decimal commas"
    ):
        fitted("a;t\n1,5;1\n2,5;2\nnone;3\n", "t")
    assert fitted("a;t\n1,5;1\n2,5;2\n", "t", categorical=["a"])[1].features == ("a=1,5", "a=2,5")
    for name in ("", ";", 5):
        with pytest.raises(ValueError, match="decimal must be one of"):
            read(text, decimal=name)


def column(*cells):
    return "a,t\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (column(1, 2, "x3", 4), "t.csv, line 4, column 'a': 'x3' is no number, as 3 of the column's 4 values are"),
        (column(1, 2, "1_000", 4), "line 4, column 'a': '1_000' is no number"),
        (column(1, "inf", 3), "t.csv, line 3, column 'a': 'inf' is no finite number"),
        (column(1, "1e999", 3), "t.csv, line 3, column 'a': '1e999' is no finite number"),
        (column("1e308", "-1e308", 3), "column 'a': '1e308' is too large to be standardised"),
        (column(*[f"n{i}" for i in range(150)]), "t.csv, column 'a': 150 different texts in 150 rows, such as 'n0'"),
        ("a,t\n1,1\n2,\n", "t.csv, line 3, column 't': the target is missing; take such rows out"),
        ("a,t\n1,5\n2,5\n", "t.csv: the target 't' has the same value in all rows, 5"),
        ("a,t\n1,x\n2,x\n", "t.csv: the target 't' has one class alone, 'x'"),
        ("a,t\n1,inf\n2,1\n", "t.csv, line 2, column 't': 'inf' is no finite number"),
        ("a,t\n1,1e308\n2,-1e308\n", "t.csv: the target 't' has values that are too large"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_file_line_and_column(text, message):
    with pytest.raises(ValueError) as info:
        fitted(text, "t")
    assert message in str(info.value)


def test_a_value_far_from_all_that_training_had_is_refused():
    _, recipe = fitted(column(1, 2, 3), "t")
    with pytest.raises(ValueError, match=r"t.csv, line 3, column 'a': 1e\+300 is not finite, or too far"):
        recipe.inputs(read("a\n1\n1e300\n"))


def test_huge_and_tiny_numbers_are_standardised_without_overflow():
    for unit in (1e-300, 1e-160, 1e160, 1e300):
        table, recipe = fitted(column(1 * unit, 2 * unit, 3 * unit), "t")
        np.testing.assert_allclose(recipe.inputs(table)[:, 0], [-(1.5**0.5), 0, 1.5**0.5], rtol=1e-6, atol=1e-6)
    table, recipe = fitted(column(1e9, 1e9 + 1, 1e9 + 2), "t")
    np.testing.assert_allclose(recipe.inputs(table)[:, 0], [-(1.5**0.5), 0, 1.5**0.5], rtol=1e-6, atol=1e-6)


# ---- targets ---------------------------------------------------------------------------------------


def test_a_target_of_texts_is_of_classes_and_their_names_come_back():
    table, recipe = fitted("a,t\n1,no\n2,yes\n3,no\n", "t")
    assert recipe.target == ClassTarget(("no", "yes"), "t")
    assert recipe.targets(table).tolist() == [0, 1, 0] and recipe.targets(table).dtype == np.int64
    assert recipe.target.decode(np.array([[0.0, 1], [2, 1]])) == ["yes", "no"]
    with pytest.raises(ValueError, match=r"t.csv, line 2, column 't': 'maybe' is none of the classes of the target"):
        recipe.targets(read("a,t\n1,maybe\n"))


def test_the_task_decides_what_numbers_of_a_target_are():
    text = "a,t\n1,10\n2,9\n3,10\n"
    assert isinstance(fitted(text, "t")[1].target, NumberTarget)
    assert fitted(text, "t", task="classification")[1].target.classes == ("9", "10")
    with pytest.raises(ValueError, match=r"t.csv, line 2, column 't': 'x' is no number"):
        fitted("a,t\n1,x\n2,3\n", "t", task="regression")
    with pytest.raises(ValueError, match="task must be one of"):
        fitted(text, "t", task="binary")


def test_classes_are_those_of_all_rows():
    table, recipe = fitted("a,t\n1,x\n2,y\n3,z\n", "t", rows=[0, 1])
    assert recipe.target.classes == ("x", "y", "z") and recipe.targets(table).tolist() == [0, 1, 2]


# ---- files -----------------------------------------------------------------------------------------


def test_a_recipe_is_saved_as_json_and_read_again():
    for target in ("price", "district"):
        table, recipe = fitted(HOUSES.replace("4,,,", "4,,east,"), target)
        recipe.save("recipe.json")
        again = TableRecipe.load("recipe.json")
        assert again == recipe
        for mine, theirs in zip(again(table), recipe(table), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert json.loads(open("recipe.json").read())["kind"] == "table"


def test_no_value_of_a_recipe_gives_more_than_one_short_error():
    _, recipe = fitted(HOUSES, "price")
    values = json.loads(json.dumps(recipe.to_json()))
    wrong = [None, True, -1, 1e999, float("nan"), 10**400, "", "\ud800", [], {}, [[]], [1], ["a", "a"], {"a": 1}]
    places = [(values, k) for k in values] + [(values["target"], k) for k in values["target"]]
    for entry in (values["columns"][0], values["columns"][2]):
        places += [(entry, key) for key in entry]
    refused = 0
    for owner, key in places:
        before = owner[key]
        for value in wrong:
            owner[key] = value
            with open("recipe.json", "w") as file:
                json.dump(values, file)
            try:
                TableRecipe.load("recipe.json")
            except ValueError as error:
                refused += 1
                assert str(error).startswith("recipe.json is damaged or no recipe: ") and len(str(error)) < 500
        owner[key] = before
    assert refused > 0.85 * len(places) * len(wrong)
    for text in ("", "[]", "[" * 100_000, "{}", "\x00"):
        written(text, "recipe.json")
        with pytest.raises(ValueError, match=r"recipe\.json is damaged or no recipe"):
            TableRecipe.load("recipe.json")
