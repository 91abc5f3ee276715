//! The configuration of the server: what it is tuned for, and what nobody may change.
//!
//! It lives outside the cluster, so that the cluster's user cannot make root write elsewhere through a link,
//! and so that a change is seen by comparing files. What safety depends on is given on the command line as
//! well, where neither this file nor `ALTER SYSTEM` can overrule it.

use std::fmt::Write as _;
use std::path::Path;

use crate::account::Account;
use crate::error::KeeperError;
use crate::place::{Place, ensure_directory, write_whole};

/// Changing one of these would lose acknowledged writes, open the server, or hide it from its keeper.
const FIXED: [&str; 27] = [
    "bonjour",
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "fsync",
    "full_page_writes",
    "hba_file",
    "ident_file",
    "ignore_checksum_failure",
    "include",
    "include_dir",
    "include_if_exists",
    "lc_messages",
    "listen_addresses",
    "log_destination",
    "log_directory",
    "log_file_mode",
    "log_filename",
    "log_rotation_age",
    "log_rotation_size",
    "logging_collector",
    "port",
    "synchronous_commit",
    "unix_socket_directories",
    "unix_socket_permissions",
    "zero_damaged_pages",
];

/// One log file; `log::FILES_MAX` of them are kept.
const LOG_FILE_KB: u32 = 10 * 1024;

/// Whether the user's own settings may be used, before anything is touched.
pub(crate) fn check(settings: &[(String, String)]) -> Result<(), KeeperError> {
    for (name, value) in settings {
        let refuse = |reason: &str| Err(KeeperError::Setting { name: name.clone(), reason: reason.into() });
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            return refuse("a name consists of letters, digits, underscores and dots");
        }
        if FIXED.contains(&lower.as_str()) {
            return refuse("the keeper sets it, because durability, privacy or the keeping itself depend on it");
        }
        if value.chars().any(char::is_control) {
            return refuse("its value contains a line break or another control character");
        }
    }
    Ok(())
}

/// Writes the configuration files; tells whether a server that runs already has an older configuration.
pub(crate) fn write(place: &Place, account: &Account, settings: &[(String, String)]) -> Result<bool, KeeperError> {
    let (directory_mode, file_mode) = if account.is_other() { (0o755, 0o644) } else { (0o700, 0o600) };
    ensure_directory(&place.server, directory_mode)?;
    let hba = place.server.join("pg_hba.conf");
    let ident = place.server.join("pg_ident.conf");
    let changed = [
        write_whole(&hba, HBA, file_mode)?,
        write_whole(&ident, "", file_mode)?,
        write_whole(&place.config_file(), &render(place, &hba, &ident, settings), file_mode)?,
    ];
    Ok(changed.contains(&true))
}

const HBA: &str = "\
# Written at every start. Who reaches the socket is root or the server's user: its directory is private.
local  all          all  trust
local  replication  all  trust
";

fn render(place: &Place, hba: &Path, ident: &Path, settings: &[(String, String)]) -> String {
    let mut text = String::from("# Written at every start: changes made here are lost.\n");
    let mut set = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = {}", quote(value));
    };
    set("hba_file", &hba.to_string_lossy());
    set("ident_file", &ident.to_string_lossy());
    set("cluster_name", "daybook");
    set("listen_addresses", "");
    set("unix_socket_permissions", "0700");
    set("max_connections", "100");

    set("shared_buffers", "256MB");
    set("wal_level", "replica");
    set("synchronous_commit", "on");
    // The journal writes in bursts; rarer checkpoints mean fewer full pages in the log of changes.
    set("max_wal_size", "2GB");
    set("checkpoint_timeout", "15min");
    set("random_page_cost", "1.1");
    // Compiling costs more than the short queries of projections take.
    set("jit", "off");

    for name in ["lc_messages", "lc_monetary", "lc_numeric", "lc_time"] {
        set(name, "C");
    }
    set("datestyle", "iso, ymd");
    set("timezone", "UTC");
    set("log_timezone", "UTC");

    set("log_destination", "stderr");
    set("logging_collector", "on");
    set("log_directory", &place.log.to_string_lossy());
    set("log_filename", "postgresql-%Y%m%d-%H%M%S.log");
    set("log_file_mode", "0600");
    set("log_rotation_age", "0");
    set("log_rotation_size", &format!("{LOG_FILE_KB}kB"));
    set("log_line_prefix", "%m [%p] %q%u@%d ");
    // Details and statements of errors hold the values of rows, which have no business in a log.
    set("log_error_verbosity", "terse");
    set("log_min_error_statement", "panic");

    for (name, value) in settings {
        set(name, value);
    }
    text
}

/// What cannot be overruled: `-c` of the command line wins over every file.
pub(crate) fn command_line(config_file: &Path, socket_dir: &Path, port: u16) -> Vec<String> {
    let options = [
        format!("config_file={}", config_file.display()),
        "fsync=on".into(),
        "full_page_writes=on".into(),
        "listen_addresses=".into(),
        format!("unix_socket_directories={}", quote_directory(socket_dir)),
        format!("port={port}"),
    ];
    options.into_iter().flat_map(|option| ["-c".to_owned(), option]).collect()
}

fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

/// The setting is a list: without the quotes a comma would make two directories of one.
fn quote_directory(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, value: &str) -> String {
        check(&[(name.into(), value.into())]).expect_err("refused").to_string()
    }

    #[test]
    fn what_durability_and_privacy_depend_on_is_refused_by_name() {
        for name in FIXED {
            let message = refusal(&name.to_uppercase(), "x");
            assert!(message.contains(&name.to_uppercase()), "{message}");
        }
    }

    #[test]
    fn a_value_cannot_smuggle_in_another_setting() {
        assert!(refusal("work_mem", "4MB\nfsync = off").contains("line break"));
        assert!(refusal("work_mem = 1\nfsync", "off").contains("letters"));
        assert_eq!(quote(r"it's \ here"), r"'it''s \\ here'");
    }

    #[test]
    fn ordinary_settings_pass() {
        check(&[("shared_buffers".into(), "64MB".into()), ("auto_explain.log_analyze".into(), "on".into())])
            .expect("allowed");
    }

    #[test]
    fn a_comma_or_a_quote_in_the_socket_directory_stays_one_directory() {
        assert_eq!(quote_directory(Path::new("/a, b/\"c\"")), "\"/a, b/\"\"c\"\"\"");
    }
}
