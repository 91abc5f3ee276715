//! Configuration: flag over environment over file over default. Unknown keys in the file are refused.

use clap::Args;
use daybook_app::Credential;
use daybook_domain::{Actor, ActorKind, PLATFORM_TENANT, Role, TenantId};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What every verb needs: where the data is.
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
    /// What to log, e.g. `info` or `daybook_store=debug`
    #[arg(long, env = "DAYBOOK_LOG", global = true, default_value = "info", value_name = "FILTER")]
    pub log: String,
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
    /// Origins of web pages that may open a WebSocket, e.g. `https://app.example.com`.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Who may come in.
    #[serde(default)]
    pub tokens: Vec<Token>,
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
        Ok(Credential {
            actor: Actor { id: self.actor, kind: self.kind },
            tenant: self.tenant.map_or(PLATFORM_TENANT, TenantId),
            roles,
            session: None,
        })
    }
}

/// Where things are, settled.
pub struct Settled {
    pub data_dir: PathBuf,
    pub database_url: Option<String>,
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
        let file = match &self.config {
            Some(path) => read(path)?,
            None => {
                let path = fallback.join("daybook.toml");
                if path.exists() { read(&path)? } else { File::default() }
            }
        };
        Ok(Settled {
            data_dir: self.data_dir.clone().or_else(|| file.data_dir.clone()).unwrap_or(fallback),
            database_url: self.database_url.clone().or_else(|| file.database_url.clone()),
            file,
        })
    }
}

fn read(path: &Path) -> Result<File, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("the configuration {} cannot be read: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("the configuration {} is wrong: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::File;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = toml::from_str::<File>("lissten = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(error.contains("lissten"), "{error}");
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
