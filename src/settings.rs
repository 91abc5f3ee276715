//! Every setting once: its names, and which value is in force from where. `daybook config` prints it.
//!
//! Shows no secret, ever: a token is counted, a password in a URL is masked.

use crate::config::{File, IdentityFile, Serving, Settled};
use clap::ArgMatches;
use clap::parser::ValueSource;
use daybook_app::identity::IdentityOptions;
use daybook_bus::RelayOptions;
use std::num::NonZeroU32;

/// A setting and its value in force.
#[derive(Debug, serde::Serialize)]
pub struct Setting {
    /// Its key in the file.
    pub key: &'static str,
    /// Its flag; none where the file alone can say it.
    pub flag: Option<&'static str>,
    pub environment: Option<&'static str>,
    pub value: String,
    pub source: Source,
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Flag,
    Environment,
    File,
    Default,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Flag => "flag",
            Source::Environment => "environment",
            Source::File => "file",
            Source::Default => "default",
        }
    }
}

/// What is in force. `matches`: of the program and, when a verb has settings of its own, of that verb.
pub fn effective(settled: &Settled, serving: &Serving, matches: &[&ArgMatches]) -> Vec<Setting> {
    let file = &settled.file;
    let setting = |key: &'static str, environment: &'static str, value: String, in_file: bool| Setting {
        key,
        flag: Some(key),
        environment: Some(environment),
        value,
        source: source(matches, key, in_file),
    };
    let file_only = |key: &'static str, value: String, in_file: bool| Setting {
        key,
        flag: None,
        environment: None,
        value,
        source: if in_file { Source::File } else { Source::Default },
    };
    let File { data_dir, database_url, listen, log, log_format, origins, trusted_proxies, tokens, .. } = file;
    let File { advertise, nats_url, nats_credentials, nats_stream, identity, .. } = file;
    let File {
        rate_per_address,
        rate_per_account,
        rate_per_tenant,
        strangers,
        strangers_per_address,
        introspection,
        ..
    } = file;
    let stranger = serving.strangers(file);
    let rates = serving.rates(file);
    let rate = |limit: Option<NonZeroU32>| limit.map_or("(none)".to_owned(), |rate| rate.to_string());
    let relay = serving.nats(file);
    let url = settled.database_url.as_deref().map_or("(the private PostgreSQL)".to_owned(), masked);
    vec![
        setting("data_dir", "DAYBOOK_DATA_DIR", settled.data_dir.display().to_string(), data_dir.is_some()),
        setting("database_url", "DATABASE_URL", url, database_url.is_some()),
        setting(
            "config",
            "DAYBOOK_CONFIG",
            settled.file_path.as_ref().map_or("(none)".to_owned(), |path| path.display().to_string()),
            false,
        ),
        setting("log", "DAYBOOK_LOG", settled.log.clone(), log.is_some()),
        setting("log_format", "DAYBOOK_LOG_FORMAT", settled.log_format.to_string(), log_format.is_some()),
        setting("listen", "DAYBOOK_LISTEN", serving.listen(file).to_string(), listen.is_some()),
        setting(
            "advertise",
            "DAYBOOK_ADVERTISE",
            serving.advertise(file).unwrap_or_else(|| "(as listen)".to_owned()),
            advertise.is_some(),
        ),
        setting("origins", "DAYBOOK_ORIGINS", list(&serving.origins(file)), !origins.is_empty()),
        setting(
            "trusted_proxies",
            "DAYBOOK_TRUSTED_PROXIES",
            list(&serving.trusted_proxies(file)),
            !trusted_proxies.is_empty(),
        ),
        setting("rate_per_address", "DAYBOOK_RATE_PER_ADDRESS", rate(rates.per_address), rate_per_address.is_some()),
        setting("rate_per_account", "DAYBOOK_RATE_PER_ACCOUNT", rate(rates.per_account), rate_per_account.is_some()),
        setting("rate_per_tenant", "DAYBOOK_RATE_PER_TENANT", rate(rates.per_tenant), rate_per_tenant.is_some()),
        setting("strangers", "DAYBOOK_STRANGERS", stranger.sockets_max.to_string(), strangers.is_some()),
        setting(
            "strangers_per_address",
            "DAYBOOK_STRANGERS_PER_ADDRESS",
            stranger.per_address_max.to_string(),
            strangers_per_address.is_some(),
        ),
        setting(
            "introspection",
            "DAYBOOK_INTROSPECTION",
            serving.introspection(file).as_str().to_owned(),
            introspection.is_some(),
        ),
        setting(
            "nats_url",
            "NATS_URL",
            relay.as_ref().map_or("(none)".to_owned(), |o| format!("nats://{}", o.place())),
            nats_url.is_some(),
        ),
        setting(
            "nats_credentials",
            "DAYBOOK_NATS_CREDENTIALS",
            relay
                .as_ref()
                .and_then(|o| o.credentials.as_ref())
                .map_or("(none)".to_owned(), |path| path.display().to_string()),
            nats_credentials.is_some(),
        ),
        setting(
            "nats_stream",
            "DAYBOOK_NATS_STREAM",
            relay.as_ref().map_or(RelayOptions::STREAM, |o| &o.stream).to_owned(),
            nats_stream.is_some(),
        ),
        file_only(
            "tokens",
            if tokens.is_empty() { "(admin.token)".to_owned() } else { format!("({} tokens)", tokens.len()) },
            !tokens.is_empty(),
        ),
        file_only(
            "identity",
            identity.options().map_or_else(|wrong| format!("({wrong})"), |options| told(&options)),
            *identity != IdentityFile::default(),
        ),
    ]
}

