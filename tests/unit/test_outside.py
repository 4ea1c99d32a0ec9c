"""Names of tables and topics: the same from a project's words and from a span's attributes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sextant.kernel.errors import UsageError
from sextant.kernel.outside import Used, named, table_id, used

ORDERS = "table:postgres/shop/public.orders"


def of(*, gives: bool = False, takes: bool = False, **attributes: str) -> tuple[Used, ...]:
    return used(
        {name.replace("__", ".").encode(): value.encode() for name, value in attributes.items()},
        gives=gives,
        takes=takes,
    )


@pytest.mark.parametrize(
    ("url", "asset"),
    [
        ("postgres://shop/public.orders", ORDERS),
        ("postgres://shop/orders", ORDERS),
        ("postgresql://shop/public/orders", ORDERS),
        ("mysql://shop/orders", "table:mysql/shop/orders"),
        ("kafka://orders", "topic:kafka/orders"),
        ("kafka://cluster/orders", "topic:kafka/cluster/orders"),
    ],
)
def test_what_a_project_says(url: str, asset: str) -> None:
    """The project and the spans would name two tables."""
    assert named(url) == asset


@pytest.mark.parametrize(
    "attributes",
    [
        {"db__system__name": "postgresql", "db__namespace": "shop|public",
         "db__collection__name": "orders"},
        {"db__system__name": "postgresql", "db__namespace": "shop",
         "db__collection__name": "public.orders"},
        {"db__system": "postgresql", "db__name": "shop", "db__sql__table": "orders"},
        {"db__system": "postgresql", "db__name": "shop",
         "db__statement": 'SELECT * FROM "public"."orders" WHERE id = $1'},
        {"db__system__name": "postgresql", "db__namespace": "other",
         "db__query__text": "select 1 from shop.public.orders"},
    ],
)  # fmt: skip
def test_what_spans_say(attributes: dict[str, str]) -> None:
    """A convention of another year names another table."""
    assert of(**attributes) == (Used(ORDERS, False),)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("INSERT INTO orders (id) SELECT id FROM cart", {"orders": True, "cart": False}),
        ("UPDATE orders SET paid = true", {"orders": True}),
        ("delete from orders where id = 1", {"orders": True}),
        ("SELECT o.id FROM orders o JOIN items i ON i.o = o.id", {"orders": False, "items": False}),
        ("SELECT 1", {}),
        ("BEGIN", {}),
    ],
)
def test_what_a_query_reads_and_writes(text: str, found: dict[str, bool]) -> None:
    """Cause would travel from who reads to who writes."""
    seen = of(db__system__name="postgresql", db__namespace="shop", db__query__text=text)
    assert dict(seen) == {f"table:postgres/shop/public.{n}": w for n, w in found.items()}


def test_operations_and_topics() -> None:
    """Who only reads would be blamed for what is written."""
    table = {"db__system": "postgresql", "db__name": "shop", "db__sql__table": "orders"}
    assert of(**table, db__operation="INSERT") == (Used(ORDERS, True),)
    assert of(**table, db__operation="select") == (Used(ORDERS, False),)
    topic = {"messaging__system": "kafka", "messaging__destination__name": "orders"}
    assert of(**topic, gives=True) == (Used("topic:kafka/orders", True),)
    assert of(**topic, takes=True) == (Used("topic:kafka/orders", False),)
    assert of(**topic) == ()
    assert of(**topic, messaging__destination__temporary="true", gives=True) == ()


@pytest.mark.parametrize(
    "url",
    ["", "orders", "postgres://shop", "postgres://shop/a b", "https://shop/orders?x=1", "kafka://",
     "postgres://shop/a.b.c.d", "postgres://[/x", f"postgres://shop/{'a' * 200}"],
)  # fmt: skip
def test_what_names_nothing(url: str) -> None:
    """It would be an asset that nothing else is ever called."""
    with pytest.raises(UsageError) as refused:
        named(url)
    assert refused.value.code == "SX-PROJ-104"


def test_a_password_is_no_name() -> None:
    """A secret would stand in the graph, for everybody to read."""
    with pytest.raises(UsageError) as refused:
        named("postgres://ann:secret@shop/orders")
    assert refused.value.code == "SX-PROJ-103"
    assert "secret" not in str(refused.value)


@given(st.dictionaries(
    st.sampled_from([b"db.system", b"db.system.name", b"db.namespace", b"db.name",
                     b"db.collection.name", b"db.query.text", b"db.operation.name",
                     b"messaging.system", b"messaging.destination.name"]),
    st.one_of(st.binary(max_size=40), st.text(max_size=60).map(str.encode)),
), st.booleans())  # fmt: skip
def test_any_attributes(attributes: dict[bytes, bytes], gives: bool) -> None:
    """A sender's bytes would end the intake, or be an id that no command can name."""
    for one in used(attributes, gives=gives, takes=not gives):
        kind, _, name = one.asset.partition(":")
        assert kind in ("table", "topic")
        assert name.isprintable()
        assert " " not in name
        assert len(one.asset) <= 128


def test_odd_names() -> None:
    """A name with an id in it that no command can say would stand in the graph."""
    assert table_id("postgresql", "", "orders") == ""
    assert table_id("postgresql", "shop", "or ders") == ""
    assert table_id("postgresql", "shop", "../../etc") == ""
