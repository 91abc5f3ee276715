//! Configuration: flag over environment over file over default. Unknown keys in the file are refused.
//!
//! Every setting is listed once more in [`crate::settings`], which shows where each value comes from.

use crate::logs::LogFormat;
use chrono::TimeDelta;
use clap::Args;
use daybook_api::graphql::introspection::Introspection;
use daybook_api::transport::{Network, RateLimits, StrangerLimits};
use daybook_app::Credential;
use daybook_app::identity::IdentityOptions;
use daybook_bus::RelayOptions;
use daybook_domain::{Actor, ActorKind, PLATFORM_TENANT, Role, TenantId};
use serde::Deserialize;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What every verb needs: where the data is, and what to log.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// Directory of everything Daybook keeps: its PostgreSQL, its keys, its checkpoints
    #[arg(long, env = "DAYBOOK_DATA_DIR", global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A PostgreSQL of yours (15 or newer) instead of the private one
    #[arg(long, env = "DATABASE_URL", global = true, value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Configuration file [default: daybook.toml in the data directory, if there]
    #[arg(long, env = "DAYBOOK_CONFIG", global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log, e.g. `warn` or `info,daybook_store=debug` [default: info]
    #[arg(long, env = "DAYBOOK_LOG", global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look; auto: text on a terminal, JSON elsewhere [default: auto]
    #[arg(long, env = "DAYBOOK_LOG_FORMAT", global = true, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// What the server needs besides.
#[derive(Args, Clone, Debug, Default)]
pub struct Serving {
    /// Address and port to listen on [default: 127.0.0.1:4000]
    #[arg(long, env = "DAYBOOK_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where other nodes of the same DATABASE_URL reach this one, e.g. http://10.0.0.7:4000 [default: as --listen]
    #[arg(long, env = "DAYBOOK_ADVERTISE", value_name = "URL")]
    pub advertise: Option<String>,
    /// Web pages of other hosts that may use the API, e.g. https://app.example.com; several with commas
    #[arg(long, env = "DAYBOOK_ORIGINS", value_name = "ORIGINS", value_delimiter = ',')]
    pub origins: Option<Vec<String>>,
    /// Proxies whose X-Forwarded-For is believed, e.g. 10.0.0.0/8; several with commas [default: none]
    #[arg(long, env = "DAYBOOK_TRUSTED_PROXIES", value_name = "NETWORKS", value_delimiter = ',')]
    pub trusted_proxies: Option<Vec<Network>>,
    /// Requests per second of one address; five times as many at once; 0: no limit [default: 2000]
    #[arg(long, env = "DAYBOOK_RATE_PER_ADDRESS", value_name = "REQUESTS")]
    pub rate_per_address: Option<u32>,
    /// Requests per second of one account or service [default: 1000]
    #[arg(long, env = "DAYBOOK_RATE_PER_ACCOUNT", value_name = "REQUESTS")]
    pub rate_per_account: Option<u32>,
    /// Requests per second of all that work in one tenant [default: 5000]
    #[arg(long, env = "DAYBOOK_RATE_PER_TENANT", value_name = "REQUESTS")]
    pub rate_per_tenant: Option<u32>,
    /// WebSockets that may be open without having said who they are [default: 1000]
    #[arg(long, env = "DAYBOOK_STRANGERS", value_name = "SOCKETS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub strangers: Option<u32>,
    /// The same of one address [default: 100]
    #[arg(long, env = "DAYBOOK_STRANGERS_PER_ADDRESS", value_name = "SOCKETS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub strangers_per_address: Option<u32>,
    /// Who may ask for the schema and is told what a misspelt name may mean: `permitted` (by `schema.read`), `members`, `nobody`
    /// [default: permitted]
    #[arg(long, env = "DAYBOOK_INTROSPECTION", value_name = "WHO")]
    pub introspection: Option<Introspection>,
    /// A NATS server with JetStream that gets the public events, e.g. nats://127.0.0.1:4222 [default: none]
    #[arg(long, env = "NATS_URL", value_name = "URL", hide_env_values = true)]
    pub nats_url: Option<String>,
    /// A credentials file (.creds) for it
    #[arg(long, env = "DAYBOOK_NATS_CREDENTIALS", value_name = "FILE")]
    pub nats_credentials: Option<PathBuf>,
    /// Name of the stream that they go into [default: DAYBOOK]
    #[arg(long, env = "DAYBOOK_NATS_STREAM", value_name = "NAME")]
    pub nats_stream: Option<String>,
}

