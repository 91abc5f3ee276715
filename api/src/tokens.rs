//! Bearer tokens of every kind: static ones from the configuration, access tokens of sessions, keys of service accounts.

use crate::transport::{Authenticate, NotAuthenticated, Stirred};
use daybook_app::Credential;
use daybook_app::identity::{Identity, Unreadable};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use uuid::Uuid;

/// Which static token is whose. Only digests are kept: looking one up leaks no token through timing, and a
/// dump of memory tells none.
#[derive(Default)]
pub struct StaticTokens {
    by_digest: HashMap<[u8; 32], Credential>,
}

impl StaticTokens {
    pub fn insert(&mut self, token: &str, credential: Credential) {
        self.by_digest.insert(Sha256::digest(token.as_bytes()).into(), credential);
    }

    fn of(&self, bearer: &str) -> Option<Credential> {
        let digest: [u8; 32] = Sha256::digest(bearer.as_bytes()).into();
        self.by_digest.get(&digest).cloned()
    }
}

/// All of them.
pub struct Tokens {
    pub fixed: StaticTokens,
    pub identity: Identity,
}

fn unavailable(error: Unreadable) -> NotAuthenticated {
    tracing::warn!(error = %error, "a token could not be looked at");
    NotAuthenticated::Unavailable
}

impl Authenticate for Tokens {
    type Credential = Credential;

    async fn authenticate(&self, bearer: &str) -> Result<Credential, NotAuthenticated> {
        let known = match self.fixed.of(bearer) {
            Some(credential) => Ok(Some(credential)),
            None => self.identity.credential(bearer).await,
        };
        let credential = known.map_err(unavailable)?.ok_or(NotAuthenticated::Unknown)?;
        // Of every kind of token alike.
        match self.identity.shut(credential.tenant).await.map_err(unavailable)? {
            None => Ok(credential),
            Some(shut) => Err(NotAuthenticated::Shut(shut)),
        }
    }

    fn namespace(credential: &Credential) -> Uuid {
        credential.actor.id
    }

    fn tenant(credential: &Credential) -> Option<Uuid> {
        Some(credential.tenant.0)
    }

    fn stirred(&self, bearer: &str) -> Stirred {
        match self.fixed.of(bearer) {
            Some(credential) => Box::pin(self.identity.tenant_stirred(credential.tenant)),
            None => Box::pin(self.identity.stirred(bearer)),
        }
    }

    fn is_same(one: &Credential, other: &Credential) -> bool {
        let key = |credential: &Credential| {
            // What follows from the roles is watched over by the rules.
            let Credential { actor, tenant, roles, session, scopes, permissions: _ } = credential;
            (*actor, *tenant, roles.clone(), *session, scopes.clone())
        };
        key(one) == key(other)
    }
}
