"""What schemathesis is told of Daybook: its scalars, ids of things that exist, and what counts as a fault of the server."""

import atexit
import itertools
import json
import os
import re
import uuid

import graphql
import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes
from schemathesis.graphql.checks import GraphQLClientError, GraphQLServerError

with open(os.environ["JUDGE_KNOWN"], encoding="utf-8") as file:
    KNOWN = json.load(file)

# Mostly of what exists: a random id is turned away at the first look-up.
ids = st.sampled_from(KNOWN["ids"]) | st.uuids().map(str)
positions = st.sampled_from(KNOWN["positions"]) | st.text(max_size=40)
moments = st.datetimes(timezones=st.just(None)).map(lambda at: at.isoformat() + "Z") | st.sampled_from(
    ["2026-01-01T00:00:00Z", "2099-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z"]
)
numbers = st.integers(-(2**63), 2**63 - 1).map(str) | st.sampled_from(["0", "1", "-1", "9223372036854775808", "x", ""])
simple = st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(max_size=10)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
values = st.recursive(
    simple, lambda of: st.lists(of, max_size=3) | st.dictionaries(names, of, max_size=3), max_leaves=6
)


def node(value):
    """A value of the user's own shape, as the document has it."""
    match value:
        case None:
            return graphql.NullValueNode()
        case bool():
            return nodes.Boolean(value)
        case int():
            return nodes.Int(value)
        case str():
            return nodes.String(value)
        case list():
            return graphql.ListValueNode(values=tuple(node(of) for of in value))
        case dict():
            fields = (
                graphql.ObjectFieldNode(name=graphql.NameNode(value=name), value=node(of)) for name, of in value.items()
            )
            return graphql.ObjectValueNode(fields=tuple(fields))


schemathesis.graphql.scalar("UUID", ids.map(nodes.String))
schemathesis.graphql.scalar("Position", positions.map(nodes.String))
schemathesis.graphql.scalar("DateTime", moments.map(nodes.String))
schemathesis.graphql.scalar("BigInt", numbers.map(nodes.String))
schemathesis.graphql.scalar("JSON", values.map(node))



@schemathesis.auth()
class Bearer:
    """Not a header of the command line: that one would also be sent where a check leaves the credential out."""

    def get(self, case, context):
        return os.environ["JUDGE_TOKEN"]

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


# Codes that say: it is the server's fault.
FAULTS = {"INTERNAL", "UNAVAILABLE", "UNKNOWN_OUTCOME", "STALE"}
REFUSALS = {"UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND", "BAD_USER_INPUT", "CONFLICT", "RATE_LIMITED", "LIMIT_EXCEEDED"}
# Words of libraries and of the machine, which no answer may have.
LEAKS = re.compile(r"panicked|sqlx|SQLSTATE|relation \"|\.rs:\d|/rustc/|RUST_BACKTRACE|postgres(?:ql)?://")


def graphql_errors(response):
    if "json" not in response.headers.get("content-type", [""])[0]:
        return []
    answer = response.json()
    return (answer.get("errors") or []) if isinstance(answer, dict) else []


@schemathesis.check
def no_fault(ctx, response, case):
    """No 5xx, no GraphQL error that is the server's, none without a code, nothing of the inside."""
    assert response.status_code < 500 or case.path == "/health/ready", f"{response.status_code}: {response.text[:500]}"
    kind = response.headers.get("content-type", [""])[0]
    if "html" in kind or "javascript" in kind or "css" in kind:
        return
    leak = LEAKS.search(response.text)
    assert leak is None, f"the answer tells of the inside: {leak.group(0)}"
    for error in graphql_errors(response):
        code = error.get("extensions", {}).get("code")
        assert code not in FAULTS, f"{code}: {error['message']}"
        assert code in REFUSALS, f"a code that API clients do not know: {error}"


# Ids of commands come from the same scalar as ids of things, and one that was used would hide what the command does.
COMMAND = re.compile(r'clientMutationId: "[^"]*"')
_calls = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    number = next(_calls)
    if isinstance(case.body, str) and number % 10:
        fresh = uuid.uuid5(uuid.NAMESPACE_OID, f"{os.environ['JUDGE_RUN']} {number}")
        case.body = COMMAND.sub(f'clientMutationId: "{fresh}"', case.body)
    tenant = case.headers.get("X-Tenant-ID")
    # Any other tenant than the caller's is refused: once in a while is enough.
    if number % 10 and tenant is not None and re.fullmatch(r"[0-9a-f-]{36}", str(tenant)):
        case.headers["X-Tenant-ID"] = KNOWN["tenant"]


NUMBER = re.compile(r'(?<![\w."])-?\d+')


def is_no_int(text):
    return not -(2**31) <= int(text) < 2**31


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops what is right here, and what `no_fault` judges better."""
    # Any GraphQL error at all: which one it may be is up to `no_fault`.
    if isinstance(failure, (GraphQLServerError, GraphQLClientError)):
        return False
    # A number that `Int` does not hold is refused where the argument is read, and not if nothing reads it: the library's
    # validation takes any whole number.
    if failure.code == "ST201" and isinstance(case.body, str) and any(is_no_int(text) for text in NUMBER.findall(case.body)):
        return False
    # Nothing is there for whoever is no node, whatever the method.
    return not (case.path == "/internal/append" and response.status_code == 404)


_counts = {}


@schemathesis.hook
def after_call(context, case, response):
    codes = sorted({error["extensions"]["code"] for error in graphql_errors(response) if "extensions" in error})
    told = " ".join([str(response.status_code), *codes])
    _counts[told] = _counts.get(told, 0) + 1


@atexit.register
def tell():
    """How many requests were answered, and with what."""
    with open(os.environ["JUDGE_COUNTS"], "w", encoding="utf-8") as out:
        json.dump(_counts, out)
