//! Why there are no latencies.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum LatencyError {
    #[error(transparent)]
    Serve(#[from] daybook_testing::serve::ServeError),
    #[error("{path} cannot be prepared")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("the program cannot be asked")]
    Http(#[from] reqwest::Error),
    #[error("the program answered with an error: {0}")]
    Refused(String),
    #[error("the program's answer is not what was asked for: {0}")]
    Unexpected(String),
    #[error("{0} mutations are unanswered at once: the program cannot keep up, lower --rate")]
    TooSlow(usize),
    #[error("so many readings do not fit between 2000 and today: lower --seconds or --rate, or raise --devices")]
    TooLong,
    #[error("a task ended early")]
    Task(#[from] tokio::task::JoinError),
    #[error("a socket failed")]
    Socket(#[from] Box<tokio_tungstenite::tungstenite::Error>),
    #[error("{0} ended before everything had arrived")]
    Ended(&'static str),
    #[error("NATS does not {what}")]
    Nats { what: &'static str, source: async_nats::Error },
    #[error("{missing} of {of} events did not arrive at {place}, event {first} the first")]
    Missing { place: &'static str, missing: usize, of: usize, first: usize },
    #[error("event {event} arrived twice at {place}")]
    Twice { place: &'static str, event: usize },
    #[error("{place} told of a reading that was not sent: {what}")]
    Strange { place: &'static str, what: String },
    #[error("event {event} has another position at {place} than in its mutation's answer")]
    OtherPosition { place: &'static str, event: usize },
    #[error("event {event} came to {place} after one that was recorded later")]
    OutOfOrder { place: &'static str, event: usize },
    #[error("interrupted")]
    Interrupted,
}

impl From<tokio_tungstenite::tungstenite::Error> for LatencyError {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        LatencyError::Socket(Box::new(error))
    }
}
