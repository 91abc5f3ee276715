//! Signed notes (C2SP `signed-note`): a text, an empty line, and lines `— name base64(key id || signature)`.
//! Nothing of a note is handed out before a known key has signed it.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::signer::{Signer, Verifier, is_valid_name};

/// The largest note that is written or read.
pub const NOTE_BYTES_MAX: usize = 1_000_000;
/// The most signature lines a note may have.
pub const SIGNATURES_MAX: usize = 100;

const SIGNATURE_PREFIX: &str = "— ";

/// A note that at least one known key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What was signed, with its final newline.
    pub text: String,
    /// The signatures of known keys; all of them are right.
    pub signatures: Vec<Signature>,
    /// Signatures of other keys: they say nothing until somebody knows the key.
    pub unknown: Vec<Signature>,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name of the key.
    pub name: String,
    /// The id of the key.
    pub key_id: u32,
    /// The signature itself, as the key's algorithm defines it.
    pub bytes: Vec<u8>,
}

/// Why a note is not accepted, or cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("the note has {0} bytes, more than {NOTE_BYTES_MAX}; it is not a note")]
    TooLarge(usize),
    #[error("the note is not UTF-8; take it from its source again")]
    NotUtf8,
    #[error("the note has a control character at byte {0}; take it from its source again")]
    ControlCharacter(usize),
    #[error("the note's text does not end in a newline; end it with one")]
    NoFinalNewline,
    #[error("the note has no signature lines after an empty line; take it from its source again, whole")]
    NoSignatures,
    #[error("signature line {0} of the note is not `— name base64`; take the note from its source again")]
    MalformedSignature(usize),
    #[error("the note has more than {SIGNATURES_MAX} signature lines; drop the ones that nobody asked for")]
    TooManySignatures,
    #[error("the signature of `{name}` (key {key_id:08x}) is wrong: the note was altered; keep it as evidence")]
    WrongSignature { name: String, key_id: u32 },
    #[error("two different keys are both named `{name}` with id {key_id:08x}; trust only one of them")]
    AmbiguousKey { name: String, key_id: u32 },
    #[error("no known key has signed the note; add the verifier key of its signer to the trusted ones")]
    Unverified,
}

/// Signs `text` (which ends in a newline) with all `signers`, in their order, into a note.
///
/// # Errors
///
/// When the text cannot be the text of a note, or there is no signer or are too many.
pub fn sign(text: &str, signers: &[&Signer]) -> Result<String, NoteError> {
    if !text.ends_with('\n') {
        return Err(NoteError::NoFinalNewline);
    }
    match signers.len() {
        0 => return Err(NoteError::NoSignatures),
        1..=SIGNATURES_MAX => {}
        _ => return Err(NoteError::TooManySignatures),
    }
    let mut note = format!("{text}\n");
    for signer in signers {
        let signature = [&signer.key_id().to_be_bytes()[..], &signer.sign_bytes(text)].concat();
        let encoded = BASE64_STANDARD.encode(signature);
        note.push_str(&format!("{SIGNATURE_PREFIX}{} {encoded}\n", signer.name()));
    }
    check_characters(note.as_bytes())?;
    Ok(note)
}

impl Signer {
    /// Signs `text` (which ends in a newline) into a note; see [`sign`].
    ///
    /// # Errors
    ///
    /// When the text cannot be the text of a note.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        sign(text, &[self])
    }
}

/// Reads a note and checks every signature of a known key.
///
/// # Errors
///
/// When the note is malformed or too large, a known key's signature is wrong, or no known key has signed.
/// Signatures of unknown keys are no error, also when they share either name or id with a known key.
pub fn open(note: &[u8], verifiers: &[Verifier]) -> Result<Note, NoteError> {
    let note = check_characters(note)?;
    let split = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
    let (text, lines) = (&note[..=split], &note[split + 2..]);
    let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;

    let mut opened = Note { text: text.to_owned(), signatures: Vec::new(), unknown: Vec::new() };
    for (number, line) in (1..).zip(lines.split('\n')) {
        if number > SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures);
        }
        let signature = parse_signature(line).ok_or(NoteError::MalformedSignature(number))?;
        let Some(verifier) = known(verifiers, &signature)? else {
            if !opened.unknown.contains(&signature) {
                opened.unknown.push(signature);
            }
            continue;
        };
        if !verifier.verify(text, &signature.bytes) {
            return Err(NoteError::WrongSignature { name: signature.name, key_id: signature.key_id });
        }
        // One key counts once, however often it signed.
        let counted = |s: &Signature| s.name == signature.name && s.key_id == signature.key_id;
        if !opened.signatures.iter().any(counted) {
            opened.signatures.push(signature);
        }
    }
    if opened.signatures.is_empty() {
        return Err(NoteError::Unverified);
    }
    Ok(opened)
}

fn check_characters(note: &[u8]) -> Result<&str, NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::TooLarge(note.len()));
    }
    let text = std::str::from_utf8(note).map_err(|_| NoteError::NotUtf8)?;
    match text.bytes().position(|b| b < 0x20 && b != b'\n') {
        Some(at) => Err(NoteError::ControlCharacter(at)),
        None => Ok(text),
    }
}

fn parse_signature(line: &str) -> Option<Signature> {
    let (name, encoded) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = BASE64_STANDARD.decode(encoded).ok()?;
    let (key_id, signature) = bytes.split_first_chunk::<4>()?;
    (is_valid_name(name) && !signature.is_empty()).then(|| Signature {
        name: name.to_owned(),
        key_id: u32::from_be_bytes(*key_id),
        bytes: signature.to_vec(),
    })
}

fn known<'a>(verifiers: &'a [Verifier], signature: &Signature) -> Result<Option<&'a Verifier>, NoteError> {
    let mut matching = verifiers.iter().filter(|v| v.name() == signature.name && v.key_id() == signature.key_id);
    let first = matching.next();
    if matching.any(|other| Some(other) != first) {
        return Err(NoteError::AmbiguousKey { name: signature.name.clone(), key_id: signature.key_id });
    }
    Ok(first)
}
