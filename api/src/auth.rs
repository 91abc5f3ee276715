//! Logging in over plain HTTP: `/auth/login`, `/auth/refresh`, `/auth/logout`, `/auth/me`, and the public keys at
//! `/.well-known/jwks.json`.
//!
//! Each is one GraphQL operation in other clothes, so what holds for that holds here. JSON in, JSON or a problem document
//! (RFC 9457) out. A browser may have its refresh token kept in a cookie that scripts cannot read; no other site can make
//! it send one with effect: only JSON is taken, and with a cookie only from pages of the same host. Pages of other origins that
//! are welcome keep the token themselves.

use crate::graphql::DaybookSchema;
use crate::transport::{
    Authenticate, Caller, CorrelationId, NotAuthenticated, OriginPolicy, TENANT_HEADER, bearer, fault::code, is_for,
    is_json,
};
use async_graphql::{Request as Operation, ServerError, Value as GraphqlValue, Variables};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use daybook_app::Credential;
use daybook_app::identity::Identity;
use daybook_store::system::SharedSystem;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tower_http::timeout::TimeoutLayer;

/// Bytes of a body.
const BODY_BYTES_MAX: usize = 16 * 1_024;
/// How long a request may take, its body among it.
const TIME_MAX: Duration = Duration::from_secs(30);
/// The cookie of the refresh token. Browsers take one of this name only with `Secure`, for all paths and from the host
/// itself, so no neighbour below the same domain can put another in its place.
const COOKIE: &str = "__Host-daybook_refresh";

const TOKENS: &str =
    "tokens { accessToken accessTokenExpiresAt refreshToken session sessionExpiresAt account tenant membership }";

/// What the routes need to be told.
pub struct Auth<A> {
    pub schema: DaybookSchema,
    pub authenticate: A,
    pub identity: Identity,
    pub origins: OriginPolicy,
    pub system: SharedSystem,
}

/// The routes.
pub fn router<A: Authenticate<Credential = Credential>>(auth: Auth<A>) -> Router {
    let cross_origin = auth.origins.cross_origin();
    let router = Router::new()
        .route("/auth/login", post(login::<A>))
        .route("/auth/refresh", post(refresh::<A>))
        .route("/auth/logout", post(logout::<A>))
        .route("/auth/me", get(me::<A>))
        .route("/.well-known/jwks.json", get(jwks::<A>))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIME_MAX))
        .with_state(Arc::new(auth));
    match cross_origin {
        Some(layer) => router.layer(layer),
        None => router,
    }
}

type Shared<A> = State<Arc<Auth<A>>>;

/// What surrounds a request: set by the outermost layer.
type Around = (Option<axum::Extension<Caller>>, Option<axum::Extension<CorrelationId>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Login {
    email: String,
    password: String,
    #[serde(default)]
    tenant: Option<uuid::Uuid>,
    /// Keep the refresh token in a cookie instead of telling it.
    #[serde(default)]
    cookie: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Going {
    #[serde(default)]
    refresh_token: Option<String>,
}

async fn login<A: Authenticate<Credential = Credential>>(
    State(auth): Shared<A>,
    around: Around,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Login { email, password, tenant, cookie } = auth.read(&headers, &body)?;
    if cookie {
        at_home(&headers)?;
    }
    let query = format!("mutation($i: LoginInput!) {{ a: login(input: $i) {{ {TOKENS} userErrors {{ message }} }} }}");
    let input = json!({ "i": { "email": email, "password": password, "tenant": tenant } });
    let answer = auth.execute(around, None, &query, input).await?;
    auth.tokens(answer, cookie)
}

async fn refresh<A: Authenticate<Credential = Credential>>(
    State(auth): Shared<A>,
    around: Around,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Going { refresh_token } = auth.read(&headers, &body)?;
    let cookie = refresh_token.is_none();
    if cookie {
        at_home(&headers)?;
    }
    let token = refresh_token.or_else(|| of_cookie(&headers)).ok_or_else(|| {
        Problem::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, "send `refreshToken`, or log in with a cookie")
    })?;
    let query =
        format!("mutation($i: RefreshInput!) {{ a: refresh(input: $i) {{ {TOKENS} userErrors {{ message }} }} }}");
    let answer = auth.execute(around, None, &query, json!({ "i": { "refreshToken": token } })).await?;
    auth.tokens(answer, cookie)
}

async fn logout<A: Authenticate<Credential = Credential>>(
    State(auth): Shared<A>,
    around: Around,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let Going { refresh_token } = auth.read(&headers, &body)?;
    // An access token that has expired is no reason not to end the session that it was of.
    let cookie = of_cookie(&headers);
    if refresh_token.is_none() && cookie.is_some() {
        at_home(&headers)?;
    }
    let token = refresh_token.or_else(|| cookie.clone());
    let credential = match (&token, bearer(&headers)) {
        (None, Some(_)) => Some(auth.credential(&headers).await?),
        _ => None,
    };
    let query = "mutation($i: LogoutInput) { a: logout(input: $i) { ended userErrors { message } } }";
    let done = auth.execute(around, credential, query, json!({ "i": { "refreshToken": token } })).await;
    let mut response = match done {
        Ok(_) => answer(StatusCode::OK, &json!({ "ended": true })),
        // Of a session that has ended already the cookie is to go as well.
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => problem.into_response(),
        Err(problem) => return Err(problem),
    };
    if cookie.is_some() {
        set_cookie(&mut response, "", 0);
    }
    Ok(response)
}

async fn me<A: Authenticate<Credential = Credential>>(
    State(auth): Shared<A>,
    around: Around,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let credential = auth.credential(&headers).await?;
    let query = "{ a: me { actor kind tenant platform session roles scopes account { id name email platformRoles }
        memberships { id tenant roles addedAt } modules { id role until module { id key name } } } }";
    let me = auth.execute(around, Some(credential), query, json!({})).await?;
    Ok(answer(StatusCode::OK, &me))
}

