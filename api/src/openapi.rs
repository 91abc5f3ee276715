//! The HTTP routes as an OpenAPI 3.1 document: the published contract `schemas/openapi.json`.
//!
//! One entry per path of [`crate::declared::ROUTES`]; a test fails for one that is missing, and `script/judges` has
//! somebody else's program send thousands of requests made from it and compare the answers with it. What goes through
//! `/graphql` has its own contract, `schemas/schema.graphql`.

mod bodies;

use crate::declared::{Needs, ROUTES};
use serde_json::{Map, Value, json};

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for (path, needs) in ROUTES {
        let operations = match *path {
            "/.well-known/jwks.json" => jwks(),
            "/auth/login" => login(),
            "/auth/logout" => logout(),
            "/auth/me" => me(),
            "/auth/refresh" => refresh(),
            "/graphql" => graphql(),
            "/graphiql" => page(),
            "/graphiql/{edition}/{file}" => file(),
            "/health/live" => live(),
            "/health/ready" => ready(),
            "/internal/append" => append(),
            "/metrics" => metrics(),
            "/v1/readings" => readings(),
            // A test fails for it.
            _ => continue,
        };
        paths.insert((*path).to_owned(), with_security(operations, *needs));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Daybook",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What is answered over plain HTTP. What is refused or fails is a problem document (RFC 9457) \
                with a `code`; `Retry-After` comes with 429 and 503, `X-Correlation-Id` with everything.",
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "paths": paths,
        "components": {
            "schemas": bodies::schemas(),
            "responses": { "Problem": {
                "description": "Why it is not done.",
                "content": { "application/problem+json": { "schema": of("Problem") } },
            } },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
            },
        },
    })
}

/// As it is committed.
pub fn text() -> String {
    format!("{:#}\n", document())
}

/// A credential where one is needed, so that nobody has to say it twice.
fn with_security(mut operations: Value, needs: Needs) -> Value {
    if !matches!(needs, Needs::Nothing | Needs::Node | Needs::Operator)
        && let Some(operations) = operations.as_object_mut()
    {
        for operation in operations.values_mut() {
            operation["security"] = json!([{ "bearer": [] }]);
        }
    }
    operations
}

