//! How a verb ends: a message for a person and an exit code for a program.

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