async fn jwks<A: Authenticate<Credential = Credential>>(State(auth): Shared<A>) -> Response {
    let mut response = answer(StatusCode::OK, &auth.identity.jwks());
    // A key is published for a month before it signs.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

impl<A: Authenticate<Credential = Credential>> Auth<A> {
    /// A JSON body from a page that is welcome, or from no page.
    fn read<T: for<'de> Deserialize<'de>>(&self, headers: &HeaderMap, body: &Bytes) -> Result<T, Problem> {
        if !self.origins.admits(headers) {
            let detail = "this origin may not log anybody in: have it added to the allowed origins";
            return Err(Problem::new(StatusCode::FORBIDDEN, code::FORBIDDEN, detail));
        }
        // What a web form can send without asking is refused, also where the body is empty.
        if !is_json(headers) || headers.contains_key(header::CONTENT_ENCODING) {
            let detail = "send the body as `Content-Type: application/json` in UTF-8, not compressed";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code::BAD_USER_INPUT, detail));
        }
        serde_json::from_slice(body).map_err(|error| {
            // Where, and not what: it may be a password.
            let detail = format!("the body is not as it should be, at line {} column {}", error.line(), error.column());
            Problem::new(StatusCode::BAD_REQUEST, code::BAD_USER_INPUT, detail)
        })
    }

    async fn credential(&self, headers: &HeaderMap) -> Result<Credential, Problem> {
        let unknown = || {
            let detail = "no valid credential: send `Authorization: Bearer <token>`";
            let mut problem = Problem::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, detail);
            problem.challenge = true;
            problem
        };
        let token = bearer(headers).ok_or_else(unknown)?;
        let credential = self.authenticate.authenticate(token).await.map_err(|why| match why {
            NotAuthenticated::Unknown => unknown(),
            NotAuthenticated::Shut(shut) => Problem::new(StatusCode::FORBIDDEN, shut.code(), shut.to_string()),
            NotAuthenticated::Unavailable => {
                let detail = "who you are cannot be told at the moment: try again";
                let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, detail);
                problem.retry_after_s = Some(1);
                problem
            }
        })?;
        if !is_for(headers, A::tenant(&credential)) {
            let detail = format!("`{TENANT_HEADER}` is not the tenant of the token");
            return Err(Problem::new(StatusCode::FORBIDDEN, code::FORBIDDEN, detail));
        }
        Ok(credential)
    }

    /// The field `a` of the answer.
    async fn execute(
        &self,
        (caller, correlation): Around,
        credential: Option<Credential>,
        query: &str,
        variables: Value,
    ) -> Result<Value, Problem> {
        let correlation = correlation.map_or_else(|| CorrelationId::from(self.system.uuid_v7()), |c| c.0);
        let mut operation = Operation::new(query)
            .variables(Variables::from_json(variables))
            .data(caller.map(|caller| caller.0).unwrap_or_default())
            .data(correlation.clone());
        if let Some(credential) = credential {
            operation = operation.data(credential);
        }
        let response = self.schema.execute(operation).await;
        if let Some(error) = response.errors.first() {
            return Err(Problem::of(error, &correlation));
        }
        let mut data = response.data.into_json().unwrap_or_default();
        let answer = data["a"].take();
        match answer["userErrors"][0]["message"].as_str() {
            Some(refused) => Err(Problem::new(StatusCode::CONFLICT, "CONFLICT", refused)),
            None => Ok(answer),
        }
    }

    fn tokens(&self, mut answer_of: Value, cookie: bool) -> Result<Response, Problem> {
        let mut tokens = answer_of["tokens"].take();
        let refresh_token = tokens["refreshToken"].as_str().unwrap_or_default().to_owned();
        let ends: Option<DateTime<Utc>> = tokens["sessionExpiresAt"].as_str().and_then(|text| text.parse().ok());
        tokens["tokenType"] = json!("Bearer");
        if cookie && let Some(members) = tokens.as_object_mut() {
            members.remove("refreshToken");
        }
        let mut response = answer(StatusCode::OK, &tokens);
        if cookie {
            let left_s = ends.map_or(0, |ends| (ends - self.system.utc()).num_seconds());
            set_cookie(&mut response, &refresh_token, left_s);
        }
        Ok(response)
    }
}

