//! Identifiers that are not interchangeable, though all of them are UUIDs.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }
    };
}

uuid_newtype!(
    /// The organisation that owns a stream, a key, a row. Every event belongs to exactly one.
    TenantId
);
uuid_newtype!(
    /// The person whose data a [`crate::personal::Personal`] field holds; owner of one encryption key.
    SubjectId
);
uuid_newtype!(
    /// A login identity, the same in every tenant it is a member of. Also the subject of its personal data.
    AccountId
);
uuid_newtype!(
    /// An account in one tenant: the UUIDv5 of the account in the tenant's namespace.
    MembershipId
);
uuid_newtype!(
    /// A module that a tenant has registered.
    ModuleId
);
uuid_newtype!(
    /// A secret that an account has, by name: the secret itself is never in an event.
    CredentialId
);
uuid_newtype!(
    /// A session: what one login led to, on one device.
    SessionId
);
uuid_newtype!(
    /// A key of a service account. The secret part of it is never in an event.
    ApiKeyId
);

/// The tenant of the platform itself: accounts and platform-wide commands live here.
/// A fixed id, so that it needs no look-up and is the same in every installation.
pub const PLATFORM_TENANT: TenantId = TenantId(Uuid::from_u128(0xdaeb_0000_0000_8000_8000_0000_0000_0001));
