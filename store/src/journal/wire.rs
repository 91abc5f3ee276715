//! What one node hands to another: a request for the writer, and its answer, as JSON.
//!
//! Both ends run the same program or its neighbour in a rolling upgrade: a member that is not known is
//! refused, never dropped.

use super::append::Seen;
use super::machine::{Answer, Prepared};
use super::{Append, AppendError, Outcome};
use daybook_tlog::RightEdge;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Distinct names of stream types and key kinds that are ever remembered; there are a few dozen.
const KINDS_MAX: usize = 1_000;
const KIND_BYTES_MAX: usize = 100;

#[derive(Serialize)]
struct RequestRef<'a> {
    append: &'a Append,
    seen: Seen,
    head: Option<(u64, Vec<u8>)>,
    digests: &'a [Vec<([u8; 32], [u8; 32])>],
    request_hash: [u8; 32],
    asks: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    append: Append,
    seen: Seen,
    head: Option<(u64, Vec<u8>)>,
    digests: Vec<Vec<([u8; 32], [u8; 32])>>,
    request_hash: [u8; 32],
    asks: bool,
}

/// Why bytes are not a request or an answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("what came from another node cannot be read; all nodes must run the same version")]
    Json(#[from] serde_json::Error),
    #[error("what came from another node is not whole: {0}")]
    Invalid(String),
}

/// The writer's answer, without what only the node that asks can say.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Wired {
    Done(Outcome),
    Refused(AppendError),
    Nothing,
    LookAgain,
    Overloaded,
    Unavailable(String),
    Failed(String),
    Unknown,
}

pub(super) fn request(prepared: &Prepared) -> Result<Vec<u8>, WireError> {
    Ok(serde_json::to_vec(&RequestRef {
        append: &prepared.append,
        seen: prepared.seen,
        head: prepared.head.as_ref().map(|edge| (edge.size(), edge.to_bytes())),
        digests: &prepared.digests,
        request_hash: prepared.request_hash,
        asks: prepared.asks,
    })?)
}

pub(super) fn read_request(bytes: &[u8]) -> Result<Prepared, WireError> {
    let Request { append, seen, head, digests, request_hash, asks } = serde_json::from_slice(bytes)?;
    append.check().map_err(|error| WireError::Invalid(error.to_string()))?;
    let events = |digests: &[Vec<_>]| digests.iter().map(Vec::len).collect::<Vec<_>>();
    if events(&digests) != append.streams.iter().map(|stream| stream.events.len()).collect::<Vec<_>>() {
        return Err(WireError::Invalid("there is not one digest for each event".into()));
    }
    let head = head
        .map(|(size, edge)| RightEdge::from_bytes(size, &edge))
        .transpose()
        .map_err(|error| WireError::Invalid(error.to_string()))?;
    Ok(Prepared { ticket: 0, append, seen, head, digests, request_hash, asks })
}

pub(super) fn answer(answer: Answer) -> Result<Vec<u8>, WireError> {
    let wired = match answer {
        Answer::Done(outcome) => Wired::Done(outcome),
        Answer::Refused(error) => Wired::Refused(error),
        Answer::Nothing => Wired::Nothing,
        Answer::LookAgain => Wired::LookAgain,
        Answer::Overloaded => Wired::Overloaded,
        Answer::Unavailable(reason) => Wired::Unavailable(reason),
        Answer::Failed(reason) => Wired::Failed(reason),
        Answer::Unknown => Wired::Unknown,
    };
    Ok(serde_json::to_vec(&wired)?)
}

pub(super) fn read_answer(bytes: &[u8]) -> Result<Answer, WireError> {
    Ok(match serde_json::from_slice(bytes)? {
        Wired::Done(outcome) => Answer::Done(outcome),
        Wired::Refused(error) => Answer::Refused(error),
        Wired::Nothing => Answer::Nothing,
        Wired::LookAgain => Answer::LookAgain,
        Wired::Overloaded => Answer::Overloaded,
        Wired::Unavailable(reason) => Answer::Unavailable(reason),
        Wired::Failed(reason) => Answer::Failed(reason),
        Wired::Unknown => Answer::Unknown,
    })
}

