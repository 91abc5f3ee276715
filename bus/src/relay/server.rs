//! The message server: connecting to it, and the stream that the relay publishes into.
//!
//! Makes the stream when there is none. Refuses to change one that is there: somebody may have set its
//! limits on purpose.

use super::checkpoint::StreamKey;
use super::{RelayError, RelayOptions, chain};
use async_nats::jetstream::context::{
    CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{Config, Info, RawMessageErrorKind, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, ConnectOptions, Event, jetstream};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// What the stream takes.
pub const SUBJECTS: &str = "daybook.>";
/// Within it the server itself recognises a message that is sent twice.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For requests and acknowledgements.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages behind the checkpoint that are looked at before going on; far more than can be unacknowledged.
const LOOK_BACK_MAX: u64 = 65_536;
const NO_JETSTREAM: [ErrorCode; 2] = [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT];
const LOOK_BACK_AT_ONCE: usize = 64;

/// A connection that does not mend itself: after a break nothing that was on its way may be sent late,
/// behind what comes after it.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    pub(super) lost: watch::Receiver<bool>,
}

impl Link {
    pub(super) async fn open(options: &RelayOptions) -> Result<Link, RelayError> {
        let (gone, lost) = watch::channel(false);
        let mut connect = ConnectOptions::new()
            .name("daybook relay")
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(ANSWER_TIMEOUT))
            .max_reconnects(1)
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    gone.send_replace(true);
                }
                std::future::ready(())
            });
        if let Some(path) = &options.credentials {
            connect = connect
                .credentials_file(path)
                .await
                .map_err(|source| RelayError::Credentials { path: path.clone(), source })?;
        }
        let client = connect
            .connect(options.url.as_str())
            .await
            .map_err(|e| RelayError::Connect { place: options.place(), reason: chain(&e) })?;
        let jetstream = jetstream::context::ContextBuilder::new().timeout(ANSWER_TIMEOUT).build(client.clone());
        Ok(Link { client, jetstream, lost })
    }
}

/// The stream, found or made.
pub(super) struct Target {
    pub(super) stream: Stream<Info>,
    pub(super) key: StreamKey,
    pub(super) made: bool,
    /// Where it differs from what the relay would make.
    pub(super) differs: Vec<&'static str>,
}

pub(super) fn wanted(name: &str) -> Config {
    Config {
        name: name.to_owned(),
        subjects: vec![SUBJECTS.to_owned()],
        duplicate_window: DUPLICATE_WINDOW,
        storage: StorageType::File,
        num_replicas: 1,
        description: Some("Events of Daybook, as CloudEvents".to_owned()),
        ..Config::default()
    }
}

pub(super) async fn target(jetstream: &Context, name: &str) -> Result<Target, RelayError> {
    let server = |what, reason| RelayError::Server { what, reason };
    let (stream, made) = match jetstream.get_stream(name).await {
        Ok(stream) => (stream, false),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                let created = jetstream.create_stream(wanted(name)).await.map_err(|error| match error.kind() {
                    CreateStreamErrorKind::JetStream(e) if e.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP => {
                        RelayError::Taken { stream: name.to_owned() }
                    }
                    _ => server("make the stream", chain(&error)),
                })?;
                (created, true)
            }
            GetStreamErrorKind::JetStream(e) if NO_JETSTREAM.contains(&e.error_code()) => {
                return Err(RelayError::NoJetStream);
            }
            GetStreamErrorKind::JetStream(e) => return Err(server("tell of the stream", e.to_string())),
            _ if is_unanswered(&error) => return Err(RelayError::NoJetStream),
            _ => return Err(server("tell of the stream", chain(&error))),
        },
    };
    let info = stream.cached_info();
    let unfit = unfit(&info.config);
    if !unfit.is_empty() {
        return Err(RelayError::Foreign { stream: name.to_owned(), reason: unfit });
    }
    let differs = if made { Vec::new() } else { differences(&info.config) };
    let key = StreamKey { name: name.to_owned(), created: info.created.unix_timestamp_nanos().to_string() };
    Ok(Target { stream, key, made, differs })
}

/// Nobody listens where JetStream would.
fn is_unanswered(error: &GetStreamError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<RequestError>());
    source.is_some_and(|error| error.kind() == RequestErrorKind::NoResponders)
}

/// Why nothing can be published into a stream like this.
fn unfit(config: &Config) -> String {
    if !config.subjects.iter().any(|subject| subject == SUBJECTS || subject == ">") {
        return format!("it takes {} instead of {SUBJECTS}", config.subjects.join(", "));
    }
    match config {
        Config { no_ack: true, .. } => "it acknowledges nothing".to_owned(),
        Config { sealed: true, .. } => "it is sealed".to_owned(),
        Config { mirror: Some(_), .. } => "it mirrors another stream".to_owned(),
        _ => String::new(),
    }
}

fn differences(config: &Config) -> Vec<&'static str> {
    let is_limited = config.max_bytes > 0 || config.max_messages > 0 || config.max_messages_per_subject > 0;
    let differs = [
        (config.subjects != [SUBJECTS], "subjects"),
        (config.duplicate_window < DUPLICATE_WINDOW, "duplicate window"),
        (config.storage != StorageType::File, "storage"),
        (is_limited || !config.max_age.is_zero(), "limits"),
    ];
    differs.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect()
}

/// Ids and sequences of the messages after a sequence: published, but perhaps not yet noted in a checkpoint.
pub(super) async fn after(target: &Target, sequence: u64) -> Result<HashMap<Uuid, u64>, RelayError> {
    let last = target.stream.cached_info().state.last_sequence;
    let first = (sequence + 1).max(last.saturating_sub(LOOK_BACK_MAX) + 1);
    let found = stream::iter(first..=last).map(|sequence| async move {
        match target.stream.get_raw_message(sequence).await {
            Ok(message) => {
                let id = message.headers.get(async_nats::header::NATS_MESSAGE_ID);
                // Another publisher's message has an id of another kind, or none.
                Ok(id.and_then(|id| id.as_str().parse().ok()).map(|id: Uuid| (id, sequence)))
            }
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                // Purged or expired.
                RawMessageErrorKind::JetStream(e) if e.code() == 404 => Ok(None),
                _ => Err(RelayError::Server { what: "show a message", reason: chain(&error) }),
            },
        }
    });
    let found: Vec<Option<(Uuid, u64)>> = found.buffered(LOOK_BACK_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_as_the_relay_makes_it_fits_and_differs_in_nothing() {
        assert_eq!(unfit(&wanted("DAYBOOK")), "");
        assert_eq!(differences(&wanted("DAYBOOK")), Vec::<&str>::new());
    }

    #[test]
    fn a_stream_that_would_swallow_or_refuse_messages_does_not_fit() {
        for (config, reason) in [
            (Config { subjects: vec!["daybook.*.energy.>".into()], ..wanted("X") }, "instead of daybook.>"),
            (Config { no_ack: true, ..wanted("X") }, "acknowledges nothing"),
            (Config { sealed: true, ..wanted("X") }, "sealed"),
        ] {
            assert!(unfit(&config).contains(reason), "{reason}");
        }
    }

    #[test]
    fn what_differs_is_named() {
        let config = Config { storage: StorageType::Memory, max_messages: 9, ..wanted("X") };
        assert_eq!(differences(&config), ["storage", "limits"]);
    }
}