/// What holds of passwords and sessions, in short.
fn told(options: &IdentityOptions) -> String {
    let IdentityOptions { hash, access_token, session_idle, session_max, signing_generation, .. } = options;
    format!(
        "argon2id m={} t={} p={}, {} at once, {} waiting; access tokens {} s, sessions {} s idle, {} s at most; keys {signing_generation}",
        hash.memory_kib,
        hash.passes,
        hash.lanes,
        hash.threads,
        hash.queue_max,
        access_token.num_seconds(),
        session_idle.num_seconds(),
        session_max.num_seconds(),
    )
}

/// The name of a setting's flag.
pub fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

fn source(matches: &[&ArgMatches], id: &str, in_file: bool) -> Source {
    // Asking for the source of an id that a verb has not would be a panic.
    let told = matches.iter().find_map(|m| m.ids().find(|known| known.as_str() == id).and_then(|_| m.value_source(id)));
    match told {
        Some(ValueSource::CommandLine) => Source::Flag,
        Some(ValueSource::EnvVariable) => Source::Environment,
        _ if in_file => Source::File,
        _ => Source::Default,
    }
}

fn list<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        return "(none)".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A connection string without its password, in either of its forms.
fn masked(url: &str) -> String {
    if let Some((scheme, rest)) = url.split_once("://") {
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // A password may hold an @ of its own.
        let masked = match authority.rsplit_once('@') {
            Some((login, host)) => match login.split_once(':') {
                Some((user, _)) => format!("{user}:***@{host}"),
                None => format!("{login}@{host}"),
            },
            None => authority.to_owned(),
        };
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let query = query.map_or(String::new(), |query| {
            if query.contains("password") { "?***".to_owned() } else { format!("?{query}") }
        });
        return format!("{scheme}://{masked}{path}{query}");
    }
    if url.contains("password") { "(a connection string with a password)".to_owned() } else { url.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Common, LISTEN, LOG, parse};
    use clap::{Args, Command, FromArgMatches};

    fn effective_of(arguments: &[&str], file: &str) -> Vec<Setting> {
        let command = Serving::augment_args(Common::augment_args(Command::new("daybook")));
        let matches = command.get_matches_from(arguments);
        let common = Common::from_arg_matches(&matches).unwrap();
        let serving = Serving::from_arg_matches(&matches).unwrap();
        let mut settled = common.settle().unwrap();
        settled.file = parse(file).unwrap();
        effective(&settled, &serving, &[&matches])
    }

    #[test]
    fn every_key_of_the_file_is_shown_and_documented() {
        let error = parse("zzz = 1").unwrap_err();
        let (_, known) = error.split_once("there are ").unwrap();
        let shown = effective_of(&["daybook"], "");
        for key in known.split(", ") {
            assert!(shown.iter().any(|s| s.key == key), "`daybook config` does not show {key}");
        }
        let guide = include_str!("../docs/operations.md");
        for setting in shown {
            assert!(
                guide.contains(&format!("| `{}` |", setting.key)),
                "docs/operations.md does not tell {}",
                setting.key
            );
            for name in setting.environment.map(str::to_owned).into_iter().chain(setting.flag.map(flag)) {
                assert!(guide.contains(&format!("`{name}`")), "docs/operations.md does not tell {name}");
            }
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_says_so() {
        let shown = effective_of(
            &["daybook", "--listen", "127.0.0.1:9", "--data-dir", "/nowhere"],
            "listen = \"127.0.0.1:8\"\nlog = \"warn\"\norigins = [\"https://a.example\"]",
        );
        let of = |key: &str| shown.iter().find(|s| s.key == key).map(|s| (s.value.as_str(), s.source));
        assert_eq!(of("listen"), Some(("127.0.0.1:9", Source::Flag)));
        assert_eq!(of("origins"), Some(("https://a.example", Source::File)));
        assert_eq!(of("log_format"), Some(("auto", Source::Default)));
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(masked("postgres://u:p@ss:w@db:5432/daybook"), "postgres://u:***@db:5432/daybook");
        assert_eq!(masked("postgres://u@db/daybook?sslmode=off"), "postgres://u@db/daybook?sslmode=off");
        assert_eq!(masked("postgres://db/daybook?password=secret"), "postgres://db/daybook?***");
        assert!(!masked("host=db password=secret").contains("secret"));
    }

    #[test]
    fn the_defaults_are_what_the_guide_says() {
        let guide = include_str!("../docs/operations.md");
        assert!(guide.contains(&format!("`{LISTEN}`")) && guide.contains(&format!("`{LOG}`")));
    }
}
