//! What goes over the wire, by name.

use serde_json::{Value, json};

pub(super) fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let maybe = |of: &str| json!({ "type": [of, "null"] });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let id = || json!({ "type": "string", "format": "uuid" });
    let maybe_id = || json!({ "type": ["string", "null"], "format": "uuid" });
    let time = || json!({ "type": "string", "format": "date-time" });
    let list = |of: Value| json!({ "type": "array", "items": of });
    json!({
        "Problem": {
            "description": "RFC 9457.",
            "type": "object",
            "required": ["type", "title", "status", "code", "detail"],
            "properties": {
                "type": { "const": "about:blank" },
                "title": text(),
                "status": { "type": "integer", "minimum": 400, "maximum": 599 },
                "code": { "type": "string", "pattern": "^[A-Z_]+$", "description": "As in GraphQL errors." },
                "detail": { "type": "string", "minLength": 1, "description": "What is wrong and what to do, for a person." },
                "correlationId": text(),
                "errors": list(json!({ "$ref": "#/components/schemas/GraphqlError" })),
                "recorded": { "$ref": "#/components/schemas/Report" },
            },
        },
        "Login": {
            "type": "object",
            "additionalProperties": false,
            "required": ["email", "password"],
            "properties": {
                "email": text(),
                "password": text(),
                "tenant": maybe_id(),
                "cookie": { "type": "boolean", "description": "Keep the refresh token in a cookie instead of telling it." },
            },
        },
        "Going": {
            "type": "object",
            "additionalProperties": false,
            "properties": { "refreshToken": maybe("string") },
        },
        "Tokens": {
            "type": "object",
            "required": ["accessToken", "accessTokenExpiresAt", "session", "sessionExpiresAt", "account", "tenant", "tokenType"],
            "properties": {
                "accessToken": text(),
                "accessTokenExpiresAt": time(),
                "refreshToken": { "type": "string", "description": "Absent where it is in a cookie." },
                "session": id(),
                "sessionExpiresAt": time(),
                "account": id(),
                "tenant": id(),
                "membership": maybe_id(),
                "tokenType": { "const": "Bearer" },
            },
        },
        "Ended": { "type": "object", "required": ["ended"], "properties": { "ended": { "const": true } } },
        "Me": {
            "type": "object",
            "required": ["actor", "kind", "tenant", "platform", "roles"],
            "properties": {
                "actor": id(),
                "kind": text(),
                "tenant": id(),
                "platform": { "type": "boolean" },
                "session": maybe_id(),
                "roles": list(text()),
                "scopes": { "type": ["array", "null"], "items": text() },
                "account": { "type": ["object", "null"] },
                "memberships": list(json!({ "type": "object" })),
                "modules": list(json!({ "type": "object" })),
            },
        },
        "Keys": {
            "type": "object",
            "required": ["keys"],
            "properties": { "keys": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["kty", "crv", "x", "kid", "alg", "use"],
                    "properties": {
                        "kty": { "const": "OKP" }, "crv": { "const": "Ed25519" }, "alg": { "const": "EdDSA" },
                        "use": { "const": "sig" }, "x": text(), "kid": text(),
                    },
                },
            } },
        },
        "GraphqlRequest": {
            "type": "object",
            "required": ["query"],
            "properties": {
                "query": text(),
                "operationName": maybe("string"),
                "variables": maybe("object"),
                "extensions": maybe("object"),
            },
        },
        "GraphqlError": {
            "type": "object",
            "required": ["message", "extensions"],
            "properties": {
                "message": text(),
                "extensions": { "type": "object", "required": ["code"], "properties": { "code": text() } },
            },
        },
        "GraphqlAnswer": {
            "type": "object",
            "anyOf": [{ "required": ["data"] }, { "required": ["errors"] }],
            "properties": {
                "data": maybe("object"),
                "errors": { "type": "array", "minItems": 1, "items": { "$ref": "#/components/schemas/GraphqlError" } },
                "extensions": { "type": "object" },
            },
        },
        "Live": { "type": "object", "required": ["status"], "properties": { "status": { "const": "live" } } },
        "Ready": {
            "type": "object",
            "required": ["status", "degraded", "writer"],
            "properties": {
                "status": { "enum": ["ready", "degraded", "unready"] },
                "degraded": list(text()),
                "writer": { "enum": ["leading", "elsewhere", "stopped", "waiting"] },
                "reason": maybe("string"),
                "readModels": list(json!({ "type": "object" })),
            },
        },
        "Row": {
            "description": "A reading. One of another shape is refused alone.",
            "type": "object",
            "required": ["device", "time", "value", "unit"],
            "properties": {
                "device": { "type": "string", "description": "Id or serial number." },
                "time": { "type": "string", "description": "When the slot begins; without an offset, by the clock of the site." },
                "value": { "type": ["number", "string"] },
                "unit": { "enum": ["Wh", "kWh", "MWh"] },
                "quality": { "enum": ["MEASURED", "ESTIMATED", "SUBSTITUTED"] },
            },
        },
        "Report": {
            "type": "object",
            "required": ["rows", "accepted", "duplicates", "rejected", "rejections", "truncated", "deduplicated"],
            "properties": {
                "rows": count(), "accepted": count(), "duplicates": count(), "rejected": count(),
                "rejections": list(json!({
                    "type": "object",
                    "required": ["index", "code", "message"],
                    "properties": { "index": count(), "code": text(), "field": text(), "message": text() },
                })),
                "truncated": { "type": "boolean" },
                "deduplicated": { "type": "boolean" },
                "position": maybe("string"),
            },
        },
    })
}
