//! `daybook admin`

use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use clap::{Args, Subcommand};
use daybook_api::node::{self, Link};
use daybook_app::identity::heard::Heard;
use daybook_app::identity::passwords::Password;
use daybook_app::identity::{Identity, IdentityOptions, IdentityParts, LoginError};
use daybook_app::{Call, Credential, ExecuteError, Executor, authorize};
use daybook_domain::platform::{Account, AccountCommand, AccountError, PlatformRole};
use daybook_domain::value::{EmailAddress, Name};
use daybook_domain::{AccountId, Actor, ActorKind, PLATFORM_TENANT, Personal, Role as DomainRole, SubjectId};
use daybook_store::access::{AccessLog, AccessOptions};
use daybook_store::identity::Secrets;
use daybook_store::journal::{AppendError, BY_KEY, Journal, JournalOptions};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, SharedSystem};
use daybook_store::{Role, schema};
use std::io::{BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a writer is waited for: the lease of one that died, and some more.
const READY_MAX: Duration = Duration::from_secs(15);
/// Bytes of a password file.
const FILE_BYTES_MAX: u64 = 64 * 1_024;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make an account with a password that may do everything on the platform
    Create {
        /// The e-mail address to log in with
        #[arg(long, value_name = "ADDRESS")]
        email: String,
        /// The person's name [default: the address up to the @]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// A file whose first line is the password; - for standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    let What::Create { email, name, password_file } = &arguments.what;
    let email = EmailAddress::parse(email).map_err(|e| Failure::usage(format!("--email: {e}")))?;
    let fallback = email.as_str().split('@').next().unwrap_or_default();
    let name = Name::parse(name.as_deref().unwrap_or(fallback)).map_err(|e| Failure::usage(format!("--name: {e}")))?;
    let options = settled.file.identity.options().map_err(Failure::usage)?;
    // Before anything is started: who mistypes it starts again at once.
    let password =
        Password::parse(&["password"], password(password_file.as_ref())?).map_err(|e| Failure::usage(e.to_string()))?;
    let account =
        Base::with(&settled, async |base| create(&settled, base, options, email, name, password).await).await?;
    println!("The account {account} administers the platform. Log in with its e-mail address and password.");
    Ok(())
}

/// Takes part in the journal for a moment: as its writer where nobody writes, else as a node that hands over.
async fn create(
    settled: &Settled,
    base: &Base,
    options: IdentityOptions,
    email: EmailAddress,
    name: Name,
    password: Password,
) -> Result<AccountId, Failure> {
    let system: SharedSystem = Arc::new(Real);
    let database = &base.database;
    let migrated = schema::migrate(database, &Real).await.map_err(|e| Failure::schema(&e))?;
    let signer_name = format!("daybook/{}", migrated.identity.journal_id);
    let files =
        KeyFiles::open(&settled.keys_dir(), migrated.empty, &signer_name, &Real).map_err(|e| Failure::failed(&e))?;
    let files = Arc::new(files);
    let keys = Arc::new(KeyStore::new(database.pool(Role::Writer, 1, BY_KEY), files.clone(), system.clone()));
    let sealer = Sealer::new(keys, system.clone());
    let mut journal_options = JournalOptions::new(system.uuid_v7());
    journal_options.pool_size = 2;
    let node_key = files.derive(&node::key_purpose(&migrated.identity));
    let link = Link::new(node_key, system.clone()).map_err(|e| Failure::failed(&e))?;
    journal_options.forward = Some(Arc::new(link));
    let (journal, writer) = Journal::start(database, system.clone(), journal_options);
    let heard = Arc::new(Heard::default());
    let executor = Executor::new(journal.clone(), sealer, files.clone(), system.clone()).heard_by(heard.clone());
    let (access, accessing) =
        AccessLog::start(database, system.clone(), files.derive("daybook access log v1"), AccessOptions::default());
    let identity = Identity::new(IdentityParts {
        executor: executor.clone(),
        heard,
        secrets: Secrets::new(database.pool(Role::Writer, 1, BY_KEY)),
        access: access.clone(),
        journal: migrated.identity,
        options,
    })
    .map_err(|e| Failure::usage(e.to_string()))?;
    let done = async {
        journal.ready(Instant::now() + READY_MAX).await.map_err(|e| Failure {
            code: 4,
            message: format!("{e}: start the server, or stop whatever else uses this database, and try again"),
        })?;
        let id = AccountId(system.uuid_v7());
        administrate(&executor, &identity, id, email, name, password).await.map(|()| id)
    }
    .await;
    journal.shutdown().await;
    // One that does not write has nothing to drain.
    let _ = tokio::time::timeout(READY_MAX, writer).await;
    access.shutdown();
    let _ = tokio::time::timeout(READY_MAX, accessing).await;
    done
}

/// The password last: until then, nobody can log in.
async fn administrate(
    executor: &Executor,
    identity: &Identity,
    id: AccountId,
    email: EmailAddress,
    name: Name,
    password: Password,
) -> Result<(), Failure> {
    // Only who can write to the database itself and reads its keys comes so far.
    let actor = Actor { id: Uuid::new_v5(&PLATFORM_TENANT.0, b"daybook admin"), kind: ActorKind::System };
    let credential = Credential::new(actor, PLATFORM_TENANT, vec![DomainRole::PlatformAdmin], None);
    let subject = SubjectId(id.0);
    let register =
        AccountCommand::Register { email: Personal::known(subject, email), name: Personal::known(subject, name) };
    let role = AccountCommand::GrantPlatformRole { role: PlatformRole::PlatformAdmin };
    for command in [register, role] {
        let authorized = authorize(&credential, PLATFORM_TENANT, command).map_err(|e| Failure::failed(&e))?;
        executor.execute::<Account>(authorized, id.0, Call::default()).await.map_err(|e| refused(&e))?;
    }
    match identity.set_password(&credential, id, password, Call::default()).await {
        Ok(_) => Ok(()),
        Err(LoginError::Account(error)) => Err(refused(&error)),
        Err(error) => Err(Failure::failed(&error)),
    }
}

fn refused(error: &ExecuteError<AccountError>) -> Failure {
    match error {
        ExecuteError::Append(AppendError::KeyTaken { .. }) => Failure {
            code: 1,
            message: "there is an account with this e-mail address already: give another address with --email, or use the mutations grantPlatformAdmin and setPassword (the token in admin.token of the data directory may)".into(),
        },
        ExecuteError::Append(AppendError::Unavailable(_) | AppendError::Overloaded) => Failure::unavailable(error),
        other => Failure::failed(other),
    }
}

/// From the file, from a person who is asked twice, or from standard input.
fn password(file: Option<&PathBuf>) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    match file {
        Some(path) if path.as_os_str() != "-" => {
            let failed = |why: String| Failure::usage(format!("--password-file {}: {why}", path.display()));
            let size = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
            if size > FILE_BYTES_MAX {
                return Err(failed("a password file has one line".into()));
            }
            let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
            Ok(text.lines().next().unwrap_or_default().to_owned())
        }
        None if stdin.is_terminal() => {
            let (first, second) = (asked("Password: ")?, asked("Once more: ")?);
            if first == second { Ok(first) } else { Err(Failure::usage("the two passwords are not the same")) }
        }
        _ => line(),
    }
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| Failure::usage(format!("standard input: {e}")))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks without showing what is typed.
fn asked(prompt: &str) -> Result<String, Failure> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let failed = |e: std::io::Error| Failure::failed(&e);
    let stdin = std::io::stdin();
    eprint!("{prompt}");
    std::io::stderr().flush().map_err(failed)?;
    let before = tcgetattr(stdin.as_fd()).map_err(|e| failed(e.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(stdin.as_fd(), OptionalActions::Flush, &silent).map_err(|e| failed(e.into()))?;
    let read = line();
    tcsetattr(stdin.as_fd(), OptionalActions::Flush, &before).map_err(|e| failed(e.into()))?;
    eprintln!();
    read
}
