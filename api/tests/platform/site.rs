//! The routes as clients meet them: GraphQL, sockets, event streams and logins over a port of its own.

use crate::harness::{World, admin, id, options, platform};
use axum::Router;
use daybook_api::auth::{self, Auth};
use daybook_api::ingest;
use daybook_api::metrics::Metrics;
use daybook_api::tokens::{StaticTokens, Tokens};
use daybook_api::transport::{self, Edge, Limits, OriginPolicy, RateLimits, Rates, Settings, Sockets, surround};
use daybook_app::identity::IdentityOptions;
use daybook_testing::system;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) const PASSWORD: &str = "correct horse battery";
/// A static token of the configuration.
pub(crate) const FIXED: &str = "a-static-token-of-the-configuration";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) http: reqwest::Client,
    pub(crate) address: SocketAddr,
    _stop: watch::Sender<bool>,
}

/// What a client got.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        let graphql = self.body["errors"][0]["extensions"]["code"].as_str();
        graphql.or_else(|| self.body["code"].as_str()).unwrap_or_default()
    }
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: IdentityOptions) -> Self {
        Self::of(options, OriginPolicy::SameHost, Sockets::default()).await
    }

    /// With pages that are welcome.
    pub(crate) async fn open_to(options: IdentityOptions, origins: OriginPolicy) -> Self {
        Self::of(options, origins, Sockets::default()).await
    }

    pub(crate) async fn of(options: IdentityOptions, origins: OriginPolicy, sockets: Sockets) -> Self {
        let world = World::with(options).await;
        let mut fixed = StaticTokens::default();
        fixed.insert(FIXED, platform());
        let tokens = Arc::new(Tokens { fixed, identity: world.parts.identity.clone() });
        let (stop, stopping) = watch::channel(false);
        let metrics = Metrics::new(0);
        let rates = Rates::new(RateLimits::NONE);
        let settings = Settings {
            limits: Limits::default(),
            origins: origins.clone(),
            ids: Arc::new(|| system().uuid_v7()),
            sockets,
            shutdown: stopping,
            metrics: metrics.clone(),
            rates: rates.clone(),
            open: &["login", "refresh", "logout"],
        };
        let auth = Auth {
            schema: world.schema.clone(),
            authenticate: tokens.clone(),
            identity: world.parts.identity.clone(),
            origins,
            system: system(),
        };
        let router: Router = transport::router(world.schema.clone(), tokens.clone(), settings)
            .merge(auth::router(auth))
            .merge(ingest::router(world.parts.clone(), tokens, ingest::Limits::default(), rates.clone()));
        // So that a test can come from wherever it likes.
        let trusted = Arc::new(["127.0.0.1".parse().unwrap()]);
        let ids = Arc::new(|| system().uuid_v7());
        let router = surround(router, Edge { ids, trusted_proxies: trusted, metrics, rates });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Site { world, http, address, _stop: stop }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn sent(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        Self::sent(self.http.post(self.url(path)).json(&body)).await
    }

    pub(crate) async fn login_from(&self, address: &str, email: &str, password: &str) -> Answer {
        let body = json!({ "email": email, "password": password });
        let request = self.http.post(self.url("/auth/login")).header("x-forwarded-for", address).json(&body);
        Self::sent(request).await
    }

    pub(crate) async fn graphql(&self, token: Option<&str>, query: &str, variables: Value) -> Answer {
        let mut request = self.http.post(self.url("/graphql"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        Self::sent(request.json(&json!({ "query": query, "variables": variables }))).await
    }

    /// A field of a mutation with an input, and these fields of its payload.
    pub(crate) async fn mutate(&self, token: &str, field: &str, input: Value, fields: &str) -> Answer {
        let upper = format!("{}{}", field[..1].to_uppercase(), &field[1..]);
        let query = format!(
            "mutation($i: {upper}Input!) {{ a: {field}(input: $i) {{ {fields} userErrors {{ path code message }} }} }}"
        );
        self.graphql(Some(token), &query, json!({ "i": input })).await
    }

    /// The status of a small question.
    pub(crate) async fn asks(&self, token: &str) -> u16 {
        self.graphql(Some(token), "{ me { tenant } }", json!({})).await.status
    }

    /// A person with an account, a password and this role in a tenant.
    pub(crate) async fn person(&self, n: usize, tenant: Uuid, role: &str) -> Person {
        let account = self.world.account(n).await;
        let input = json!({ "account": account, "roles": [role] });
        let added = self.world.mutate(&admin(tenant), "addMember", input, "member { id }").await;
        let set = json!({ "account": account, "password": PASSWORD });
        let set = self.world.mutate(&platform(), "setPassword", set, "account { id }").await;
        assert_eq!(set["userErrors"], json!([]));
        Person { account, member: id(&added["member"]["id"]), tenant, email: format!("ada{n}@x.example") }
    }

    /// The tokens of a new session.
    pub(crate) async fn login(&self, person: &Person) -> Value {
        let body = json!({ "email": person.email, "password": PASSWORD, "tenant": person.tenant });
        let answer = self.post("/auth/login", body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// Waits until a token is refused, and says for how long it was not.
    pub(crate) async fn refused(&self, token: &str) -> Duration {
        let since = std::time::Instant::now();
        while self.asks(token).await != 401 {
            assert!(since.elapsed() < PATIENCE, "still let in");
        }
        since.elapsed()
    }
}

pub(crate) struct Person {
    pub(crate) account: Uuid,
    pub(crate) member: Uuid,
    pub(crate) tenant: Uuid,
    pub(crate) email: String,
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}
