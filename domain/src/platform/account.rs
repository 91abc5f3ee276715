//! An account: the one login identity of a person, whatever tenants they work in. Its stream lives in the
//! platform's tenant.
//!
//! It knows nothing of tenants and their roles (that is a membership). Of its password it knows only which one is in
//! force, and of its sessions only that those of before have ended. That its e-mail
//! address is nobody else's is the journal's to check, by the keys that [`Account::keys`] names. Its personal
//! fields are the account's own: their subject is the account's id, so that one key erases the person.

mod profile;
mod state;
mod values;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use crate::value::{EmailAddress, Name, Reason};
pub use profile::{AvatarUrl, Detail, Details, Locale, PREFERENCES_MAX, ZoneName, parse_key, parse_preference};
pub use state::{Account, Profile};
pub use values::PlatformRole;

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, KeyChange, KeyScope, Refusal};
use crate::context::Context;
use crate::ids::{CredentialId, PLATFORM_TENANT};
use crate::personal::Personal;
use crate::platform::tenant::{SettingKey, SettingValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The kind of the unique key that an account's e-mail address takes, in the whole platform.
pub const EMAIL_KEY: &str = "account.email";

/// What can be asked of an account. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountCommand {
    Register {
        email: Personal<EmailAddress>,
        name: Personal<Name>,
    },
    Rename {
        name: Personal<Name>,
    },
    ChangeEmail {
        email: Personal<EmailAddress>,
    },
    /// What a person says of themselves. What is named in neither stays.
    ChangeProfile {
        name: Option<Personal<Name>>,
        set: Details,
        unset: BTreeSet<Detail>,
    },
    SetPreference {
        key: SettingKey,
        /// None: it is removed.
        value: Option<Personal<SettingValue>>,
    },
    Deactivate {
        reason: Reason,
    },
    Reactivate,
    /// The password itself is kept elsewhere, under this id.
    SetPassword {
        credential: CredentialId,
    },
    GrantPlatformRole {
        role: PlatformRole,
    },
    RevokePlatformRole {
        role: PlatformRole,
    },
    /// `generation`: of the sessions to come, one more than that of those to end.
    RevokeSessions {
        generation: u64,
        reason: Reason,
    },
}

impl Guarded for AccountCommand {
    fn action(&self) -> Action {
        match self {
            Self::Register { .. } => Action::AccountRegister,
            Self::Rename { .. } => Action::AccountRename,
            Self::ChangeEmail { .. } => Action::AccountChangeEmail,
            Self::ChangeProfile { .. } => Action::AccountChangeProfile,
            Self::SetPreference { .. } => Action::AccountSetPreference,
            Self::Deactivate { .. } => Action::AccountDeactivate,
            Self::Reactivate => Action::AccountReactivate,
            Self::SetPassword { .. } => Action::AccountSetPassword,
            Self::GrantPlatformRole { .. } => Action::AccountGrantPlatformRole,
            Self::RevokePlatformRole { .. } => Action::AccountRevokePlatformRole,
            Self::RevokeSessions { .. } => Action::AccountRevokeSessions,
        }
    }
}

/// What happened to an account. A payload in the journal is the inner object; its tag is in the event's type.
// The lines below are the descriptions in the published schemas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountEvent {
    /// A person has an account, and its e-mail address is theirs alone.
    Registered { email: Personal<EmailAddress>, name: Personal<Name> },
    /// The person has a new name.
    Renamed { name: Personal<Name> },
    /// The person has a new e-mail address, and the old one is free again.
    EmailChanged { email: Personal<EmailAddress> },
    /// The person says something else of themselves. What is in neither stays as it was.
    ProfileChanged {
        #[serde(default, skip_serializing_if = "Details::is_empty")]
        set: Details,
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        unset: BTreeSet<Detail>,
    },
    /// The person likes something in a certain way.
    PreferenceSet { key: SettingKey, value: Personal<SettingValue> },
    /// The person has no such preference any more.
    PreferenceRemoved { key: SettingKey },
    /// The account may not be used until it is reactivated, and every session of before has ended. It keeps its e-mail
    /// address.
    Deactivated { reason: Reason },
    /// The account may be used again.
    Reactivated {},
    /// The account has a new password, and every session of before has ended. The password is kept elsewhere, hashed,
    /// under this id.
    PasswordSet { credential: CredentialId },
    /// The account has a role in the whole platform.
    PlatformRoleGranted { role: PlatformRole },
    /// The account has a role in the whole platform no longer.
    PlatformRoleRevoked { role: PlatformRole },
    /// Every session of before has ended.
    SessionsRevoked {
        /// Of the sessions to come; those of a lower one have ended.
        generation: u64,
        reason: Reason,
    },
}

