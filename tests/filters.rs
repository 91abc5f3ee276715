//! Filters of lists as a client meets them, over HTTP against a running `daybook serve`.

mod support;

use serde_json::{Value, json};
use support::Server;

struct Scene {
    server: Server,
    http: reqwest::Client,
    tenant: Value,
}

const LIST: &str = "query($t: UUID!, $f: DeviceFilter, $n: Int, $a: String) {
    devices(tenant: $t, filter: $f, first: $n, after: $a, orderBy: { field: NAME }) {
        totalCount pageInfo { hasNextPage endCursor } nodes { name } } }";

impl Scene {
    /// Two tenants with devices of the same names.
    async fn new() -> Self {
        let server = Server::start(&[]).await;
        let mut scene = Scene { server, http: reqwest::Client::new(), tenant: Value::Null };
        for tenant in ["Bell", "Acme"] {
            let register = "mutation($n: String!) { registerTenant(input: { name: $n }) { tenant { id } } }";
            let registered = scene.data(register, json!({ "n": tenant })).await;
            scene.tenant = registered["registerTenant"]["tenant"]["id"].clone();
            for (name, kind, serial) in [
                ("Roof, south", "PV", Some("SN 1")),
                ("Roof, north", "PV", Some("sn 2")),
                ("Mill 100%", "WIND", None),
                ("Mill_2", "WIND", Some("XY")),
                ("Test", "METER", None),
            ] {
                let register =
                    "mutation($i: RegisterDeviceInput!) { registerDevice(input: $i) { device { id } userErrors {
                    message } } }";
                let input = json!({ "tenant": scene.tenant, "name": name, "kind": kind, "serial": serial,
                    "site": { "name": "Mill Lane", "timeZone": "Europe/Berlin" }, "resolutionS": 900,
                    "direction": "NET", "maxPowerW": "40000" });
                let payload = scene.data(register, json!({ "i": input })).await;
                assert_eq!(payload["registerDevice"]["userErrors"], json!([]));
            }
        }
        scene
    }

    async fn ask(&self, query: &str, variables: Value) -> Value {
        let request = self.http.post(self.server.graphql_url()).bearer_auth(self.server.token());
        let body = json!({ "query": query, "variables": variables });
        request.json(&body).send().await.unwrap().json().await.unwrap()
    }

    async fn data(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].take()
    }

    /// Names of the devices that fit, read two at a time; the count agrees.
    async fn names(&self, filter: Value) -> Vec<String> {
        let (mut names, mut after) = (Vec::new(), Value::Null);
        loop {
            let variables = json!({ "t": self.tenant, "f": filter, "n": 2, "a": after });
            let page = self.data(LIST, variables).await["devices"].take();
            let nodes = page["nodes"].as_array().unwrap();
            names.extend(nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()));
            if page["pageInfo"]["hasNextPage"] == false {
                assert_eq!(page["totalCount"], json!(names.len().to_string()), "{filter}");
                return names;
            }
            after = page["pageInfo"]["endCursor"].clone();
        }
    }

    /// Code, path and message of the error that a filter of devices is answered with.
    async fn refusal(&self, filter: &Value) -> (String, Value, String) {
        let answer = self.ask(LIST, json!({ "t": self.tenant, "f": filter })).await;
        let error = &answer["errors"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&error["extensions"]["code"]), error["extensions"]["path"].clone(), text(&error["message"]))
    }
}

