//! Opaque texts that clients hold for us: positions and cursors. Encrypted and authenticated, so that
//! they tell nothing and cannot be made up; deterministic, so that equal things look equal.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use daybook_domain::TenantId;
use daybook_store::keys::{keyed_hash, open_sealed, seal_with};
use daybook_store::schema::Identity;
use uuid::Uuid;

/// Makes and reads them. One per journal: the key comes from its root key.
#[derive(Clone)]
pub struct Opaque {
    key: [u8; 32],
    identity: Identity,
}

/// Why a text was not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpaqueError {
    #[error("it was not made by this server: take it as it was given, unchanged")]
    Forged,
    #[error("it belongs to another journal, or to this one before a restore: read again from the beginning")]
    OtherIncarnation,
}

const POSITION: &[u8] = b"position";
const CURSOR: &[u8] = b"cursor";

impl Opaque {
    pub fn new(key: [u8; 32], identity: Identity) -> Self {
        Opaque { key, identity }
    }

    /// A tenant position of a tenant, in this incarnation of this journal.
    pub fn position(&self, tenant: TenantId, tenant_position: u64) -> String {
        let mut plain = Vec::with_capacity(56);
        plain.extend_from_slice(self.identity.journal_id.as_bytes());
        plain.extend_from_slice(self.identity.incarnation_id.as_bytes());
        plain.extend_from_slice(tenant.0.as_bytes());
        plain.extend_from_slice(&tenant_position.to_be_bytes());
        self.seal(POSITION, &plain)
    }

    /// # Errors
    /// For anything but a position of this incarnation: it is refused, never guessed.
    pub fn read_position(&self, text: &str) -> Result<(TenantId, u64), OpaqueError> {
        let plain = self.open(POSITION, text)?;
        let (journal, rest) = plain.split_first_chunk::<16>().ok_or(OpaqueError::Forged)?;
        let (incarnation, rest) = rest.split_first_chunk::<16>().ok_or(OpaqueError::Forged)?;
        let (tenant, rest) = rest.split_first_chunk::<16>().ok_or(OpaqueError::Forged)?;
        let position: [u8; 8] = rest.try_into().map_err(|_| OpaqueError::Forged)?;
        if *journal != *self.identity.journal_id.as_bytes() || *incarnation != *self.identity.incarnation_id.as_bytes()
        {
            return Err(OpaqueError::OtherIncarnation);
        }
        Ok((TenantId(Uuid::from_bytes(*tenant)), u64::from_be_bytes(position)))
    }

    /// A keyset cursor, good only for the same list: `list` names query, order, schema version and reader.
    pub fn cursor(&self, list: &str, key: &[u8]) -> String {
        self.seal(&[CURSOR, list.as_bytes()].concat(), key)
    }

    /// # Errors
    /// [`OpaqueError::Forged`], also for a cursor of another list.
    pub fn read_cursor(&self, list: &str, text: &str) -> Result<Vec<u8>, OpaqueError> {
        self.open(&[CURSOR, list.as_bytes()].concat(), text)
    }

    fn seal(&self, what: &[u8], plain: &[u8]) -> String {
        // The nonce is a keyed hash of all there is, so it repeats only for the same text.
        let hash = keyed_hash(&self.key, &[what, &[0], plain].concat());
        let mut nonce = [0u8; 12];
        nonce.copy_from_slice(&hash[..12]);
        URL_SAFE_NO_PAD.encode(seal_with(&self.key, &nonce, plain, what))
    }

    fn open(&self, what: &[u8], text: &str) -> Result<Vec<u8>, OpaqueError> {
        let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| OpaqueError::Forged)?;
        open_sealed(&self.key, &sealed, what).ok_or(OpaqueError::Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opaque(incarnation: u128) -> Opaque {
        Opaque::new([3; 32], Identity { journal_id: Uuid::from_u128(1), incarnation_id: Uuid::from_u128(incarnation) })
    }

    #[test]
    fn a_position_comes_back_and_equal_ones_look_equal() {
        let tenant = TenantId(Uuid::from_u128(7));
        let text = opaque(2).position(tenant, 42);
        assert_eq!(text, opaque(2).position(tenant, 42));
        assert_eq!(opaque(2).read_position(&text), Ok((tenant, 42)));
    }

    #[test]
    fn a_position_from_before_a_restore_is_refused() {
        let text = opaque(2).position(TenantId(Uuid::from_u128(7)), 42);
        assert_eq!(opaque(3).read_position(&text), Err(OpaqueError::OtherIncarnation));
    }

    #[test]
    fn nothing_made_up_is_accepted() {
        let text = opaque(2).cursor("tenants/name", b"key");
        assert_eq!(opaque(2).read_cursor("tenants/registered", &text), Err(OpaqueError::Forged));
        assert_eq!(opaque(2).read_position(&text), Err(OpaqueError::Forged));
        for forged in ["", "AAAA", "not base64!", &text[1..]] {
            assert_eq!(opaque(2).read_cursor("tenants/name", forged), Err(OpaqueError::Forged));
        }
    }
}