impl cqrs_es::DomainEvent for AccountEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::Registered { .. } => "registered",
            Self::Renamed { .. } => "renamed",
            Self::EmailChanged { .. } => "email_changed",
            Self::ProfileChanged { .. } => "profile_changed",
            Self::PreferenceSet { .. } => "preference_set",
            Self::PreferenceRemoved { .. } => "preference_removed",
            Self::Deactivated { .. } => "deactivated",
            Self::Reactivated {} => "reactivated",
            Self::PasswordSet { .. } => "password_set",
            Self::PlatformRoleGranted { .. } => "platform_role_granted",
            Self::PlatformRoleRevoked { .. } => "platform_role_revoked",
            Self::SessionsRevoked { .. } => "sessions_revoked",
        };
        format!("platform.account.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl crate::Versioned for AccountEvent {}

/// Why an account refuses a command.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccountError {
    #[error("there is no such account; register it first")]
    NotRegistered,
    #[error("the account is registered already; register another one under an id of its own")]
    AlreadyRegistered,
    #[error("the account is deactivated; reactivate it first")]
    Deactivated,
    #[error("an account is registered in the platform's tenant; use that tenant's id")]
    ForeignStream,
    #[error("the personal data of an account is its own; use the account's id as the subject of the e-mail address")]
    ForeignEmail,
    #[error("the personal data of an account is its own; use the account's id as the subject of the name")]
    ForeignName,
    #[error("the e-mail address was erased; give another one")]
    EmailErased,
    #[error("the name was erased; give another one")]
    NameErased,
    #[error("the personal data of an account is its own; use the account's id as the subject")]
    ForeignDetail,
    #[error("this was erased; give it anew")]
    DetailErased,
    #[error("an account has at most {PREFERENCES_MAX} preferences; remove some first")]
    TooManyPreferences,
    #[error("the sessions of the account have been revoked since; look at them again")]
    OtherGeneration,
}

impl Refusal for AccountError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotRegistered => "ACCOUNT_NOT_REGISTERED",
            Self::AlreadyRegistered => "ACCOUNT_ALREADY_REGISTERED",
            Self::Deactivated => "ACCOUNT_DEACTIVATED",
            Self::ForeignStream => "ACCOUNT_FOREIGN_STREAM",
            Self::ForeignEmail | Self::ForeignName | Self::ForeignDetail => "ACCOUNT_FOREIGN_SUBJECT",
            Self::DetailErased => "ACCOUNT_DETAIL_ERASED",
            Self::TooManyPreferences => "ACCOUNT_TOO_MANY_PREFERENCES",
            Self::EmailErased => "ACCOUNT_EMAIL_ERASED",
            Self::NameErased => "ACCOUNT_NAME_ERASED",
            Self::OtherGeneration => "ACCOUNT_OTHER_SESSIONS",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::ForeignEmail | Self::EmailErased => &["email"],
            Self::ForeignName | Self::NameErased => &["name"],
            Self::NotRegistered
            | Self::AlreadyRegistered
            | Self::Deactivated
            | Self::ForeignStream
            | Self::ForeignDetail
            | Self::DetailErased
            | Self::OtherGeneration => &[],
            Self::TooManyPreferences => &["key"],
        }
    }
}

