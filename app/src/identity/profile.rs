//! What people say of themselves, and how they like things: each of themselves, by their own session.

use super::Identity;
use super::login::{LoginError, own_session};
use crate::authorize::Credential;
use crate::executor::{Call, Executed};
use daybook_domain::platform::account::{AvatarUrl, Detail, Details, Locale, ZoneName};
use daybook_domain::platform::tenant::{SettingKey, SettingValue};
use daybook_domain::platform::{Account, AccountCommand};
use daybook_domain::value::Name;
use daybook_domain::{Personal, SubjectId};
use std::collections::BTreeSet;

/// What somebody says of themselves from now on. What is named nowhere stays.
#[derive(Default)]
pub struct ProfileChange {
    pub name: Option<Name>,
    pub avatar_url: Option<AvatarUrl>,
    pub locale: Option<Locale>,
    pub time_zone: Option<ZoneName>,
    pub unset: BTreeSet<Detail>,
}

impl Identity {
    /// Changes the profile of whose session it is.
    ///
    /// # Errors
    /// [`LoginError::Ended`] for what is no session.
    pub async fn change_profile(
        &self,
        credential: &Credential,
        change: ProfileChange,
        call: Call,
    ) -> Result<Executed<Account>, LoginError> {
        let (account, session) = own_session(credential)?;
        let subject = SubjectId(account.0);
        let ProfileChange { name, avatar_url, locale, time_zone, unset } = change;
        let set = Details {
            avatar_url: avatar_url.map(|value| Personal::known(subject, value)),
            locale: locale.map(|value| Personal::known(subject, value)),
            time_zone: time_zone.map(|value| Personal::known(subject, value)),
        };
        let name = name.map(|name| Personal::known(subject, name));
        let command = AccountCommand::ChangeProfile { name, set, unset };
        Ok(self.as_itself::<Account>(account, Some(session), account.0, command, call).await?)
    }

    /// Sets or removes a preference of whose session it is.
    ///
    /// # Errors
    /// [`LoginError::Ended`] for what is no session.
    pub async fn set_preference(
        &self,
        credential: &Credential,
        key: SettingKey,
        value: Option<SettingValue>,
        call: Call,
    ) -> Result<Executed<Account>, LoginError> {
        let (account, session) = own_session(credential)?;
        let value = value.map(|value| Personal::known(SubjectId(account.0), value));
        let command = AccountCommand::SetPreference { key, value };
        Ok(self.as_itself::<Account>(account, Some(session), account.0, command, call).await?)
    }
}
