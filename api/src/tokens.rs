//! Static bearer tokens, from the configuration.

use crate::transport::Authenticate;
use daybook_app::Credential;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use uuid::Uuid;

/// Which token is whose. Only digests are kept: looking one up leaks no token through timing, and a
/// dump of memory tells none.
#[derive(Default)]
pub struct StaticTokens {
    by_digest: HashMap<[u8; 32], Credential>,
}

impl StaticTokens {
    pub fn insert(&mut self, token: &str, credential: Credential) {
        self.by_digest.insert(Sha256::digest(token.as_bytes()).into(), credential);
    }
}

impl Authenticate for StaticTokens {
    type Credential = Credential;

    fn authenticate(&self, bearer: &str) -> Option<Credential> {
        let digest: [u8; 32] = Sha256::digest(bearer.as_bytes()).into();
        self.by_digest.get(&digest).cloned()
    }

    fn namespace(credential: &Credential) -> Uuid {
        credential.actor.id
    }

    fn tenant(credential: &Credential) -> Uuid {
        credential.tenant.0
    }
}