crate::cqrs_aggregate!(
    Account,
    type = "account",
    command = AccountCommand,
    event = AccountEvent,
    error = AccountError
);

impl EventSourced for Account {
    const CONTEXT: &'static str = "platform";

    fn decide(&self, context: &Context, command: AccountCommand) -> Result<Vec<AccountEvent>, AccountError> {
        use {Account::*, AccountCommand as C, AccountError as Refused, AccountEvent as E};
        let already_so = || Ok(vec![]);

        match (self, command) {
            (Absent, C::Register { email, name }) => {
                if context.tenant != PLATFORM_TENANT {
                    return Err(Refused::ForeignStream);
                }
                own_email(context, &email)?;
                own_name(context, &name)?;
                Ok(vec![E::Registered { email, name }])
            }
            (Active { .. } | Deactivated { .. }, C::Register { .. }) => Err(Refused::AlreadyRegistered),

            (Active { profile }, C::Rename { name }) if profile.name == name => already_so(),
            (Active { .. }, C::Rename { name }) => {
                own_name(context, &name)?;
                Ok(vec![E::Renamed { name }])
            }
            (Active { profile }, C::ChangeEmail { email }) if profile.email == email => already_so(),
            (Active { .. }, C::ChangeEmail { email }) => {
                own_email(context, &email)?;
                Ok(vec![E::EmailChanged { email }])
            }
            (Active { profile }, C::SetPassword { credential }) if profile.password == Some(credential) => already_so(),
            (Active { .. }, C::SetPassword { credential }) => Ok(vec![E::PasswordSet { credential }]),
            (Active { profile }, C::GrantPlatformRole { role }) => match profile.platform_roles.contains(&role) {
                true => already_so(),
                false => Ok(vec![E::PlatformRoleGranted { role }]),
            },
            (Active { profile }, C::ChangeProfile { name, set, unset }) => profile.change(context, name, set, &unset),
            (Active { profile }, C::SetPreference { key, value }) => profile.prefer(context, key, value),
            (
                Deactivated { .. },
                C::Rename { .. }
                | C::ChangeEmail { .. }
                | C::ChangeProfile { .. }
                | C::SetPreference { .. }
                | C::SetPassword { .. }
                | C::GrantPlatformRole { .. },
            ) => Err(Refused::Deactivated),

            // What takes something away is done to whoever it is, so that it does not come back with them.
            (Active { profile } | Deactivated { profile, .. }, C::RevokePlatformRole { role }) => {
                match profile.platform_roles.contains(&role) {
                    true => Ok(vec![E::PlatformRoleRevoked { role }]),
                    false => already_so(),
                }
            }
            (Active { profile } | Deactivated { profile, .. }, C::RevokeSessions { generation, reason }) => {
                match generation.checked_sub(profile.generation) {
                    None | Some(0) => already_so(),
                    Some(1) => Ok(vec![E::SessionsRevoked { generation, reason }]),
                    Some(_) => Err(Refused::OtherGeneration),
                }
            }

            (Active { .. }, C::Deactivate { reason }) => Ok(vec![E::Deactivated { reason }]),
            (Deactivated { .. }, C::Deactivate { .. }) => already_so(),
            (Deactivated { .. }, C::Reactivate) => Ok(vec![E::Reactivated {}]),
            (Active { .. }, C::Reactivate) => already_so(),

            (
                Absent,
                C::Rename { .. }
                | C::ChangeEmail { .. }
                | C::ChangeProfile { .. }
                | C::SetPreference { .. }
                | C::Deactivate { .. }
                | C::Reactivate
                | C::SetPassword { .. }
                | C::GrantPlatformRole { .. }
                | C::RevokePlatformRole { .. }
                | C::RevokeSessions { .. },
            ) => Err(Refused::NotRegistered),
        }
    }

