//! The Ed25519 keys of signed notes (C2SP `signed-note`), as text: `vkey` to give away, `skey` to keep.
//! Keys are never drawn here (the seed is an argument) and never shown: `Debug` prints name and id only.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signature as Ed25519Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

// The signature type of plain Ed25519, in key ids and in both key texts.
const ED25519: u8 = 0x01;
const SKEY_PREFIX: &str = "PRIVATE+KEY+";

/// Why a text is not a usable key. Never repeats key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "a key name must not be empty nor contain spaces, control characters or `+`; use a name like example.com/log"
    )]
    Name,
    #[error("the verifier key is not of the form name+hexid+base64; copy it whole")]
    MalformedVkey,
    #[error("the signer key is not of the form PRIVATE+KEY+name+hexid+base64; copy it whole")]
    MalformedSkey,
    #[error("the key is of signature type {0:#04x}, only Ed25519 (0x01) is known here; use another key")]
    Algorithm(u8),
    #[error(
        "the key id {found:08x} of `{name}` does not belong to its name and key, {expected:08x} does; copy the key again"
    )]
    KeyId { name: String, found: u32, expected: u32 },
    #[error("the key of `{0}` is not a usable Ed25519 public key; make a new one")]
    Weak(String),
}

/// Signs notes under a name.
pub struct Signer {
    name: String,
    key_id: u32,
    key: SigningKey,
}

impl Signer {
    /// A key from 32 bytes of a cryptographic random source; the same bytes give the same key.
    ///
    /// # Errors
    ///
    /// When the name cannot stand in a note.
    pub fn generate(name: impl Into<String>, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let name = valid_name(name.into())?;
        let key = SigningKey::from_bytes(seed);
        let key_id = key_id(&name, &key.verifying_key());
        Ok(Self { name, key_id, key })
    }

    /// The same key under another name, such as the origin of another tenant's log. It has another id, so
    /// signatures under the one name do not count for the other as long as the text differs; a checkpoint's
    /// text does, by its origin.
    ///
    /// # Errors
    ///
    /// When the name cannot stand in a note.
    pub fn renamed(&self, name: impl Into<String>) -> Result<Self, KeyError> {
        Self::generate(name, self.key.as_bytes())
    }

    /// Reads what [`Signer::skey`] wrote.
    ///
    /// # Errors
    ///
    /// When the text is not such a key, is for another algorithm, or carries the id of another key.
    pub fn from_skey(skey: &str) -> Result<Self, KeyError> {
        let rest = skey.strip_prefix(SKEY_PREFIX).ok_or(KeyError::MalformedSkey)?;
        let (name, found, bytes) = parse_key(rest).ok_or(KeyError::MalformedSkey)?;
        let seed = Zeroizing::new(ed25519_key(&bytes, KeyError::MalformedSkey)?);
        let signer = Self::generate(name, &seed)?;
        require_id(&signer.name, found, signer.key_id)?;
        Ok(signer)
    }

    /// `PRIVATE+KEY+<name>+<key id>+<base64(0x01 || seed)>`. Secret: the text is wiped when dropped.
    pub fn skey(&self) -> Zeroizing<String> {
        let material = Zeroizing::new([&[ED25519][..], self.key.as_bytes()].concat());
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*material));
        Zeroizing::new(format!("{SKEY_PREFIX}{}+{:08x}+{}", self.name, self.key_id, *encoded))
    }

    /// The text by which others check signatures of this key; see [`Verifier::vkey`].
    pub fn vkey(&self) -> String {
        self.verifier().vkey()
    }

    /// The public half.
    pub fn verifier(&self) -> Verifier {
        Verifier { name: self.name.clone(), key_id: self.key_id, key: self.key.verifying_key() }
    }

    /// The name under which this key signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes, big-endian, of SHA-256(name || 0x0A || 0x01 || public key).
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The 64 bytes of the Ed25519 signature of exactly `text`.
    pub(crate) fn sign_bytes(&self, text: &str) -> [u8; 64] {
        self.key.sign(text.as_bytes()).to_bytes()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}+{:08x})", self.name, self.key_id)
    }
}

/// Checks the notes of one signer.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key_id: u32,
    key: VerifyingKey,
}

impl Verifier {
    /// Reads what [`Verifier::vkey`] wrote.
    ///
    /// # Errors
    ///
    /// When the text is not such a key, is for another algorithm, carries the id of another key, or is a key
    /// under which anybody could sign.
    pub fn from_vkey(vkey: &str) -> Result<Self, KeyError> {
        let (name, found, bytes) = parse_key(vkey).ok_or(KeyError::MalformedVkey)?;
        let name = valid_name(name.to_owned())?;
        let bytes = ed25519_key(&bytes, KeyError::MalformedVkey)?;
        let key = VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak());
        let key = key.ok_or_else(|| KeyError::Weak(name.clone()))?;
        let key_id = key_id(&name, &key);
        require_id(&name, found, key_id)?;
        Ok(Self { name, key_id, key })
    }

    /// `<name>+<key id>+<base64(0x01 || public key)>`.
    pub fn vkey(&self) -> String {
        let material = [&[ED25519][..], self.key.as_bytes()].concat();
        format!("{}+{:08x}+{}", self.name, self.key_id, BASE64_STANDARD.encode(material))
    }

    /// The name under which this key signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// See [`Signer::key_id`].
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// Whether `signature` (64 bytes) is this key's signature of exactly `text`.
    pub fn verify(&self, text: &str, signature: &[u8]) -> bool {
        Ed25519Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(text.as_bytes(), &signature).is_ok())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({}+{:08x})", self.name, self.key_id)
    }
}

/// Whether a name can stand in a signature line.
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+' || c < ' ')
}

fn valid_name(name: String) -> Result<String, KeyError> {
    if is_valid_name(&name) { Ok(name) } else { Err(KeyError::Name) }
}

fn key_id(name: &str, key: &VerifyingKey) -> u32 {
    let hash: [u8; 32] =
        Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(key.as_bytes()).finalize().into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn require_id(name: &str, found: u32, expected: u32) -> Result<(), KeyError> {
    if found == expected { Ok(()) } else { Err(KeyError::KeyId { name: name.to_owned(), found, expected }) }
}

// name+hexid+base64; the id in lower case only, so that a key has one spelling.
fn parse_key(text: &str) -> Option<(&str, u32, Zeroizing<Vec<u8>>)> {
    let (name, rest) = text.split_once('+')?;
    let (id, material) = rest.split_once('+')?;
    let canonical = id.len() == 8 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = canonical.then(|| u32::from_str_radix(id, 16).ok())??;
    Some((name, id, Zeroizing::new(BASE64_STANDARD.decode(material).ok()?)))
}

fn ed25519_key(bytes: &[u8], malformed: KeyError) -> Result<[u8; 32], KeyError> {
    match bytes.split_first() {
        Some((&ED25519, key)) => key.try_into().map_err(|_| malformed),
        Some((&other, _)) => Err(KeyError::Algorithm(other)),
        None => Err(malformed),
    }
}