/// Where the server listens unless told.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4000);
/// What is logged unless told.
pub const LOG: &str = "info";

impl Serving {
    /// Flags and environment over the file.
    pub fn listen(&self, file: &File) -> SocketAddr {
        self.listen.or(file.listen).unwrap_or(LISTEN)
    }

    /// What other nodes are told, if anything.
    pub fn advertise(&self, file: &File) -> Option<String> {
        // An empty variable is what a compose file leaves of one that is not set.
        self.advertise.clone().or_else(|| file.advertise.clone()).filter(|url| !url.is_empty())
    }

    pub fn origins(&self, file: &File) -> Vec<String> {
        self.origins.clone().unwrap_or_else(|| file.origins.clone())
    }

    pub fn trusted_proxies(&self, file: &File) -> Vec<Network> {
        self.trusted_proxies.clone().unwrap_or_else(|| file.trusted_proxies.clone())
    }

    /// How often somebody may ask. Zero is no limit.
    pub fn rates(&self, file: &File) -> RateLimits {
        let limit = |flag: Option<u32>, file: Option<u32>, default| NonZeroU32::new(flag.or(file).unwrap_or(default));
        RateLimits {
            per_address: limit(self.rate_per_address, file.rate_per_address, RateLimits::PER_ADDRESS),
            per_account: limit(self.rate_per_account, file.rate_per_account, RateLimits::PER_ACCOUNT),
            per_tenant: limit(self.rate_per_tenant, file.rate_per_tenant, RateLimits::PER_TENANT),
        }
    }

    /// How many sockets may be open without having said who they are; at least one.
    pub fn strangers(&self, file: &File) -> StrangerLimits {
        let limit = |flag: Option<u32>, file: Option<NonZeroU32>, default| {
            flag.or(file.map(NonZeroU32::get)).unwrap_or(default)
        };
        StrangerLimits {
            sockets_max: limit(self.strangers, file.strangers, StrangerLimits::SOCKETS_MAX),
            per_address_max: limit(
                self.strangers_per_address,
                file.strangers_per_address,
                StrangerLimits::PER_ADDRESS_MAX,
            ),
        }
    }

    /// Who may ask what there is.
    pub fn introspection(&self, file: &File) -> Introspection {
        self.introspection.or(file.introspection).unwrap_or_default()
    }

    /// Where the public events go, if anywhere.
    pub fn nats(&self, file: &File) -> Option<RelayOptions> {
        let url = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
        let mut options = RelayOptions::new(&url(&self.nats_url).or_else(|| url(&file.nats_url))?);
        options.credentials = self.nats_credentials.clone().or_else(|| file.nats_credentials.clone());
        options.stream = self.nats_stream.clone().or_else(|| file.nats_stream.clone()).unwrap_or(options.stream);
        Some(options)
    }
}

/// The configuration file. Every key is optional.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// As `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// As `--database-url`.
    pub database_url: Option<String>,
    /// As `--listen`.
    pub listen: Option<SocketAddr>,
    /// As `--advertise`.
    pub advertise: Option<String>,
    /// As `--log`.
    pub log: Option<String>,
    /// As `--log-format`.
    pub log_format: Option<LogFormat>,
    /// As `--origins`.
    #[serde(default)]
    pub origins: Vec<String>,
    /// As `--trusted-proxies`.
    #[serde(default)]
    pub trusted_proxies: Vec<Network>,
    /// As `--rate-per-address`.
    pub rate_per_address: Option<u32>,
    /// As `--rate-per-account`.
    pub rate_per_account: Option<u32>,
    /// As `--rate-per-tenant`.
    pub rate_per_tenant: Option<u32>,
    /// As `--strangers`.
    pub strangers: Option<NonZeroU32>,
    /// As `--strangers-per-address`.
    pub strangers_per_address: Option<NonZeroU32>,
    /// As `--introspection`.
    pub introspection: Option<Introspection>,
    /// As `--nats-url`.
    pub nats_url: Option<String>,
    /// As `--nats-credentials`.
    pub nats_credentials: Option<PathBuf>,
    /// As `--nats-stream`.
    pub nats_stream: Option<String>,
    /// Who may come in.
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// How passwords are kept and how long sessions last.
    #[serde(default)]
    pub identity: IdentityFile,
}