    /// Of an erased address nothing is left to release here: erasing it has released its key.
    fn keys(&self, events: &[AccountEvent]) -> Vec<KeyChange> {
        let change = |key: String, claim| KeyChange { scope: KeyScope::Platform, kind: EMAIL_KEY, key, claim };
        let mut held = self.profile().and_then(|profile| email_key(&profile.email));
        let mut changes = Vec::new();
        for event in events {
            match event {
                AccountEvent::Registered { email, .. } | AccountEvent::EmailChanged { email } => {
                    let next = email_key(email);
                    if held != next {
                        changes.extend(held.take().map(|key| change(key, false)));
                        changes.extend(next.clone().map(|key| change(key, true)));
                        held = next;
                    }
                }
                // A deactivated account keeps its address: it may come back, and nobody else may take its place.
                AccountEvent::Renamed { .. }
                | AccountEvent::ProfileChanged { .. }
                | AccountEvent::PreferenceSet { .. }
                | AccountEvent::PreferenceRemoved { .. }
                | AccountEvent::Deactivated { .. }
                | AccountEvent::Reactivated {}
                | AccountEvent::PasswordSet { .. }
                | AccountEvent::PlatformRoleGranted { .. }
                | AccountEvent::PlatformRoleRevoked { .. }
                | AccountEvent::SessionsRevoked { .. } => {}
            }
        }
        changes
    }
}

impl Profile {
    /// The events hold what really changes.
    fn change(
        &self,
        context: &Context,
        name: Option<Personal<Name>>,
        set: Details,
        unset: &BTreeSet<Detail>,
    ) -> Result<Vec<AccountEvent>, AccountError> {
        let mut events = Vec::new();
        if let Some(name) = name.filter(|name| *name != self.name) {
            own_name(context, &name)?;
            events.push(AccountEvent::Renamed { name });
        }
        let (set, unset) = self.details.change_to(set, unset);
        set.own(context)?;
        if !set.is_empty() || !unset.is_empty() {
            events.push(AccountEvent::ProfileChanged { set, unset });
        }
        Ok(events)
    }

    fn prefer(
        &self,
        context: &Context,
        key: SettingKey,
        value: Option<Personal<SettingValue>>,
    ) -> Result<Vec<AccountEvent>, AccountError> {
        let held = self.preferences.get(&key);
        match value {
            None if held.is_none() => Ok(vec![]),
            None => Ok(vec![AccountEvent::PreferenceRemoved { key }]),
            Some(value) if held == Some(&value) => Ok(vec![]),
            Some(_) if held.is_none() && self.preferences.len() >= PREFERENCES_MAX => {
                Err(AccountError::TooManyPreferences)
            }
            Some(value) => {
                profile::own_preference(context, &value)?;
                Ok(vec![AccountEvent::PreferenceSet { key, value }])
            }
        }
    }
}

/// The form in which two spellings of one address are the same. Providers that tell case apart in the local part are
/// unheard of, while people who type it in another case are not.
fn email_key(email: &Personal<EmailAddress>) -> Option<String> {
    email.value().map(key_of_email)
}

/// The unique key that an address is found by.
pub fn key_of_email(email: &EmailAddress) -> String {
    email.as_str().to_lowercase()
}

fn own_email(context: &Context, email: &Personal<EmailAddress>) -> Result<(), AccountError> {
    own(context, email, AccountError::ForeignEmail, AccountError::EmailErased)
}

fn own_name(context: &Context, name: &Personal<Name>) -> Result<(), AccountError> {
    own(context, name, AccountError::ForeignName, AccountError::NameErased)
}

/// The field of another person would outlive the erasure of this one, and one that nobody can read is not worth writing.
fn own<T>(
    context: &Context,
    field: &Personal<T>,
    foreign: AccountError,
    erased: AccountError,
) -> Result<(), AccountError> {
    if field.subject().0 != context.id {
        return Err(foreign);
    }
    match field.is_erased() {
        true => Err(erased),
        false => Ok(()),
    }
}