/// Names that came from other nodes. They are the same few for as long as a program runs, and everything here
/// that names a stream borrows its type for ever: so each is kept once.
static KINDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// A stream type or key kind.
pub(super) fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    let name = String::deserialize(deserializer)?;
    let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kinds.get(name.as_str()) {
        return Ok(known);
    }
    if kinds.len() >= KINDS_MAX || name.len() > KIND_BYTES_MAX {
        return Err(serde::de::Error::custom(format!("{name} is one kind too many, or no kind")));
    }
    let kept: &'static str = Box::leak(name.into_boxed_str());
    kinds.insert(kept);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::super::{ClaimKey, CommandStamp, NewEvent, StreamAppend, StreamId};
    use super::*;
    use daybook_domain::TenantId;
    use uuid::Uuid;

    fn prepared() -> Prepared {
        let (tenant, id) = (TenantId(Uuid::from_u128(1)), Uuid::from_u128(2));
        let stream = StreamId { kind: "device", id };
        let mut head = RightEdge::empty();
        head.push([3; 32]);
        head.push([4; 32]);
        Prepared {
            ticket: 9,
            append: Append {
                tenant,
                command: CommandStamp { tenant, id, digest: [5; 32], hash_key: [6; 32], fresh: false },
                streams: vec![StreamAppend {
                    stream: stream.clone(),
                    expected: 7,
                    events: vec![NewEvent {
                        event_id: id,
                        event_type: "energy.device.renamed".into(),
                        event_version: 1,
                        payload: "{\"name\":\"Süd \\\"2\\\"\"}".into(),
                        metadata: "{}".into(),
                    }],
                }],
                reads: vec![(StreamId { kind: "site", id }, 3)],
                claims: vec![(ClaimKey { scope: tenant, kind: "device.serial", hash: [8; 32] }, stream)],
                releases: vec![],
                not_after: Some(11),
            },
            seen: Seen { epoch: 4, batch: 5 },
            head: Some(head),
            digests: vec![vec![([1; 32], [2; 32])]],
            request_hash: [9; 32],
            asks: true,
        }
    }

    #[test]
    fn a_request_arrives_as_it_left_but_for_its_ticket() {
        let sent = prepared();
        let read = read_request(&request(&sent).unwrap()).unwrap();
        assert_eq!(read.append, sent.append);
        assert_eq!((read.seen, read.asks, read.request_hash), (sent.seen, sent.asks, sent.request_hash));
        assert_eq!(read.digests, sent.digests);
        assert_eq!(read.head.unwrap().root(), sent.head.unwrap().root());
        assert_eq!(read.ticket, 0);
    }

    #[test]
    fn every_answer_arrives_as_it_left() {
        let stream = StreamId { kind: "device", id: Uuid::from_u128(1) };
        let outcome = Outcome {
            tenant: TenantId(Uuid::from_u128(1)),
            first_tenant_position: 1,
            last_tenant_position: 2,
            last_position: 3,
            stream_ids: vec![Uuid::from_u128(4)],
            recorded_at_us: 5,
            seen: Seen { epoch: 6, batch: 7 },
            deduplicated: true,
        };
        for sent in [
            Answer::Done(outcome),
            Answer::Refused(AppendError::Conflict { stream, expected: 1, actual: 2 }),
            Answer::Refused(AppendError::KeyTaken { kind: "device.serial" }),
            Answer::Refused(AppendError::TooLate),
            Answer::Refused(AppendError::CommandReused(Uuid::from_u128(8))),
            Answer::Nothing,
            Answer::LookAgain,
            Answer::Overloaded,
            Answer::Unavailable("why".into()),
            Answer::Failed("why".into()),
            Answer::Unknown,
        ] {
            assert_eq!(read_answer(&answer(sent.clone()).unwrap()).unwrap(), sent);
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let good = request(&prepared()).unwrap();
        let text = String::from_utf8(good).unwrap();
        let changed = |from: &str, to: &str| read_request(text.replacen(from, to, 1).as_bytes()).map(drop).unwrap_err();
        assert!(matches!(changed("\"asks\":true", "\"asks\":true,\"more\":1"), WireError::Json(_)));
        assert!(matches!(changed(",\"asks\":true", ""), WireError::Json(_)));
        for inside in [
            "\"append\":{",
            "\"command\":{",
            "\"streams\":[{",
            "\"events\":[{",
            "\"seen\":{",
            "\"stream\":{",
            "\"claims\":[[{",
        ] {
            assert!(matches!(changed(inside, &format!("{inside}\"more\":1,")), WireError::Json(_)), "{inside}");
        }
        assert!(matches!(changed("\"digests\":[[", "\"digests\":[[],["), WireError::Invalid(_)));
        assert!(matches!(changed("\"head\":[2,", "\"head\":[3,"), WireError::Invalid(_)));
        assert!(matches!(changed("\"metadata\":\"{}\"", "\"metadata\":\"\\u0000\""), WireError::Invalid(_)));
    }
}