/// The table `[identity]` of the file. Every key is optional; docs/identity.md tells what each is for.
#[derive(Deserialize, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct IdentityFile {
    pub argon2_memory_kib: Option<u32>,
    pub argon2_passes: Option<u32>,
    pub argon2_lanes: Option<u32>,
    pub hash_threads: Option<usize>,
    pub hash_queue: Option<usize>,
    pub access_token_s: Option<u32>,
    pub session_idle_s: Option<u32>,
    pub session_max_s: Option<u32>,
    pub signing_generation: Option<u32>,
}

impl IdentityFile {
    /// # Errors
    /// A sentence that names the key at fault.
    pub fn options(&self) -> Result<IdentityOptions, String> {
        let mut options = IdentityOptions::default();
        let seconds =
            |key: &str, told: Option<u32>, range: std::ops::RangeInclusive<u32>, default: TimeDelta| match told {
                None => Ok(default),
                Some(s) if range.contains(&s) => Ok(TimeDelta::seconds(i64::from(s))),
                Some(s) => Err(format!("identity.{key} is {s}; give {} to {} seconds", range.start(), range.end())),
            };
        const YEAR_S: u32 = 365 * 24 * 3_600;
        options.access_token = seconds("access_token_s", self.access_token_s, 10..=300, options.access_token)?;
        options.session_idle = seconds("session_idle_s", self.session_idle_s, 60..=YEAR_S, options.session_idle)?;
        options.session_max = seconds("session_max_s", self.session_max_s, 60..=YEAR_S, options.session_max)?;
        options.signing_generation = self.signing_generation.unwrap_or(options.signing_generation);
        let hash = &mut options.hash;
        hash.memory_kib = self.argon2_memory_kib.unwrap_or(hash.memory_kib);
        hash.passes = self.argon2_passes.unwrap_or(hash.passes);
        hash.lanes = self.argon2_lanes.unwrap_or(hash.lanes);
        hash.threads = self.hash_threads.unwrap_or(hash.threads);
        hash.queue_max = self.hash_queue.unwrap_or(hash.queue_max);
        if hash.threads == 0 || hash.queue_max == 0 {
            return Err("identity.hash_threads and identity.hash_queue are at least 1".to_owned());
        }
        Ok(options)
    }
}

/// A static bearer token.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The secret, at least 20 characters. Sent as `Authorization: Bearer <token>`.
    pub token: String,
    /// Id of the account or service that acts.
    pub actor: Uuid,
    #[serde(default = "account")]
    pub kind: ActorKind,
    /// The tenant it belongs to; left out for the platform itself.
    pub tenant: Option<Uuid>,
    /// Names of roles, e.g. `["tenantAdmin"]`.
    pub roles: Vec<String>,
}

fn account() -> ActorKind {
    ActorKind::Account
}

/// Shorter secrets can be guessed.
const TOKEN_CHARS_MIN: usize = 20;

impl Token {
    /// # Errors
    /// A sentence that names the key at fault.
    pub fn credential(&self) -> Result<Credential, String> {
        if self.token.chars().count() < TOKEN_CHARS_MIN {
            return Err(format!("tokens.token of actor {} is shorter than {TOKEN_CHARS_MIN} characters", self.actor));
        }
        let roles = self
            .roles
            .iter()
            .map(|name| {
                let known: Vec<&str> = Role::ALL.iter().map(|r| r.as_str()).collect();
                Role::from_name(name)
                    .ok_or_else(|| format!("tokens.roles: there is no role {name:?}; there are {}", known.join(", ")))
            })
            .collect::<Result<Vec<Role>, String>>()?;
        Ok(Credential::new(
            Actor { id: self.actor, kind: self.kind },
            self.tenant.map_or(PLATFORM_TENANT, TenantId),
            roles,
            None,
        ))
    }
}

/// Where things are, settled.
pub struct Settled {
    pub data_dir: PathBuf,
    pub database_url: Option<String>,
    pub log: String,
    pub log_format: LogFormat,
    /// The file that was read, if there was one.
    pub file_path: Option<PathBuf>,
    pub file: File,
}

impl Settled {
    pub fn keys_dir(&self) -> PathBuf {
        self.data_dir.join("keys")
    }

