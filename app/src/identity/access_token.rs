//! Access tokens: who a caller is, for five minutes, signed by this installation.
//!
//! A JWS in its compact form (RFC 7515) that holds a JWT of the profile for access tokens (RFC 9068), with one algorithm:
//! EdDSA over Ed25519. Written, read and verified by the crate `jsonwebtoken`, which knows that algorithm alone. Nothing in a
//! token chooses how it is checked: a header that says anything else than what is written here is refused before its
//! signature is looked at, and its key must be one of ours by name. There are no roles in it: those are looked up at each
//! request, so that a change of them counts at once.
//!
//! The keys come from the root key, one per period, so every node of an installation has the same ones without asking.

mod signing;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{AccountId, MembershipId, SessionId, TenantId};
use ed25519_dalek::SigningKey;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest that a token may be good.
pub const LIFETIME_MAX: TimeDelta = TimeDelta::minutes(5);
/// How long a key signs.
const PERIOD_S: i64 = 30 * 24 * 3_600;
/// How far the clocks of two nodes may be apart.
const SKEW: TimeDelta = TimeDelta::seconds(15);
/// Bytes of a token.
const BYTES_MAX: usize = 2_048;
/// For whom they are.
pub const AUDIENCE: &str = "daybook";
const TYPE: &str = "at+jwt";

/// What a token says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claims {
    pub account: AccountId,
    pub tenant: TenantId,
    /// None in the platform's own tenant.
    pub membership: Option<MembershipId>,
    pub session: SessionId,
    /// To the second.
    pub expires_at: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    iss: String,
    aud: String,
    sub: AccountId,
    tid: TenantId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mid: Option<MembershipId>,
    sid: SessionId,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// Why a token is refused. For logs and tests: a caller is told that it is not valid, and no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    #[error("it is no token of ours")]
    Malformed,
    #[error("its algorithm or type is not the one that is used here")]
    Algorithm,
    #[error("its key is none of ours")]
    Key,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
}

/// From a purpose to a key, by the root key.
pub(super) type Derive = Arc<dyn Fn(&str) -> [u8; 32] + Send + Sync>;

struct Key {
    /// The one header that its tokens have.
    header: Header,
    signing: EncodingKey,
    verifying: DecodingKey,
    /// The public key, in base64url.
    x: String,
}

/// The keys of one moment: of the period before, of this one and of the next.
struct Ring {
    period: i64,
    keys: [Key; 3],
}

/// Makes and reads tokens.
pub(super) struct AccessTokens {
    derive: Derive,
    issuer: String,
    validation: Validation,
    /// Raised to sign with new keys at once; those of before are good no more.
    generation: u32,
    ring: Mutex<Arc<Ring>>,
}

impl AccessTokens {
    pub(super) fn new(derive: Derive, issuer: String, generation: u32, now: DateTime<Utc>) -> Self {
        signing::install();
        let ring = Mutex::new(Arc::new(Ring::of(&derive, generation, period(now))));
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "nbf"]);
        // By the clock that is given here, not by the library's.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        AccessTokens { derive, issuer, validation, generation, ring }
    }

    fn ring(&self, now: DateTime<Utc>) -> Arc<Ring> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.period != period(now) {
            *ring = Arc::new(Ring::of(&self.derive, self.generation, period(now)));
        }
        ring.clone()
    }

    /// Who issues them.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs one; `None` when it would be good for longer than one may be.
    pub(super) fn issue(&self, claims: &Claims, now: DateTime<Utc>) -> Option<String> {
        if claims.expires_at - now > LIFETIME_MAX {
            return None;
        }
        let ring = self.ring(now);
        let [_, key, _] = &ring.keys;
        let payload = Payload {
            iss: self.issuer.clone(),
            aud: AUDIENCE.into(),
            sub: claims.account,
            tid: claims.tenant,
            mid: claims.membership,
            sid: claims.session,
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: claims.expires_at.timestamp(),
        };
        jsonwebtoken::encode(&key.header, &payload, &key.signing).ok()
    }

    /// What a token says, if it is one of ours and good at this moment.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn read(&self, token: &str, now: DateTime<Utc>) -> Result<Claims, TokenError> {
        if token.len() > BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        // What is written down twice is refused with it.
        let header = jsonwebtoken::decode_header(token)?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(TYPE) {
            return Err(TokenError::Algorithm);
        }
        let ring = self.ring(now);
        let kid = header.kid.as_ref().ok_or(TokenError::Malformed)?;
        let key = ring.keys.iter().find(|key| key.header.kid.as_ref() == Some(kid)).ok_or(TokenError::Key)?;
        // With anything more in it, it is none of ours.
        if header != key.header {
            return Err(TokenError::Malformed);
        }
        let payload = jsonwebtoken::decode::<Payload>(token, &key.verifying, &self.validation)?.claims;
        if now.timestamp() >= payload.exp || payload.exp - payload.iat > LIFETIME_MAX.num_seconds() {
            return Err(TokenError::Expired);
        }
        if payload.nbf.max(payload.iat) > (now + SKEW).timestamp() {
            return Err(TokenError::NotYet);
        }
        Ok(Claims {
            account: payload.sub,
            tenant: payload.tid,
            membership: payload.mid,
            session: payload.sid,
            expires_at: DateTime::from_timestamp(payload.exp, 0).ok_or(TokenError::Malformed)?,
        })
    }

    /// The public keys, as a JWK Set (RFC 7517, RFC 8037).
    pub(super) fn jwks(&self, now: DateTime<Utc>) -> serde_json::Value {
        let ring = self.ring(now);
        let keys = ring.keys.iter().map(|key| {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": key.x, "kid": key.header.kid, "use": "sig", "alg": "EdDSA" })
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

impl Ring {
    fn of(derive: &Derive, generation: u32, period: i64) -> Self {
        // The purpose is part of the contract: it never changes.
        let key = |period: i64| Key::of(&derive(&format!("daybook access tokens v1 {generation} {period}")));
        Ring { period, keys: [key(period - 1), key(period), key(period + 1)] }
    }
}

impl Key {
    fn of(seed: &[u8; 32]) -> Self {
        let public = SigningKey::from_bytes(seed).verifying_key();
        let x = URL_SAFE_NO_PAD.encode(public.as_bytes());
        // RFC 7638: the SHA-256 of exactly these members in exactly this form.
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical.as_bytes()));
        let header = Header { typ: Some(TYPE.to_owned()), kid: Some(kid), ..Header::new(Algorithm::EdDSA) };
        Key {
            header,
            signing: EncodingKey::from_ed_der(seed),
            verifying: DecodingKey::from_ed_der(public.as_bytes()),
            x,
        }
    }
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSignature => TokenError::Signature,
            ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
            ErrorKind::InvalidIssuer => TokenError::Issuer,
            ErrorKind::InvalidAudience => TokenError::Audience,
            _ => TokenError::Malformed,
        }
    }
}

fn period(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(PERIOD_S)
}

#[cfg(test)]
mod tests;