/// A schema by its name.
fn of(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn content(media: &str, schema: &Value, description: &str) -> Value {
    json!({ "description": description, "content": { media: { "schema": schema } } })
}

fn body(schema: &str) -> Value {
    json!({ "required": true, "content": { "application/json": { "schema": of(schema) } } })
}

/// Responses: these, and problem documents for the statuses named. What can happen anywhere is added.
fn responses(own: &[(u16, Value)], problems: &[u16]) -> Value {
    let everywhere = [405, 429];
    let problems = problems.iter().chain(&everywhere);
    let problems = problems.map(|status| (*status, json!({ "$ref": "#/components/responses/Problem" })));
    let all = own.iter().cloned().chain(problems);
    Value::Object(all.map(|(status, response)| (status.to_string(), response)).collect())
}

/// Of what takes a JSON body.
const OF_BODY: [u16; 4] = [400, 408, 413, 415];

fn tenant_header() -> Value {
    json!({
        "name": "X-Tenant-ID", "in": "header", "required": false,
        "description": "The tenant that you mean to work in: 403 unless it is that of the token.",
        "schema": { "type": "string", "format": "uuid" },
    })
}

fn jwks() -> Value {
    let keys = content("application/json", &of("Keys"), "The keys that sign now, did so lately, and will do so next.");
    json!({ "get": {
        "operationId": "keys", "summary": "Public keys of access tokens, as a JSON Web Key Set.", "tags": ["Logging in"],
        "responses": responses(&[(200, keys)], &[]),
    } })
}

fn login() -> Value {
    let tokens = content("application/json", &of("Tokens"), "You are in.");
    let problems = [&OF_BODY[..], &[401, 403, 409, 503]].concat();
    json!({ "post": {
        "operationId": "login", "summary": "E-mail address and password for two tokens.", "tags": ["Logging in"],
        "requestBody": body("Login"), "responses": responses(&[(200, tokens)], &problems),
    } })
}

fn refresh() -> Value {
    let tokens = content("application/json", &of("Tokens"), "The next two tokens.");
    let problems = [&OF_BODY[..], &[401, 403, 409, 503]].concat();
    json!({ "post": {
        "operationId": "refresh", "summary": "The next two tokens for a refresh token.", "tags": ["Logging in"],
        "description": "The refresh token is in the body or in the cookie `__Secure-daybook_refresh`.",
        "requestBody": body("Going"), "responses": responses(&[(200, tokens)], &problems),
    } })
}

fn logout() -> Value {
    let ended = content("application/json", &of("Ended"), "The session is over, or there was none.");
    let problems = [&OF_BODY[..], &[401, 403, 409, 503]].concat();
    json!({ "post": {
        "operationId": "logout", "summary": "Ends a session.", "tags": ["Logging in"],
        "description": "That of the refresh token in the body or the cookie, else that of the access token.",
        "requestBody": body("Going"), "responses": responses(&[(200, ended)], &problems),
    } })
}

fn me() -> Value {
    let me = content("application/json", &of("Me"), "Who you are, where, and as what.");
    json!({ "get": {
        "operationId": "me", "summary": "Who you are.", "tags": ["Logging in"], "parameters": [tenant_header()],
        "responses": responses(&[(200, me)], &[401, 403, 503]),
    } })
}

fn graphql() -> Value {
    let media = |schema: Value| {
        json!({
            "description": "The answer. With `application/json`, 200 stands also for a document that was refused.",
            "content": {
                "application/graphql-response+json": { "schema": schema },
                "application/json": { "schema": schema },
                "text/event-stream": { "schema": { "type": "string" } },
            },
        })
    };
    let answers = || {
        let statuses = [200, 400, 401, 403, 405, 406, 408, 413, 415, 429, 500, 503];
        let answers: Map<String, Value> =
            statuses.iter().map(|status| (status.to_string(), media(of("GraphqlAnswer")))).collect();
        answers
    };
    let parameter = |name: &str, required: bool| {
        json!({
            "name": name, "in": "query", "required": required, "schema": { "type": "string" },
        })
    };
    json!({
        "get": {
            "operationId": "query", "summary": "One GraphQL query.", "tags": ["GraphQL"],
            "description": "Queries only. With `Upgrade: websocket` and the subprotocol `graphql-transport-ws`: a socket.",
            "parameters": [
                parameter("query", true), parameter("operationName", false), parameter("variables", false),
                parameter("extensions", false), tenant_header(),
            ],
            "responses": answers(),
        },
        "post": {
            "operationId": "operation", "summary": "One GraphQL operation.", "tags": ["GraphQL"],
            "description": "Subscriptions with `Accept: text/event-stream`.",
            "parameters": [tenant_header()],
            "requestBody": body("GraphqlRequest"),
            "responses": answers(),
        },
    })
}

fn page() -> Value {
    let page = content("text/html", &json!({ "type": "string" }), "The page.");
    let same = json!({ "description": "It is as your `If-None-Match` says." });
    json!({ "get": {
        "operationId": "graphiql", "summary": "A page to query with.", "tags": ["GraphQL"],
        "responses": responses(&[(200, page), (304, same)], &[]),
    } })
}

fn file() -> Value {
    let any = json!({ "schema": { "type": "string" } });
    let file = json!({
        "description": "The file, gzipped.",
        "content": { "text/css": any, "text/javascript": any, "text/plain": any },
    });
    let same = json!({ "description": "It is as your `If-None-Match` says." });
    let parameter = |name: &str| {
        json!({
            "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 },
        })
    };
    json!({ "get": {
        "operationId": "graphiqlFile", "summary": "What the page needs.", "tags": ["GraphQL"],
        "parameters": [parameter("edition"), parameter("file")],
        "responses": responses(&[(200, file), (304, same)], &[400, 404, 406]),
    } })
}

fn live() -> Value {
    let live = content("application/json", &of("Live"), "The process answers.");
    json!({ "get": {
        "operationId": "live", "summary": "Whether the process answers.", "tags": ["Operation"],
        "responses": responses(&[(200, live)], &[]),
    } })
}

fn ready() -> Value {
    let ready = |description: &str| content("application/json", &of("Ready"), description);
    json!({ "get": {
        "operationId": "ready", "summary": "Whether commands and queries are served.", "tags": ["Operation"],
        "description": "Whoever may list all tenants is told reasons and numbers, with the token.",
        "responses": responses(&[(200, ready("They are.")), (503, ready("They are not."))], &[]),
    } })
}

fn append() -> Value {
    let bytes = json!({ "type": "string", "contentMediaType": "application/octet-stream" });
    let header = |name: &str| {
        json!({
            "name": name, "in": "header", "required": false, "schema": { "type": "string" },
        })
    };
    json!({ "post": {
        "operationId": "append", "summary": "What another node hands over.", "tags": ["Between nodes"],
        "description": "Signed with a key that nodes of one cluster share; 404 for everybody else.",
        "parameters": crate::node::HEADERS.map(header),
        "requestBody": { "required": true, "content": { "application/octet-stream": { "schema": bytes } } },
        "responses": responses(&[(200, content("application/octet-stream", &bytes, "The answer, signed."))], &[400, 404, 413]),
    } })
}

fn metrics() -> Value {
    let text = content("application/openmetrics-text", &json!({ "type": "string" }), "OpenMetrics.");
    json!({ "get": {
        "operationId": "metrics", "summary": "Numbers for Prometheus.", "tags": ["Operation"],
        "responses": responses(&[(200, text)], &[500]),
    } })
}

fn readings() -> Value {
    let report = content("application/json", &of("Report"), "Every row was judged.");
    let text = json!({ "schema": { "type": "string" } });
    json!({ "post": {
        "operationId": "recordReadings", "summary": "Records readings.", "tags": ["Energy"],
        "description": "Row by row; see docs/ingest.md.",
        "parameters": [
            {
                "name": "tenant", "in": "query", "required": false,
                "description": "Id of another tenant than your own.",
                "schema": { "type": "string", "format": "uuid" },
            },
            {
                "name": "Idempotency-Key", "in": "header", "required": false,
                "description": "Names the call: a repeat goes on where it was cut off.",
                "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]+$" },
            },
            tenant_header(),
        ],
        "requestBody": { "required": true, "content": {
            "application/json": { "schema": { "type": "array", "items": of("Row") } },
            "application/x-ndjson": text,
            "text/csv": text,
        } },
        "responses": responses(&[(200, report)], &[400, 401, 403, 404, 408, 409, 413, 415, 503, 504]),
    } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_says_what_it_needs() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        for (path, needs) in ROUTES {
            let described = paths.get(*path).unwrap_or_else(|| panic!("describe {path} in api/src/openapi.rs"));
            for (method, operation) in described.as_object().unwrap() {
                let open = matches!(needs, Needs::Nothing | Needs::Node);
                assert_eq!(operation.get("security").is_none(), open, "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path}");
            }
        }
        assert_eq!(paths.len(), ROUTES.len());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_body_is_used() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in &found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
        for name in bodies::schemas().as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/schemas/{name}")), "{name} is used by nothing");
        }
    }
}