/// A cookie is for pages of the same host: browsers give it to no other, and answers tell them so.
fn at_home(headers: &HeaderMap) -> Result<(), Problem> {
    match OriginPolicy::SameHost.admits(headers) {
        true => Ok(()),
        false => {
            let detail = "the cookie is for pages of the same host: leave out `cookie` and send `refreshToken`";
            Err(Problem::new(StatusCode::FORBIDDEN, code::FORBIDDEN, detail))
        }
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string()).into_response()
}

fn set_cookie(response: &mut Response, token: &str, left_s: i64) {
    let cookie = format!("{COOKIE}={token}; Path=/; Max-Age={left_s}; Secure; HttpOnly; SameSite=Strict");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

fn of_cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, value)| *name == COOKIE && !value.is_empty()).map(|(_, value)| value.to_owned())
}

/// Why it is not done.
struct Problem {
    status: StatusCode,
    code: String,
    detail: String,
    correlation: Option<String>,
    retry_after_s: Option<u64>,
    challenge: bool,
}

impl Problem {
    fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let (code, detail) = (code.to_owned(), detail.into());
        Problem { status, code, detail, correlation: None, retry_after_s: None, challenge: false }
    }

    /// Of an error of the operation. One without a code is ours, and told to nobody.
    fn of(error: &ServerError, correlation: &CorrelationId) -> Self {
        let extension = |name: &str| error.extensions.as_ref().and_then(|values| values.get(name));
        let code = match extension("code") {
            Some(GraphqlValue::String(code)) => code.as_str(),
            _ => code::INTERNAL,
        };
        let status = match code {
            code::UNAUTHENTICATED => StatusCode::UNAUTHORIZED,
            code::FORBIDDEN | "TENANT_SUSPENDED" | "TENANT_CLOSED" => StatusCode::FORBIDDEN,
            code::RATE_LIMITED => StatusCode::TOO_MANY_REQUESTS,
            code::UNAVAILABLE | "STALE" => StatusCode::SERVICE_UNAVAILABLE,
            code::BAD_USER_INPUT => StatusCode::BAD_REQUEST,
            "CONFLICT" => StatusCode::CONFLICT,
            "UNKNOWN_OUTCOME" => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut problem = if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(correlation.id = correlation.as_str(), error.message, "logging in or out failed");
            Problem::new(status, code::INTERNAL, "something failed here; if it fails again, report the correlation id")
        } else {
            Problem::new(status, code, error.message.clone())
        };
        problem.correlation = Some(correlation.as_str().to_owned());
        problem.retry_after_s = match extension("retryAfterS") {
            Some(GraphqlValue::Number(seconds)) => seconds.as_u64(),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        };
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(correlation) = self.correlation {
            body["correlationId"] = json!(correlation);
        }
        let media = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (self.status, media, body.to_string()).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
