//! Readings as an integrator meets them: HTTP batches, GraphQL and a subscription against a running `daybook serve`.

mod support;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::Server;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

struct Site {
    server: Server,
    http: reqwest::Client,
    token: String,
    tenant: String,
}

const REGISTER: &str = "mutation($i: RegisterDeviceInput!) { registerDevice(input: $i) {
    device { id name serial kind status maxPowerW site { timeZone } } position deduplicated userErrors { path code } } }";

impl Site {
    async fn start() -> Self {
        let server = Server::start(&[]).await;
        let token = server.token();
        let mut site = Site { server, http: reqwest::Client::new(), token, tenant: String::new() };
        let register = "mutation { registerTenant(input: { name: \"Acme\" }) { tenant { id } } }";
        site.tenant =
            site.data(register, json!({})).await["registerTenant"]["tenant"]["id"].as_str().unwrap().to_owned();
        site
    }

    async fn ask(&self, query: &str, variables: Value) -> Value {
        let body = json!({ "query": query, "variables": variables });
        let request = self.http.post(self.server.graphql_url()).bearer_auth(&self.token).json(&body);
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn data(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(query, variables).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].take()
    }

    async fn device(&self, serial: &str) -> String {
        let input = json!({ "tenant": self.tenant, "name": format!("Meter {serial}"), "kind": "METER", "serial": serial,
            "site": { "name": "Mill Lane", "timeZone": "Europe/Berlin" }, "resolutionS": 900, "direction": "IMPORT",
            "maxPowerW": "40000" });
        let payload = self.data(REGISTER, json!({ "i": input })).await["registerDevice"].take();
        assert_eq!(payload["userErrors"], json!([]));
        payload["device"]["id"].as_str().unwrap().to_owned()
    }

    fn post(&self, media: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        let url = self.server.url(&format!("/v1/readings?tenant={}", self.tenant));
        self.http.post(url).bearer_auth(&self.token).header("content-type", media).body(body)
    }