#[tokio::test]
async fn lists_are_filtered_by_every_operator() {
    let scene = Scene::new().await;
    let all = ["Mill 100%", "Mill_2", "Roof, north", "Roof, south", "Test"];
    let (north, south) = ("Roof, north", "Roof, south");
    for (filter, expected) in [
        (json!(null), &all[..]),
        (json!({}), &all[..]),
        (json!({ "kind": null }), &all[..]),
        (json!({ "kind": { "eq": "PV" } }), &[north, south]),
        (json!({ "kind": { "ne": "PV" } }), &["Mill 100%", "Mill_2", "Test"]),
        (json!({ "kind": { "in": ["PV", "METER"] } }), &[north, south, "Test"]),
        (json!({ "kind": { "in": "PV" } }), &[north, south]),
        (json!({ "kind": { "notIn": ["PV", "METER"] } }), &["Mill 100%", "Mill_2"]),
        (json!({ "kind": { "in": [] } }), &[]),
        (json!({ "kind": { "notIn": [] } }), &all[..]),
        // A bare value, as it was once.
        (json!({ "kind": "PV", "serial": "sn1" }), &[south]),
        (json!({ "name": { "eq": "ROOF, SOUTH" } }), &[south]),
        (json!({ "name": { "startsWith": "roof" } }), &[north, south]),
        (json!({ "name": { "startsWith": "roof%" } }), &[]),
        (json!({ "name": { "like": "%o%th" } }), &[north, south]),
        (json!({ "name": { "like": "mill_2" } }), &["Mill_2"]),
        (json!({ "name": { "like": "mill_100\\%" } }), &["Mill 100%"]),
        (json!({ "name": { "like": "mill%" } }), &["Mill 100%", "Mill_2"]),
        (json!({ "name": { "gte": "Mill_2", "lt": "Roof, s" } }), &["Mill_2", north]),
        (json!({ "name": { "gt": "Roof, south" } }), &["Test"]),
        (json!({ "name": { "lte": "mill 100%" } }), &["Mill 100%"]),
        // What is absent is not equal to anything.
        (json!({ "serial": { "ne": "SN 1" } }), &["Mill 100%", "Mill_2", north, "Test"]),
        (json!({ "serial": { "notIn": ["SN 1", "sn2"] } }), &["Mill 100%", "Mill_2", "Test"]),
        (json!({ "serial": { "isNull": true } }), &["Mill 100%", "Test"]),
        (json!({ "serial": { "isNull": false } }), &["Mill_2", north, south]),
        (json!({ "serial": { "startsWith": "s N" } }), &[north, south]),
        (json!({ "not": { "serial": { "startsWith": "sn" } } }), &["Mill 100%", "Mill_2", "Test"]),
        (json!({ "or": [{ "kind": { "eq": "METER" } }, { "serial": { "eq": "xy" } }] }), &["Mill_2", "Test"]),
        (json!({ "and": [{ "kind": { "eq": "PV" } }, { "not": { "name": { "like": "%north" } } }] }), &[south]),
        (
            json!({ "kind": { "eq": "PV" }, "or": [{ "name": { "like": "%north" } }, { "kind": { "eq": "WIND" } }] }),
            &[north],
        ),
        (json!({ "or": [] }), &[]),
        (json!({ "and": [] }), &all[..]),
        (json!({ "not": { "or": [] } }), &all[..]),
        (json!({ "status": { "eq": "ACTIVE" }, "registeredAt": { "gte": "2020-01-01T00:00:00Z" } }), &all[..]),
        (json!({ "registeredAt": { "lt": "2020-01-01T00:00:00+01:00" } }), &[]),
    ] {
        assert_eq!(scene.names(filter.clone()).await, expected, "{filter}");
    }

    // Written out in the query, and of the other lists.
    let lists = "query($t: UUID!) {
        devices(tenant: $t, filter: { kind: PV, not: { name: { startsWith: \"roof, n\" } } }) { nodes { name } }
        tenants(filter: { name: { startsWith: \"AC\" }, plan: { in: [FREE] }, domain: { isNull: true } }) {
            totalCount nodes { name } }
        auditTrail(tenant: $t, filter: { eventType: { startsWith: \"energy.\" }, ordinal: { gt: \"5\" } }) {
            nodes { eventType ordinal } }
        old: auditTrail(tenant: $t, filter: { subjectType: \"tenant\" }) { nodes { eventType } }
        deniedAttempts(tenant: $t, filter: { kind: { in: [READ, COMMAND] } }) { nodes { kind } }
        accounts(filter: { or: [{ email: { startsWith: \"x\" } }, { name: { isNull: true } }] }) { totalCount }
        members(tenant: $t, filter: { status: { ne: ACTIVE } }) { totalCount }
        modules(tenant: $t, filter: { key: { like: \"bess-%\" } }) { totalCount }
        grants(tenant: $t, filter: { until: { isNull: true }, allowedNow: { ne: true } }) { totalCount } }";
    let found = scene.data(lists, json!({ "t": scene.tenant })).await;
    assert_eq!(found["devices"]["nodes"], json!([{ "name": "Roof, south" }]));
    assert_eq!(found["tenants"], json!({ "totalCount": "1", "nodes": [{ "name": "Acme" }] }));
    assert_eq!(found["auditTrail"]["nodes"], json!([{ "eventType": "energy.device.registered", "ordinal": "6" }]));
    assert_eq!(found["old"]["nodes"], json!([{ "eventType": "platform.tenant.registered" }]));
    for list in ["accounts", "members", "modules", "grants"] {
        assert_eq!(found[list], json!({ "totalCount": "0" }), "{list}");
    }
}

/// `levels` objects inside each other.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!({ "kind": { "eq": "PV" } }), |inner, _| json!({ "not": inner }))
}

#[tokio::test]
async fn a_filter_that_cannot_be_is_refused_by_its_place() {
    let scene = Scene::new().await;
    let many = |count: usize| json!({ "or": vec![json!({ "name": { "eq": "a" } }); count] });
    let path = |steps: &[&str]| json!(steps);
    for (filter, place, part) in [
        (json!({ "kind": { "eq": null } }), path(&["filter", "kind", "eq"]), "filter.kind.eq is null: leave it out"),
        (
            json!({ "or": [{ "kind": { "eq": "PV" } }, { "name": { "in": vec!["a"; 201] } }] }),
            path(&["filter", "or", "1", "name", "in"]),
            "filter.or[1].name.in has 201 values: at most 200 are allowed",
        ),
        (
            json!({ "name": { "startsWith": "x".repeat(301) } }),
            path(&["filter", "name", "startsWith"]),
            "filter.name.startsWith has 301 characters: at most 300 are allowed",
        ),
        (json!({ "kind": {} }), path(&["filter", "kind"]), "filter.kind asks nothing: give a condition"),
        (json!({ "or": [{ "kind": null }] }), path(&["filter", "or", "0"]), "filter.or[0] asks nothing"),
        (json!({ "not": {} }), path(&["filter", "not"]), "filter.not asks nothing"),
        (
            json!({ "id": { "eq": "seven" } }),
            path(&["filter", "id"]),
            "filter.id cannot be read: Failed to parse \"UUID\"",
        ),
        (
            json!({ "or": [{ "registeredAt": { "lt": "soon" } }] }),
            path(&["filter", "or", "0", "registeredAt"]),
            "filter.or[0].registeredAt cannot be read: Failed to parse \"DateTime\"",
        ),
        (json!({ "and": vec![json!({}); 300_000] }), path(&["filter", "and", "0"]), "filter.and[0] asks nothing"),
        (json!({ "name": { "eq": "" } }), path(&["filter", "name", "eq"]), "filter.name.eq is empty: give 1 to 300"),
        (
            json!({ "name": { "in": ["a\u{0}"] } }),
            path(&["filter", "name", "in"]),
            "filter.name.in has a control character",
        ),
        (
            json!({ "name": { "like": "a\\" } }),
            path(&["filter", "name", "like"]),
            "filter.name.like ends in a lone backslash",
        ),
        (
            json!({ "and": [{ "registeredAt": { "lt": "+12000-01-01T00:00:00Z" } }] }),
            path(&["filter", "and", "0", "registeredAt", "lt"]),
            "filter.and[0].registeredAt.lt lies outside of the years 0 to 9999",
        ),
        (
            nested(7),
            path(&["filter", "not", "not", "not", "not", "not", "not", "not"]),
            "filter.not.not.not.not.not.not.not is more than 6 levels deep",
        ),
        (
            many(33),
            path(&["filter", "or", "32"]),
            "filter.or[32] is one condition too many: at most 64 are allowed in all",
        ),
    ] {
        let (code, at, message) = scene.refusal(&filter).await;
        assert_eq!((code.as_str(), at), ("BAD_USER_INPUT", place), "{message}");
        assert!(message.starts_with(part), "{message}");
    }
    for filter in [nested(6), many(32)] {
        let answer = scene.ask(LIST, json!({ "t": scene.tenant, "f": filter })).await;
        assert!(answer.get("errors").is_none(), "{answer}");
    }

    // A field without an index, an operator that does not fit, a value of another type: told by name.
    for (filter, names) in [
        (json!({ "siteName": { "eq": "Mill Lane" } }), &["siteName", "DeviceFilter"][..]),
        (json!({ "or": [{ "maxPowerW": { "gt": "1" } }] }), &["maxPowerW", "DeviceFilter"]),
        (json!({ "kind": { "like": "P%" } }), &["like", "DeviceKindFilter"]),
        (json!({ "kind": { "eq": "STEAM" } }), &["kind.eq", "STEAM"]),
    ] {
        let (code, _, message) = scene.refusal(&filter).await;
        assert_eq!(code, "BAD_USER_INPUT", "{message}");
        assert!(names.iter().all(|name| message.contains(name)), "{message}");
    }

    // A variable that was forgotten widens nothing.
    let query = "query($t: UUID!, $k: DeviceKind) { devices(tenant: $t, filter: { or: [{ kind: { eq: $k } }] }) { totalCount } }";
    for variables in [json!({ "t": scene.tenant }), json!({ "t": scene.tenant, "k": null })] {
        let refused = scene.ask(query, variables).await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{refused}");
    }

    // As deep as a query and a variable inside it may be together, and still only refused.
    let query = format!(
        "query($t: UUID!, $f: DeviceFilter!) {{ devices(tenant: $t, filter: {} $f {}) {{ nodes {{ id }} }} }}",
        "{ not: ".repeat(46),
        "}".repeat(46)
    );
    let refused = scene.ask(&query, json!({ "t": scene.tenant, "f": nested(48) })).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{refused}");
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("more than 6 levels deep"), "{refused}");

    // A variable counts wherever it stands.
    let query = format!(
        "query($t: UUID!, $f: DeviceFilter!) {{ devices(tenant: $t, filter: {{ and: [{}] }}) {{ nodes {{ id }} }} }}",
        "$f ".repeat(4_000)
    );
    let large = json!({ "name": { "in": vec!["x".repeat(10); 200] } });
    let refused = scene.ask(&query, json!({ "t": scene.tenant, "f": large })).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{refused}");
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("bytes of argument values"), "{refused}");
    let refused = scene.ask(LIST, json!({ "t": scene.tenant, "f": nested(60) })).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED", "{refused}");
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("brackets open at once"), "{refused}");
}

#[tokio::test]
async fn a_cursor_of_devices_is_good_for_its_filter_alone() {
    let scene = Scene::new().await;
    let page = |filter: Value, after: Value| json!({ "t": scene.tenant, "f": filter, "n": 1, "a": after });
    let first = scene.data(LIST, page(json!({ "kind": { "eq": "PV" } }), Value::Null)).await;
    let cursor = first["devices"]["pageInfo"]["endCursor"].clone();
    let next = scene.data(LIST, page(json!({ "kind": "PV" }), cursor.clone())).await;
    assert_eq!(next["devices"]["nodes"], json!([{ "name": "Roof, south" }]), "the same filter in another form");
    let refused = scene.ask(LIST, page(json!({ "kind": { "ne": "PV" } }), cursor)).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    assert!(refused["errors"][0]["message"].as_str().unwrap().starts_with("after cannot be used"), "{refused}");
}
