//! The platform itself: tenants, accounts and their sessions, who is a member of what, service accounts, modules and
//! who may use them.

pub mod account_tenants;
pub mod accounts;
pub mod consents;
pub mod grants;
pub mod members;
pub mod module_switches;
pub mod module_versions;
pub mod modules;
pub mod roles;
pub mod services;
pub mod sessions;
pub mod tenants;

/// An enumeration that a text column holds.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }

            pub(crate) fn from_column(text: &str, read_model: &'static str) -> Result<Self, crate::read::ReadError> {
                let found = Self::ALL.iter().copied().find(|value| value.as_str() == text);
                found.ok_or(crate::read::ReadError::Damaged { read_model })
            }
        }
    };
}
pub(crate) use text_enum;

/// The row policies and grants of a table whose rows their own tenant alone may see.
pub(crate) fn own_tenant_only(table: &str) -> String {
    format!(
        "alter table {table} enable row level security;
         alter table {table} force row level security;
         create policy projector on {table} to daybook_projector using (true) with check (true);
         create policy own_tenant on {table} for select to daybook_reader
             using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
         grant select on {table} to daybook_reader;"
    )
}