    async fn csv(&self, rows: &str) -> Value {
        let response = self.post("text/csv", format!("device,time,value,unit\n{rows}")).send().await.unwrap();
        let (status, body) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The totals of a device, of the rows and of the hours.
    async fn totals(&self, device: &str, position: &str) -> (u64, i64, i64) {
        const SPAN: &str = "from: \"2000-01-01T00:00:00Z\", to: \"2100-01-01T00:00:00Z\"";
        let query = format!(
            "query($t: UUID!, $d: UUID!, $p: Position!, $a: String) {{ device(id: $d, tenant: $t) {{
                 readingTotals({SPAN}, atLeast: $p) {{ count energyWh }}
                 readings({SPAN}, resolution: HOUR, first: 200, after: $a) {{
                     nodes {{ energyWh count }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
        );
        let (mut hourly, mut counted, mut after) = (0, 0, Value::Null);
        loop {
            let variables = json!({ "t": self.tenant, "d": device, "p": position, "a": after });
            let device = self.data(&query, variables).await["device"].take();
            for hour in device["readings"]["nodes"].as_array().unwrap() {
                hourly += number(&hour["energyWh"]);
                counted += hour["count"].as_u64().unwrap();
            }
            if device["readings"]["pageInfo"]["hasNextPage"] == false {
                let count = number(&device["readingTotals"]["count"]).unsigned_abs();
                assert_eq!(count, counted);
                return (count, number(&device["readingTotals"]["energyWh"]), hourly);
            }
            after = device["readings"]["pageInfo"]["endCursor"].clone();
        }
    }
}

fn number(text: &Value) -> i64 {
    text.as_str().unwrap().parse().unwrap()
}

fn counts(report: &Value) -> (u64, u64, u64) {
    let count = |name: &str| report[name].as_u64().unwrap();
    (count("accepted"), count("duplicates"), count("rejected"))
}

fn codes(report: &Value) -> Vec<(u64, &str)> {
    let rejections = report["rejections"].as_array().unwrap();
    rejections.iter().map(|r| (r["index"].as_u64().unwrap(), r["code"].as_str().unwrap())).collect()
}

/// Quarter-hours from the beginning of 2016, as CSV without a header, and their sum.
fn quarters(device: &str, count: i64) -> (String, i64) {
    let (mut text, mut sum) = (String::new(), 0);
    for n in 0..count {
        let (day, quarter, wh) = (n / 96, n % 96, n * 7 % 1_000);
        let date = format!("2016-{:02}-{:02}", 1 + day / 28, 1 + day % 28);
        text.push_str(&format!("{device},{date}T{:02}:{:02}Z,{wh},Wh\n", quarter / 4, quarter % 4 * 15));
        sum += wh;
    }
    (text, sum)
}

#[tokio::test]
async fn both_read_models_hold_exactly_what_was_sent_also_after_a_restart() {
    let mut site = Site::start().await;
    let (one, other) = (site.device("M-1").await, site.device("M-2").await);
    let ((a, a_wh), (b, b_wh)) = (quarters("m-1", 96 * 60), quarters(&other, 96 * 60));
    let report = site.csv(&format!("{a}{b}")).await;
    assert_eq!(counts(&report), (2 * 96 * 60, 0, 0));
    let position = report["position"].as_str().unwrap().to_owned();
    for (device, wh) in [(&one, a_wh), (&other, b_wh)] {
        assert_eq!(site.totals(device, &position).await, (96 * 60, wh, wh));
    }
    // All devices of a list at once, each with its own; one that has none among them.
    site.device("M-3").await;
    const SPAN: &str = "from: \"2016-01-01T00:00:00Z\", to: \"2016-01-02T00:00:00Z\"";
    let query = format!(
        "query($t: UUID!) {{ devices(tenant: $t, orderBy: {{ field: NAME }}) {{ nodes {{ id readingTotals({SPAN}) {{ count }}
             readings({SPAN}, last: 2) {{ nodes {{ energyWh }} pageInfo {{ hasPreviousPage }} }} }} }} }}"
    );
    let nested = site.data(&query, json!({ "t": site.tenant })).await["devices"]["nodes"].take();
    let day = |id: &str| {
        json!({ "id": id, "readingTotals": { "count": "96" }, "readings": {
        "nodes": [{ "energyWh": "658" }, { "energyWh": "665" }], "pageInfo": { "hasPreviousPage": true } } })
    };
    assert_eq!((&nested[0], &nested[1]), (&day(&one), &day(&other)));
    assert_eq!((&nested[2]["readingTotals"]["count"], &nested[2]["readings"]["nodes"]), (&json!("0"), &json!([])));
    site.server.kill_daybook();
    site.server.start_again().await;
    assert_eq!(counts(&site.csv(&format!("{a}{b}")).await), (0, 2 * 96 * 60, 0));
    for (device, wh) in [(&one, a_wh), (&other, b_wh)] {
        assert_eq!(site.totals(device, &position).await, (96 * 60, wh, wh));
    }
    site.server.stop().await;
    assert!(site.server.verify().await);
}

