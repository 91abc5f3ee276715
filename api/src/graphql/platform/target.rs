//! What a mutation of something that exists is about: the inputs of such mutations share these members.

use crate::graphql::request::tenant_of;
use crate::graphql::scalars::BigInt;
use async_graphql::{Context, Result};
use daybook_domain::TenantId;
use uuid::Uuid;

pub(super) struct Target {
    pub(super) tenant: TenantId,
    pub(super) id: Uuid,
    pub(super) expected_version: Option<BigInt>,
    pub(super) command_id: Option<Uuid>,
}

impl Target {
    pub(super) fn of(
        ctx: &Context<'_>,
        tenant: Option<Uuid>,
        id: Uuid,
        expected_version: Option<BigInt>,
        command_id: Option<Uuid>,
    ) -> Result<Self> {
        Ok(Target { tenant: tenant_of(ctx, tenant)?, id, expected_version, command_id })
    }
}

/// Input objects, each with the members of a [`Target`] and its own between them. Descriptions are literals, so those
/// that name the thing are given once for all of its inputs.
macro_rules! target_inputs {
    (
        #[$id_doc:meta] id,
        #[$version_doc:meta] expected_version;
        $($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })+
    ) => {$(
        $(#[$doc])*
        #[derive(async_graphql::InputObject)]
        pub struct $name {
            /// Id of the tenant; your own unless told.
            pub tenant: Option<uuid::Uuid>,
            #[$id_doc]
            pub id: uuid::Uuid,
            $($(#[$field_doc])* pub $field: $type,)*
            #[$version_doc]
            pub expected_version: Option<$crate::graphql::scalars::BigInt>,
            /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
            pub client_mutation_id: Option<uuid::Uuid>,
        }

        impl $name {
            fn target(&self, ctx: &async_graphql::Context<'_>) -> async_graphql::Result<Target> {
                Target::of(ctx, self.tenant, self.id, self.expected_version, self.client_mutation_id)
            }
        }
    )+};
}
pub(super) use target_inputs;
