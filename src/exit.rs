//! How a verb ends: a message for a person and an exit code for a program.

use daybook_store::DatabaseError;
use daybook_store::schema::SchemaError;
use std::error::Error;
use std::process::ExitCode;

/// 1 failed, 2 wrong usage, 3 verification failed, 4 unavailable.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { code: 2, message: message.into() }
    }

    pub fn verification(message: impl Into<String>) -> Self {
        Failure { code: 3, message: message.into() }
    }

    /// Something that is not there at the moment, with its chain of causes.
    pub fn unavailable(error: &dyn Error) -> Self {
        Failure { code: 4, message: chain(error) }
    }

    /// What can be wrong with a database, said so that it can be put right.
    pub fn schema(error: &SchemaError) -> Self {
        match error {
            SchemaError::Database(error) => Failure::database(error),
            SchemaError::Migration(_) => Failure::failed(error),
            SchemaError::Roles(_) | SchemaError::Newer { .. } => Failure::unavailable(error),
        }
    }

    /// As [`Failure::schema`].
    pub fn database(error: &DatabaseError) -> Self {
        let DatabaseError::Connect { source, .. } = error else {
            return match error {
                DatabaseError::Query(_) => Failure::failed(error),
                DatabaseError::Url(_) => Failure::usage(error.to_string()),
                DatabaseError::Connect { .. }
                | DatabaseError::Busy(_)
                | DatabaseError::Lost
                | DatabaseError::Unsuitable(_) => Failure::unavailable(error),
            };
        };
        // The server answered, and refused.
        let Some(refusal) = source.as_db_error() else { return Failure::unavailable(error) };
        let remedy = match refusal.code().code() {
            "28P01" | "28000" => "correct the user or the password in DATABASE_URL",
            "3D000" => "create that database, or correct its name in DATABASE_URL",
            "53300" => "let the server take more connections (max_connections)",
            "57P03" => "it is starting or stopping: try again",
            _ => "correct DATABASE_URL or the server's settings",
        };
        Failure { code: 4, message: format!("PostgreSQL refuses the login: {}: {remedy}", refusal.message()) }
    }

    pub fn failed(error: &dyn Error) -> Self {
        Failure { code: 1, message: chain(error) }
    }

    pub fn report(self) -> ExitCode {
        eprintln!("daybook: {}", self.message);
        ExitCode::from(self.code)
    }
}

/// An error and what caused it, one sentence.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