#[tokio::test]
async fn every_format_says_the_same_and_a_repeated_call_resumes() {
    let site = Site::start().await;
    let device = site.device("M-1").await;
    let row =
        |time: &str, value: Value, unit: &str| json!({ "device": "M-1", "time": time, "value": value, "unit": unit });
    let rows = [
        row("2016-01-01T00:00Z", json!(250), "Wh"),
        row("2016-01-01T01:15+01:00", json!("0.25"), "kWh"),
        row("2016-01-01T00:30:00Z", json!("1e3"), "Wh"),
    ];
    let csv = "unit, Time ,quality,device,value\r\nWh,2016-01-01T00:00Z,,M-1,250\r\n\
               kWh,2016-01-01T01:15+01:00,,\"M-1\",0.25\r\nWh,2016-01-01T00:30:00Z,MEASURED,M-1,1e3";
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    let bodies = [
        ("application/json", json!(rows).to_string()),
        ("application/x-ndjson", format!("{}\n\n", lines.join("\n"))),
        ("text/csv; charset=utf-8", csv.to_owned()),
        // With a mark of the encoding, as spreadsheets write it.
        ("text/csv", format!("\u{feff}{csv}\r\n")),
    ];
    for (n, (media, body)) in bodies.into_iter().enumerate() {
        let response = site.post(media, body).header("idempotency-key", "june-1").send().await.unwrap();
        let position = response.headers().get("daybook-position").map(|p| p.to_str().unwrap().to_owned());
        let report: Value = response.json().await.unwrap();
        assert_eq!(counts(&report), if n == 0 { (3, 0, 0) } else { (0, 3, 0) }, "{media} {report}");
        assert_eq!(report["deduplicated"], n > 0);
        assert_eq!(report["position"].as_str(), position.as_deref());
        assert!(position.is_some());
    }
    let other = site.post("text/csv", "device,time,value,unit\nM-1,2016-01-02T00:00Z,1,Wh");
    let other = other.header("idempotency-key", "june-1").send().await.unwrap();
    assert_eq!(other.status(), 409);
    let problem: Value = other.json().await.unwrap();
    assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some("CONFLICT"), Some(409)));
    let position = site.csv(&format!("{device},2016-01-02T00:00Z,1,Wh")).await["position"].take();
    assert_eq!(site.totals(&device, position.as_str().unwrap()).await, (4, 1501, 1501));
}

#[tokio::test]
async fn every_bad_row_is_named_with_its_reason_and_the_others_are_recorded() {
    let site = Site::start().await;
    site.device("M-1").await;
    let cases = [
        ("M-1,2016-01-01T00:00Z,10,Wh", None),
        ("M-1,2016-01-01T00:15Z,NaN,Wh", Some("ENERGY_NOT_A_NUMBER")),
        ("M-1,2016-01-01T00:15Z,inf,Wh", Some("ENERGY_NOT_A_NUMBER")),
        ("M-1,2016-01-01T00:15Z,,Wh", Some("ENERGY_EMPTY")),
        ("M-1,2016-01-01T00:15Z,\"1,5\",kWh", Some("ENERGY_MALFORMED")),
        ("M-1,2016-01-01T00:15Z,0.5,Wh", Some("ENERGY_TOO_PRECISE")),
        ("M-1,2016-01-01T00:15Z,1e300,Wh", Some("ENERGY_OUT_OF_RANGE")),
        ("M-1,2016-01-01T00:15Z,10001,Wh", Some("READING_ABSURD")),
        ("M-1,2016-01-01T00:15Z,-1,Wh", Some("READING_NEGATIVE")),
        ("M-1,2016-01-01T00:15Z,1,kW", Some("ENERGY_UNKNOWN_UNIT")),
        ("M-1,2016-01-01T00:15Z,1,mWh", Some("ENERGY_UNKNOWN_UNIT")),
        ("M-1,2016-01-01T00:15Z,1,", Some("ROW_INCOMPLETE")),
        ("M-1,9999-01-01T00:00Z,1,Wh", Some("READING_IN_FUTURE")),
        ("M-1,1970-01-01T00:00Z,1,Wh", Some("READING_TOO_OLD")),
        ("M-1,2016-01-01T00:07Z,1,Wh", Some("READING_MISALIGNED")),
        ("M-1,01/02/2016 00:15,1,Wh", Some("TIME_MALFORMED")),
        ("M-1,2016-03-27T02:15,1,Wh", Some("LOCAL_TIME_IN_GAP")),
        ("M-9,2016-01-01T00:15Z,1,Wh", Some("DEVICE_UNKNOWN")),
        ("M-1,2016-01-01T00:15Z,1", Some("ROW_MALFORMED")),
        ("M-1,2016-01-01T00:15Z,1,Wh,MEASURED", Some("ROW_MALFORMED")),
        ("M-1,2016-01-01T00:00Z,11,Wh", Some("READING_CONFLICT")),
        ("M-1,2016-01-01T00:15Z,20,Wh", None),
    ];
    let rows: Vec<&str> = cases.iter().map(|(row, _)| *row).collect();
    let expected: Vec<(u64, &str)> = (0..).zip(&cases).filter_map(|(n, (_, code))| Some((n, (*code)?))).collect();
    let report = site.csv(&rows.join("\n")).await;
    assert_eq!(counts(&report), (2, 0, expected.len() as u64));
    assert_eq!(codes(&report), expected);
    let texts = report["rejections"].as_array().unwrap().iter().all(|r| r["message"].as_str().unwrap().len() > 20);
    assert!(texts && report["truncated"] == false);

    let elements = [
        r#"{"device":"M-1","time":"2016-01-02T00:00Z","value":1,"unit":"Wh"}"#,
        r#"{"device":"M-1","time":"2016-01-02T00:15Z","value":NaN,"unit":"Wh"}"#,
        r#"{"device":"M-1","time":"2016-01-02T00:15Z","value":true,"unit":"Wh"}"#,
        r#"{"device":"M-1","time":"2016-01-02T00:15Z","unit":"Wh"}"#,
        r#"{"device":"M-1","time":"2016-01-02T00:15Z","value":1,"unit":"Wh","colour":"red"}"#,
        r#"{"device":"M-1","time":1451692800,"value":1,"unit":"Wh"}"#,
        r#"["a,b]", "}"]"#,
        "7",
        r#"{"device":"M-1","time":"2016-01-02T00:15Z","value":0.1e4,"unit":"Wh","quality":"GUESSED"}"#,
        r#"{"device":"M-1","time":"2016-01-02T00:15Z","value":0.1e4,"unit":"Wh","quality":"ESTIMATED"}"#,
    ];
    let expected = [
        (1, "ROW_MALFORMED"),
        (2, "ENERGY_MALFORMED"),
        (3, "ROW_INCOMPLETE"),
        (4, "ROW_MALFORMED"),
        (5, "ROW_MALFORMED"),
        (6, "ROW_MALFORMED"),
        (7, "ROW_MALFORMED"),
        (8, "UNKNOWN_VALUE"),
    ];
    let lines = elements.join("\n");
    let array = format!(" [ {} ] \n", elements.join(" ,\n "));
    for (n, (media, body)) in [("application/x-ndjson", lines), ("application/json", array)].into_iter().enumerate() {
        let report: Value = site.post(media, body).send().await.unwrap().json().await.unwrap();
        assert_eq!(counts(&report), if n == 0 { (2, 0, 8) } else { (0, 2, 8) }, "{media} {report}");
        assert_eq!(codes(&report), expected, "{media}");
    }
    let many = "M-9,2016-01-01T00:15Z,1,Wh\n".repeat(1_500);
    let report = site.csv(&many).await;
    assert_eq!((counts(&report), codes(&report).len()), ((0, 0, 1_500), 1_000));
    assert_eq!((report["truncated"].as_bool(), report["position"].is_null()), (Some(true), true));
}

