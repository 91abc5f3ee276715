//! `daybook restore`: into a place that holds nothing yet, under a new incarnation.

use crate::backup::{self, CHECKPOINTS, DUMP, KEYS, Note};
use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use clap::Args;
use daybook_store::system::{Real, System};
use daybook_store::{DatabaseError, Role, schema};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    /// A directory that `daybook backup` made
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
}

/// A dump names the roles but does not make them.
const ROLES: &str = "
do $$
declare r text;
begin
    foreach r in array array['daybook_owner', 'daybook_writer', 'daybook_projector', 'daybook_reader'] loop
        if to_regrole(r) is null then
            execute format('create role %I nologin nosuperuser nobypassrls', r);
        end if;
        if not pg_has_role(current_user, r, 'member') then
            execute format('grant %I to current_user', r);
        end if;
    end loop;
end $$";

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    let from = &arguments.from;
    let note = Note::read(from)?;
    for directory in [settled.keys_dir(), settled.checkpoints_dir()] {
        if directory.exists() {
            let message =
                format!("{} is there already: restore into a data directory without one", directory.display());
            return Err(Failure::usage(message));
        }
    }
    let base = Base::open(&settled, true).await?;
    let done = fill(&settled, &base, from, &note).await;
    let closed = base.close().await;
    done?;
    closed
}

async fn fill(settled: &Settled, base: &Base, from: &Path, note: &Note) -> Result<(), Failure> {
    let query = |e| Failure::failed(&DatabaseError::Query(e));
    let client = base.database.connect(Role::Login, "").await.map_err(|e| Failure::database(&e))?;
    let empty: bool = client.query_one("select to_regnamespace('journal') is null", &[]).await.map_err(query)?.get(0);
    if !empty {
        return Err(Failure::usage("the database holds a journal already: restore into an empty one"));
    }
    client.batch_execute(ROLES).await.map_err(query)?;
    let programs = base.programs(&client).await;
    let dump = from.join(DUMP);
    let dump = dump.to_str().ok_or_else(|| Failure::usage("the backup's path is not UTF-8: move it"))?;
    let database = format!("--dbname={}", base.place.database);
    let arguments = ["--exit-on-error", "--single-transaction", &database, dump];
    backup::run("pg_restore", programs.as_deref(), &base.place, &arguments).await?;
    // Positions that clients hold may name events that this copy has not: none of them is accepted any more.
    client.execute("update journal.identity set incarnation_id = $1", &[&Real.uuid_v4()]).await.map_err(query)?;
    let restored = schema::identity(&client).await.map_err(|e| Failure::database(&e))?;
    if restored.journal_id != note.journal_id {
        return Err(Failure::verification(format!(
            "the dump holds journal {}, and backup.json names {}: it is not one backup",
            restored.journal_id, note.journal_id
        )));
    }
    let secrets = Secrets::ended(&client).await.map_err(query)?;
    drop(client);
    backup::copy(&from.join(CHECKPOINTS), &settled.checkpoints_dir())?;
    // Last, because nothing starts without them: a restore that broke off does not serve.
    backup::copy(&from.join(KEYS), &settled.keys_dir())?;
    let migrated = schema::migrate(&base.database, &Real).await.map_err(|e| Failure::schema(&e))?;
    println!(
        "Journal {} is restored from the backup of {}, as incarnation {}.",
        restored.journal_id, note.taken_at, migrated.identity.incarnation_id
    );
    secrets.tell(&note);
    println!("Now run `daybook verify`, then `daybook serve`, with the same --data-dir.");
    Ok(())
}

/// What lets people and machines in, as the backup had it.
struct Secrets {
    sessions: u64,
    passwords: i64,
    keys: i64,
}

impl Secrets {
    /// Ends all sessions of before: nobody has a refresh token any more, and access tokens are of another incarnation. What
    /// is to be done about the rest, nobody can know here: what was changed since is not in the backup.
    async fn ended(client: &tokio_postgres::Client) -> Result<Self, tokio_postgres::Error> {
        let sql = "select to_regclass('identity.refresh_tokens') is not null";
        if !client.query_one(sql, &[]).await?.get::<_, bool>(0) {
            // A backup of a time in which nobody logged in.
            return Ok(Secrets { sessions: 0, passwords: 0, keys: 0 });
        }
        let sessions = client.execute("delete from identity.refresh_tokens", &[]).await?;
        let sql = "select (select count(*) from identity.passwords), (select count(*) from identity.api_keys)";
        let left = client.query_one(sql, &[]).await?;
        Ok(Secrets { sessions, passwords: left.get(0), keys: left.get(1) })
    }

    fn tell(&self, note: &Note) {
        let Secrets { sessions, passwords, keys } = self;
        println!("{sessions} sessions of before have ended: everybody logs in again.");
        if passwords + keys > 0 {
            println!(
                "{passwords} passwords and {keys} API keys are as they were at {}. What was changed or taken away since is good again,\n\
                 so before anybody else comes in:\n  \
                 - give new passwords to those who have changed theirs since, or had to (setPassword);\n  \
                 - revoke again the keys that were revoked or rotated since (serviceAccounts, revokeApiKey);\n  \
                 - deactivate again accounts and service accounts, and end again memberships and roles, that ended since.",
                note.taken_at
            );
        }
    }
}
