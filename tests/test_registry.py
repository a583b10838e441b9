import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax import registry
from tl_jax.errors import UserError

TABLE: dict = {}


@registry.register(TABLE, "shape")
def square(given, *, side=1.0, filled=False):
    return "square", given, side, filled


@registry.register(TABLE, "shape")
def ring(given, *, width: int, of: float | None = 1.0):
    return "ring", given, width, of


@registry.register(TABLE, "shape")
def circle(given, radius=2, *, name="o", weights=(1, 1)):
    return "circle", given, radius, name, weights


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("square", ("square", 0, 1.0, False)),
        ("square()", ("square", 0, 1.0, False)),
        ("square(3)", ("square", 0, 3, False)),
        ("square(3, True)", ("square", 0, 3, True)),
        (" square( side = -2.5,filled=None ) ", ("square", 0, -2.5, None)),
        ("circle(4, name='it, (s)')", ("circle", 0, 4, "it, (s)", (1, 1))),
        ("circle(weights=(1, [2, {'a': 3}]))", ("circle", 0, 2, "o", (1, [2, {"a": 3}]))),
    ],
)
def test_a_name_and_its_options_choose_a_function(spec, wanted):
    function, options = registry.chosen("shape", spec, TABLE)
    assert function(0, **options) == wanted


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)  # fmt: skip


@given(radius=LITERALS, name=LITERALS, by_name=st.booleans())
def test_any_literal_comes_through_as_it_is(radius, name, by_name):
    spec = f"circle({'radius=' * by_name}{radius!r}, name={name!r})"
    function, options = registry.chosen("shape", spec, TABLE)
    assert function is circle and options == {"radius": radius, "name": name}


EVALUATED: list = []


@pytest.mark.parametrize(
    "spec",
    [
        "__import__('os')",
        "square(__import__('os').system('true'))",
        "square(side=EVALUATED.append(1))",
        "square(side=1 + max(2, 3))",
        "square(*[1])",
        "square.__class__(1)",
        "(lambda: square)()",
        "square(1)(2)",
        "square; circle",
        "square(1",
        "a square",
        "1",
        "",
        "square(" + "(" * 5000 + ")" * 5000 + ")",
    ],
)
def test_nothing_but_literals_is_evaluated(spec):
    with pytest.raises(UserError) as error:
        registry.chosen("shape", spec, TABLE)
    assert not EVALUATED
    assert "is neither a name nor name(" in str(error.value) or "unknown shape" in str(error.value)


@given(st.text(max_size=30))
def test_whatever_is_written_is_chosen_or_refused_in_a_line(spec):
    try:
        function, _ = registry.chosen("shape", spec, TABLE)
        assert function in TABLE.values()
    except UserError as error:
        assert "shape" in str(error)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sqare", "unknown shape 'sqare'; did you mean 'square'"),
        ("circel(2)", "unknown shape 'circel'; did you mean 'circle'"),
        ("square(sides=2)", "unknown option of shape 'square' 'sides'; did you mean 'side'"),
        ("square(given=2)", "unknown option of shape 'square' 'given'"),
        ("square(1, 2, 3)", "shape 'square' takes 2 options \\(side, filled\\); got 3"),
        ("square(1, side=2)", "side is given twice"),
        ("square(**{'side': 2})", "is neither a name nor"),
        ("ring", "shape 'ring' needs width=: ring"),
        ("ring(width=0.5)", "shape 'ring': width= takes a whole number; got 0.5"),
        ("ring(2, of='a')", "shape 'ring': of= takes a number or None; got 'a'"),
    ],
)
def test_what_is_not_there_is_refused_with_the_near_miss(spec, message):
    with pytest.raises(UserError, match=message):
        registry.chosen("shape", spec, TABLE)


def test_a_name_is_given_once():
    def square():
        pass

    with pytest.raises(UserError, match="there is a shape 'square' already"):
        registry.register(TABLE, "shape")(square)
    assert registry.register(TABLE, "shape")(TABLE["square"]) is TABLE["square"]