#[tokio::test]
async fn a_call_that_cannot_go_on_says_why_and_what_was_recorded() {
    let site = Site::start().await;
    site.device("M-1").await;
    let row = |n: u32| format!(r#"{{"device":"M-1","time":"2016-01-{n:02}T00:00Z","value":1,"unit":"Wh"}}"#);
    let long = "x".repeat(5_000);
    let header = "device,time,value,unit\n";
    let cases: Vec<(&str, String, u16, &str, u64)> = vec![
        ("application/json", String::new(), 400, "empty", 0),
        ("application/json", "{}".into(), 400, "not a JSON array", 0),
        ("application/json", format!("[{}", row(1)), 400, "ends before its `]`", 0),
        ("application/json", format!("[{}, {}", row(1), row(2)), 400, "row 1", 1),
        ("application/json", format!("[{},,]", row(2)), 400, "nothing where row 1", 1),
        ("application/json", format!("[{}] x", row(3)), 400, "follows the end", 1),
        ("application/json", format!("[{}, \"{long}\"]", row(4)), 400, "longer than 4096 bytes", 1),
        ("application/x-ndjson", format!("{}\n{long}\n", row(5)), 400, "row 1 is longer", 1),
        ("text/csv", String::new(), 400, "empty", 0),
        ("text/csv", "device,time,value\n".into(), 400, "column unit is missing", 0),
        ("text/csv", "device;time;value;unit\n".into(), 400, "separated by commas", 0),
        ("text/csv", "device,time,value,unit,unit\n".into(), 400, "column unit is there twice", 0),
        ("text/csv", format!("{header}M-1,2016-01-06T00:00Z,1,Wh\n{long},x,1,Wh"), 400, "row 1 is longer", 1),
        ("text/csv", format!("{header}M-1,2016-01-07T00:00Z,1,Wh\n\"{long}"), 400, "row 1 is longer", 1),
        ("text/plain", "x".into(), 415, "text/csv", 0),
        ("text/csv; charset=latin1", header.into(), 415, "UTF-8", 0),
    ];
    for (media, body, status, part, accepted) in cases {
        let response = site.post(media, body.clone()).send().await.unwrap();
        assert_eq!(response.status(), status, "{media} {body:.80}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(part), "{part}: {problem}");
        assert_eq!(problem["recorded"]["accepted"].as_u64().unwrap_or(0), accepted, "{problem}");
        assert!(problem["correlationId"].is_string());
    }

    let ok = format!("{header}M-1,2016-02-01T00:00Z,1,Wh");
    let url = |query: &str| site.server.url(&format!("/v1/readings{query}"));
    let post = |url: String| site.http.post(url).header("content-type", "text/csv").body(ok.clone());
    let unknown = format!("?tenant={}", uuid::Uuid::nil());
    for (request, status, code) in [
        (post(url("")), 401, "UNAUTHENTICATED"),
        (post(url("")).bearer_auth("forged-forged-forged-forged"), 401, "UNAUTHENTICATED"),
        (post(url(&unknown)).bearer_auth(&site.token), 404, "NOT_FOUND"),
        (post(url("?tenant=acme")).bearer_auth(&site.token), 400, "BAD_USER_INPUT"),
        (post(url("?tenent=acme")).bearer_auth(&site.token), 400, "BAD_USER_INPUT"),
        (site.http.get(url("")).bearer_auth(&site.token), 405, "BAD_USER_INPUT"),
        (site.post("text/csv", ok.clone()).header("content-encoding", "gzip"), 415, "BAD_USER_INPUT"),
        (site.post("text/csv", ok.clone()).header("idempotency-key", "x".repeat(300)), 400, "BAD_USER_INPUT"),
        (site.post("text/csv", vec![b'x'; (64 << 20) + 1]), 413, "LIMIT_EXCEEDED"),
        (site.post("application/x-ndjson", "{}\n".repeat(1_000_001)), 413, "LIMIT_EXCEEDED"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{code}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], code, "{problem}");
    }
    assert_eq!(counts(&site.csv("M-1,2016-02-01T00:00Z,1,Wh").await), (1, 0, 0), "nothing of it was recorded before");
}

#[tokio::test]
async fn who_may_only_look_records_nothing_and_sees_only_the_own_tenant() {
    let (home, foreign) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    let token = |secret: &str, role: &str| {
        format!(
            "[[tokens]]\ntoken = \"{secret}\"\nactor = \"{}\"\ntenant = \"{home}\"\nroles = [\"{role}\"]\n",
            uuid::Uuid::from_u128(9)
        )
    };
    let viewer = "viewer-viewer-viewer-viewer";
    let server = Server::start_configured(&token(viewer, "viewer")).await;
    let http = reqwest::Client::new();
    let row = "device,time,value,unit\nM-1,2016-01-01T00:00Z,1,Wh";
    for tenant in [home, foreign] {
        let url = server.url(&format!("/v1/readings?tenant={tenant}"));
        let request = http.post(url).bearer_auth(viewer).header("content-type", "text/csv").body(row);
        assert_eq!(request.send().await.unwrap().status(), 403);
        let query = "query($t: UUID) { devices(tenant: $t) { nodes { id } } }";
        let body = json!({ "query": query, "variables": { "t": tenant } });
        let answer = http.post(server.graphql_url()).bearer_auth(viewer).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        match tenant == home {
            true => assert_eq!(answer["data"]["devices"]["nodes"], json!([]), "{answer}"),
            false => assert_eq!(answer["errors"][0]["extensions"]["code"], "FORBIDDEN", "{answer}"),
        }
    }
}

#[tokio::test]
async fn a_day_with_a_repeated_hour_is_shown_on_the_clocks_of_its_site() {
    let site = Site::start().await;
    let device = site.device("M-1").await;
    let times = ["01:45", "02:00", "02:15", "02:30", "02:45", "02:00", "02:15", "02:30", "02:45", "03:00"];
    let rows: Vec<String> = (1..).zip(times).map(|(wh, at)| format!("M-1,30.10.2016 {at},{wh},Wh")).collect();
    let report = site.csv(&rows.join("\n")).await;
    assert_eq!(counts(&report), (10, 0, 0));
    let query = "query($t: UUID!, $d: UUID!, $p: Position!, $r: ReadingResolution!, $n: Int!) { device(id: $d, tenant: $t) {
        readings(from: \"2016-10-30T00:00:00+02:00\", to: \"2016-10-31T00:00:00+01:00\", resolution: $r, first: $n, atLeast: $p) {
            nodes { start localStart energyWh quality count } } } }";
    let read = async |resolution: &str, first: u32| {
        let variables = json!({ "t": site.tenant, "d": device, "p": report["position"], "r": resolution, "n": first });
        site.data(query, variables).await["device"]["readings"]["nodes"].take()
    };
    let raw = read("RAW", 200).await;
    let local: Vec<&str> = raw.as_array().unwrap().iter().map(|r| r["localStart"].as_str().unwrap()).collect();
    assert_eq!((local[1], local[5]), ("2016-10-30T02:00:00+02:00", "2016-10-30T02:00:00+01:00"));
    assert_eq!((local.len(), raw[5]["start"].as_str()), (10, Some("2016-10-30T01:00:00+00:00")));
    assert_eq!((raw[0]["quality"].as_str(), raw[9]["energyWh"].as_str()), (Some("MEASURED"), Some("10")));
    let hours = read("HOUR", 200).await;
    let hours: Vec<(i64, u64)> =
        hours.as_array().unwrap().iter().map(|h| (number(&h["energyWh"]), h["count"].as_u64().unwrap())).collect();
    assert_eq!(hours, [(1, 1), (2 + 3 + 4 + 5, 4), (6 + 7 + 8 + 9, 4), (10, 1)]);
    assert_eq!(read("HOUR", 2).await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_device_is_registered_changed_found_and_taken_out_of_service() {
    let site = Site::start().await;
    let device = site.device("SN 7").await;
    site.device("SN 8").await;
    let taken = json!({ "tenant": site.tenant, "name": "Copy", "kind": "PV", "serial": "sn7",
        "site": { "name": "Barn", "timeZone": "Europe/Lisbon" }, "resolutionS": 900, "direction": "EXPORT", "maxPowerW": "1" });
    let refused = site.data(REGISTER, json!({ "i": taken })).await["registerDevice"].take();
    assert_eq!(refused["userErrors"], json!([{ "path": ["input", "serial"], "code": "TAKEN" }]));
    let mut wrong = taken.clone();
    wrong["site"]["timeZone"] = json!("Mars/Olympus");
    let refused = site.data(REGISTER, json!({ "i": wrong })).await["registerDevice"].take();
    assert_eq!(refused["userErrors"][0]["path"], json!(["input", "site", "timeZone"]));
    let mut nowhere = taken.clone();
    nowhere["tenant"] = json!(uuid::Uuid::nil());
    let answer = site.ask(REGISTER, json!({ "i": nowhere })).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "NOT_FOUND", "{answer}");

    let change = "mutation($t: UUID!, $d: UUID!) {
        renameDevice(input: { tenant: $t, id: $d, name: \"Zulu\" }) { device { name version } userErrors { code } }
        changeDeviceSite(input: { tenant: $t, id: $d, site: { name: \"Barn\", timeZone: \"Europe/Lisbon\" } })
            { device { site { name timeZone } } userErrors { code } }
        changeDeviceMaxPower(input: { tenant: $t, id: $d, maxPowerW: \"8000\" }) { device { maxPowerW } userErrors { code } }
        decommissionDevice(input: { tenant: $t, id: $d, reason: \"broken\" }) { device { status reason } userErrors { code } } }";
    let changed = site.data(change, json!({ "t": site.tenant, "d": device })).await;
    assert_eq!(changed["renameDevice"]["device"], json!({ "name": "Zulu", "version": "2" }));
    assert_eq!(changed["changeDeviceSite"]["device"]["site"], json!({ "name": "Barn", "timeZone": "Europe/Lisbon" }));
    assert_eq!(changed["changeDeviceMaxPower"]["device"]["maxPowerW"], "8000");
    assert_eq!(changed["decommissionDevice"]["device"], json!({ "status": "DECOMMISSIONED", "reason": "broken" }));

    let list = "query($t: UUID!, $f: DeviceFilter!) { devices(tenant: $t, filter: $f, orderBy: { field: NAME }) {
        nodes { name } totalCount } }";
    let names = async |filter: Value| {
        let found = site.data(list, json!({ "t": site.tenant, "f": filter })).await["devices"].take();
        let names: Vec<String> =
            found["nodes"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(number(&found["totalCount"]), i64::try_from(names.len()).unwrap());
        names
    };
    assert_eq!(names(json!({})).await, ["Meter SN 8", "Zulu"]);
    assert_eq!(names(json!({ "kind": "PV" })).await, [""; 0]);
    assert_eq!(names(json!({ "kind": "METER", "serial": "sn 8" })).await, ["Meter SN 8"]);

    let record = "mutation($t: UUID!, $r: [ReadingInput!]!) { recordReadings(input: { tenant: $t, rows: $r }) {
        accepted duplicates rejected position userErrors { path code } } }";
    let row = |device: &str, value: &str| json!({ "device": device, "time": "2016-01-01T00:00Z", "value": value, "unit": "KWH" });
    let rows = json!([row(&device, "1.5"), row(&device, "1.5"), row("SN 8", "one"), row("SN 7", "1")]);
    let recorded = site.data(record, json!({ "t": site.tenant, "r": rows })).await["recordReadings"].take();
    assert_eq!((number(&recorded["accepted"]), number(&recorded["duplicates"])), (1, 1));
    assert_eq!(
        recorded["userErrors"],
        json!([
            { "path": ["input", "rows", "2", "value"], "code": "ENERGY_MALFORMED" },
            // A serial number is free again once its device is out of service.
            { "path": ["input", "rows", "3", "device"], "code": "DEVICE_UNKNOWN" },
        ])
    );
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn subscribe(site: &Site, device: &str, after: Option<&str>) -> Socket {
    let mut request = site.server.graphql_url().replace("http", "ws").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "graphql-transport-ws".parse().unwrap());
    let (mut socket, _) = connect_async(request).await.unwrap();
    let init = json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {}", site.token) } });
    socket.send(Message::text(init.to_string())).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("connection_ack"));
    let query = "subscription($t: UUID!, $d: UUID!, $a: Position) { readings(tenant: $t, device: $d, after: $a) {
        position readings { localStart energyWh } } }";
    let variables = json!({ "t": site.tenant, "d": device, "a": after });
    let message = json!({ "id": "1", "type": "subscribe", "payload": { "query": query, "variables": variables } });
    socket.send(Message::text(message.to_string())).await.unwrap();
    socket
}

async fn next_recorded(socket: &mut Socket) -> (String, Vec<i64>) {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(30), socket.next()).await.unwrap().unwrap().unwrap();
        let Ok(value) = serde_json::from_str::<Value>(message.to_text().unwrap_or_default()) else { continue };
        if value["type"] == "next" {
            assert!(value["payload"].get("errors").is_none(), "{value}");
            let recorded = &value["payload"]["data"]["readings"];
            let wh = recorded["readings"].as_array().unwrap().iter().map(|r| number(&r["energyWh"])).collect();
            return (recorded["position"].as_str().unwrap().to_owned(), wh);
        }
        assert!(value["type"] != "error", "{value}");
    }
}

#[tokio::test]
async fn a_subscription_resumes_without_gap_or_duplicate_and_shows_its_device_alone() {
    let site = Site::start().await;
    let (device, _) = (site.device("M-1").await, site.device("M-2").await);
    let begin = site.csv("M-2,2016-01-01T00:00Z,9,Wh").await["position"].as_str().unwrap().to_owned();
    let record =
        async |n: i64| site.csv(&format!("M-1,2016-01-{n:02}T00:00Z,{n},Wh\nM-2,2016-01-{n:02}T00:15Z,999,Wh")).await;
    for n in 1..=3 {
        record(n).await;
    }
    let mut socket = subscribe(&site, &device, Some(&begin)).await;
    let (_, wh) = next_recorded(&mut socket).await;
    assert_eq!(wh, [1]);
    let (seen, wh) = next_recorded(&mut socket).await;
    assert_eq!(wh, [2]);
    drop(socket);
    for n in 4..=6 {
        record(n).await;
    }
    let mut socket = subscribe(&site, &device, Some(&seen)).await;
    for n in 3..=6 {
        assert_eq!(next_recorded(&mut socket).await.1, [n]);
    }
    record(7).await;
    assert_eq!(next_recorded(&mut socket).await.1, [7]);
}

#[tokio::test]
async fn listeners_that_share_a_reader_each_hear_their_own_device_once_whenever_they_came() {
    let site = Site::start().await;
    let devices = [site.device("M-1").await, site.device("M-2").await];
    let begin = site.csv("M-1,2015-12-31T00:00Z,9,Wh").await["position"].as_str().unwrap().to_owned();
    let record = async |n: i64| {
        let (day, hour) = (n / 24 + 1, n % 24);
        let time = format!("2016-01-{day:02}T{hour:02}:00Z");
        site.csv(&format!("M-1,{time},{n},Wh\nM-2,{time},{},Wh", 1_000 + n)).await;
    };
    // One of each from the start, of which the second reads nothing until the end; one joins every fifty.
    let mut early = subscribe(&site, &devices[0], Some(&begin)).await;
    let mut slow = subscribe(&site, &devices[1], Some(&begin)).await;
    let mut late = Vec::new();
    for n in 0..200 {
        if n % 50 == 25 {
            late.push(subscribe(&site, &devices[1], Some(&begin)).await);
        }
        record(n).await;
        assert_eq!(next_recorded(&mut early).await.1, [n]);
    }
    for socket in late.iter_mut().chain([&mut slow]) {
        for n in 0..200 {
            assert_eq!(next_recorded(socket).await.1, [1_000 + n]);
        }
    }
}

/// Not a limit to hold: what a build without optimisation does is printed.
#[tokio::test]
async fn a_large_call_is_recorded_in_parts_and_its_sums_are_right() {
    let site = Site::start().await;
    let mut devices = Vec::new();
    for n in 0..10 {
        devices.push(site.device(&format!("M-{n}")).await);
    }
    let mut body = String::from("device,time,value,unit\n");
    let mut sums = Vec::new();
    for n in 0..10 {
        let (text, sum) = quarters(&format!("M-{n}"), 96 * 50);
        body.push_str(&text);
        sums.push(sum);
    }
    let began = Instant::now();
    let report: Value = site.post("text/csv", body).send().await.unwrap().json().await.unwrap();
    let recorded = began.elapsed();
    assert_eq!(counts(&report), (48_000, 0, 0));
    let position = report["position"].as_str().unwrap();
    let mut shown = None;
    for (device, sum) in devices.iter().zip(sums) {
        let totals = site.totals(device, position).await;
        shown.get_or_insert_with(|| began.elapsed());
        assert_eq!(totals, (96 * 50, sum, sum));
    }
    let rate = |time: Duration| 48_000.0 / time.as_secs_f64();
    eprintln!("{:.0} readings/s recorded, {:.0} readings/s shown", rate(recorded), rate(shown.unwrap()));
}