    pub fn checkpoints_dir(&self) -> PathBuf {
        self.data_dir.join("checkpoints")
    }
}

impl Common {
    /// Reads the file and lets flags and environment win over it.
    ///
    /// # Errors
    /// When a file was named and cannot be read, or has a key that does not exist.
    pub fn settle(&self) -> Result<Settled, String> {
        let fallback = self.data_dir.clone().unwrap_or_else(daybook_keeper::default_data_dir);
        let beside = fallback.join("daybook.toml");
        let file_path = self.config.clone().or_else(|| beside.exists().then_some(beside));
        let file = file_path.as_deref().map(read).transpose()?.unwrap_or_default();
        // An empty variable is what a compose file leaves of one that is not set.
        let url = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
        Ok(Settled {
            data_dir: self.data_dir.clone().or_else(|| file.data_dir.clone()).unwrap_or(fallback),
            database_url: url(&self.database_url).or_else(|| url(&file.database_url)),
            log: self.log.clone().or_else(|| file.log.clone()).unwrap_or_else(|| LOG.to_owned()),
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
            file_path,
            file,
        })
    }
}

fn read(path: &Path) -> Result<File, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("the configuration {} cannot be read: {e}", path.display()))?;
    parse(&text).map_err(|reason| format!("the configuration {} is wrong: {reason}", path.display()))
}

/// Reads the text of a configuration file. The error names line, key and remedy, and quotes no value: it
/// may be a secret.
pub fn parse(text: &str) -> Result<File, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        match unknown_key(error.message()) {
            Some((key, known)) => {
                let nearest = known.iter().max_by(|a, b| likeness(&key, a).total_cmp(&likeness(&key, b)));
                let hint = match nearest.filter(|near| likeness(&key, near) > 0.6) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", known.join(", ")),
                };
                format!("line {line}: there is no setting `{key}`: {hint}")
            }
            None => format!("line {line}: {}", without_values(error.message())),
        }
    })
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

/// The key and its possible names, from serde's `unknown field ..., expected one of ...`.
fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((key.to_owned(), known))
}

/// What serde quotes of a wrong value may be a token that stands in the wrong place.
fn without_values(message: &str) -> String {
    let mut parts = message.split('"');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        text.push_str(if number % 2 == 0 { "\"…\"" } else { part });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{File, parse};

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let error = parse("log = \"info\"\nlissten = \"127.0.0.1:1\"").unwrap_err();
        assert_eq!(error, "line 2: there is no setting `lissten`: did you mean `listen`?");
        let nested = parse("[[tokens]]\ntokn = \"x\"").unwrap_err();
        assert!(nested.ends_with("there is no setting `tokn`: did you mean `token`?"), "{nested}");
        let strange = parse("zzz = 1").unwrap_err();
        assert!(strange.contains("there are data_dir, database_url, "), "{strange}");
    }

    #[test]
    fn an_error_in_the_file_quotes_no_value() {
        for text in ["tokens = \"a-secret-of-mine\"", "listen = \"a-secret-of-mine\"", "origins = [\"a-secret-of-mine"]
        {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("line 1: ") && !error.contains("a-secret-of-mine"), "{error}");
        }
    }

    #[test]
    fn an_identity_setting_out_of_range_is_refused_by_name() {
        let options = |text: &str| parse(text).unwrap().identity.options();
        assert_eq!(options("").unwrap(), super::IdentityOptions::default());
        assert!(options("[identity]\naccess_token_s = 301").unwrap_err().contains("identity.access_token_s is 301"));
        assert!(options("[identity]\nhash_threads = 0").unwrap_err().contains("identity.hash_threads"));
        let error = parse("[identity]\nsession_idle = 1").unwrap_err();
        assert!(error.ends_with("did you mean `session_idle_s`?"), "{error}");
    }

    #[test]
    fn a_short_token_and_an_unknown_role_are_refused() {
        let text = "[[tokens]]\ntoken = \"short\"\nactor = \"00000000-0000-0000-0000-000000000001\"\nroles = [\"platformAdmin\"]";
        let file: File = toml::from_str(text).unwrap();
        assert!(file.tokens[0].credential().unwrap_err().contains("shorter"));
        let mut token = file.tokens[0].clone();
        token.token = "a".repeat(40);
        token.roles = vec!["emperor".into()];
        assert!(token.credential().unwrap_err().contains("emperor"));
    }
}
