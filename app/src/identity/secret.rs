//! The texts that are secrets: refresh tokens and API keys, how they are made and read.
//!
//! Both name what they belong to, so that one look-up finds it, and carry 256 random bits that are kept nowhere but as
//! their SHA-256. Refuses to be shown: none of them has a `Debug` that tells anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daybook_domain::{ApiKeyId, SessionId};
use daybook_store::identity::SecretHash;
use daybook_store::keys::keyed_hash;
use daybook_store::system::System;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

/// What every API key begins with, so that people and scanners know one when they see it.
pub const API_KEY_PREFIX: &str = "dbk_";
const REFRESH_PREFIX: &str = "dbr_";
const SECRET_BYTES: usize = 32;
const SEAL_BYTES: usize = 16;

type Secret = Zeroizing<[u8; SECRET_BYTES]>;

/// What signs and continues refresh tokens.
#[derive(Clone)]
pub(super) struct RefreshKeys {
    /// Tells a token that was issued here from a guess.
    seal: Zeroizing<[u8; 32]>,
    /// From a token to the next one.
    next: Zeroizing<[u8; 32]>,
}

impl RefreshKeys {
    /// `derive`: from a purpose to a key. The purposes are part of the contract: they never change.
    pub(super) fn new(derive: impl Fn(&str) -> [u8; 32]) -> Self {
        RefreshKeys {
            seal: Zeroizing::new(derive("daybook refresh token seal v1")),
            next: Zeroizing::new(derive("daybook refresh token successor v1")),
        }
    }

    /// The first one of a session.
    pub(super) fn first(&self, session: SessionId, system: &dyn System) -> RefreshToken {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        system.random(secret.as_mut());
        RefreshToken { session, secret }
    }

    /// The one that follows: the same one each time it is asked for.
    pub(super) fn successor(&self, token: &RefreshToken) -> RefreshToken {
        let message = [token.session.0.as_bytes().as_slice(), token.secret.as_ref()].concat();
        RefreshToken { session: token.session, secret: Zeroizing::new(keyed_hash(self.next.as_ref(), &message)) }
    }

    fn seal(&self, token: &RefreshToken) -> [u8; SEAL_BYTES] {
        let message = [token.session.0.as_bytes().as_slice(), token.secret.as_ref()].concat();
        let whole = keyed_hash(self.seal.as_ref(), &message);
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&whole[..SEAL_BYTES]);
        seal
    }

    /// As it is handed out.
    pub(super) fn write(&self, token: &RefreshToken) -> Zeroizing<String> {
        let bytes = [token.session.0.as_bytes().as_slice(), token.secret.as_ref(), &self.seal(token)].concat();
        Zeroizing::new(format!("{REFRESH_PREFIX}{}", URL_SAFE_NO_PAD.encode(Zeroizing::new(bytes))))
    }

    /// `None` for whatever was not issued here, so that nobody can end a session by making something up.
    pub(super) fn read(&self, text: &str) -> Option<RefreshToken> {
        let bytes = decoded(text, REFRESH_PREFIX, 16 + SECRET_BYTES + SEAL_BYTES)?;
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (secret, seal) = rest.split_first_chunk::<SECRET_BYTES>()?;
        let token = RefreshToken { session: SessionId(Uuid::from_bytes(*id)), secret: Zeroizing::new(*secret) };
        bool::from(self.seal(&token).as_slice().ct_eq(seal)).then_some(token)
    }
}

/// What a session goes on with.
pub(super) struct RefreshToken {
    pub(super) session: SessionId,
    secret: Secret,
}

impl RefreshToken {
    /// As it is kept.
    pub(super) fn hash(&self) -> SecretHash {
        Sha256::digest(self.secret.as_ref()).into()
    }
}

/// What a machine comes in with.
pub(super) struct ApiKey {
    pub(super) id: ApiKeyId,
    secret: Secret,
}

impl ApiKey {
    pub(super) fn new(id: ApiKeyId, system: &dyn System) -> Self {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        system.random(secret.as_mut());
        ApiKey { id, secret }
    }

    /// As it is handed out, once.
    pub(super) fn write(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([self.id.0.as_bytes().as_slice(), self.secret.as_ref()].concat());
        Zeroizing::new(format!("{API_KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    pub(super) fn read(text: &str) -> Option<ApiKey> {
        let bytes = decoded(text, API_KEY_PREFIX, 16 + SECRET_BYTES)?;
        let (id, secret) = bytes.split_first_chunk::<16>()?;
        Some(ApiKey { id: ApiKeyId(Uuid::from_bytes(*id)), secret: Zeroizing::new(secret.try_into().ok()?) })
    }

    /// As it is kept.
    pub(super) fn hash(&self) -> SecretHash {
        Sha256::digest(self.secret.as_ref()).into()
    }

    /// Whether it is the key that is kept so, in a time that tells nothing.
    pub(super) fn is(&self, kept: &SecretHash) -> bool {
        self.hash().ct_eq(kept).into()
    }
}

fn decoded(text: &str, prefix: &str, bytes: usize) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.strip_prefix(prefix).filter(|text| text.len() <= 4 * bytes)?;
    let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
    (decoded.len() == bytes).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_store::system::Real;

    const SESSION: SessionId = SessionId(Uuid::from_u128(7));

    fn keys() -> RefreshKeys {
        RefreshKeys::new(|purpose| Sha256::digest(purpose.as_bytes()).into())
    }

    #[test]
    fn a_refresh_token_is_read_as_it_was_written_and_has_one_successor() {
        let first = keys().first(SESSION, &Real);
        let text = keys().write(&first);
        let read = keys().read(&text).expect("it is ours");
        assert_eq!((read.session, read.hash()), (SESSION, first.hash()));
        let next = keys().successor(&read);
        assert_eq!(next.hash(), keys().successor(&first).hash());
        assert_ne!(next.hash(), first.hash());
        assert_ne!(keys().successor(&next).hash(), next.hash());
        let other = RefreshKeys::new(|_| [9; 32]);
        assert_ne!(other.successor(&first).hash(), next.hash(), "nobody but us knows what follows");
    }

    #[test]
    fn a_refresh_token_that_was_made_up_is_none() {
        let text = keys().write(&keys().first(SESSION, &Real)).to_string();
        let strangers = RefreshKeys::new(|_| [9; 32]);
        let stranger = strangers.write(&strangers.first(SESSION, &Real)).to_string();
        let mut changed = text.clone().into_bytes();
        changed[30] = if changed[30] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        for wrong in ["", "dbr_", &text[4..], &text[..text.len() - 1], &changed, &stranger, &format!("{text}A")] {
            assert!(keys().read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_api_key_is_read_as_it_was_written() {
        let key = ApiKey::new(ApiKeyId(Uuid::from_u128(7)), &Real);
        let text = key.write();
        assert!(text.starts_with("dbk_"));
        let read = ApiKey::read(&text).expect("a key");
        assert!(read.id == key.id && read.is(&key.hash()));
        assert!(!ApiKey::new(key.id, &Real).is(&key.hash()));
        for wrong in ["", "dbk_", "dbk_!", &text[..text.len() - 2], &format!("{}AAAA", *text)] {
            assert!(ApiKey::read(wrong).is_none(), "{wrong}");
        }
    }
}
