//! One's own profile and preferences. Nobody reads or writes those of another.

use super::sessions::{told, unreadable};
use crate::graphql::errors::UserError;
use crate::graphql::request::{Receipt, call, credential, parts, receipt};
use crate::graphql::scalars::BigInt;
use async_graphql::{ComplexObject, Context, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use daybook_app::identity::{LoginError, ProfileChange};
use daybook_app::{ExecuteError, Executed};
use daybook_domain::platform::Account;
use daybook_domain::platform::account::{AvatarUrl, Detail, Locale, ZoneName, parse_key, parse_preference};
use daybook_domain::value::Name;
use daybook_domain::{AccountId, InvalidValue};
use uuid::Uuid;

/// What you say of yourself.
#[derive(SimpleObject, Clone)]
pub struct MyProfile {
    /// Null once erased.
    pub name: Option<String>,
    /// Where a picture of you is. Null where you have not said, or once erased.
    pub avatar_url: Option<String>,
    /// E.g. `"de-AT"`. Null where you have not said, or once erased.
    pub locale: Option<String>,
    /// E.g. `"Europe/Vienna"`. Null where you have not said, or once erased.
    pub time_zone: Option<String>,
}

/// How you like something.
#[derive(SimpleObject, Clone)]
pub struct MyPreference {
    /// E.g. `"theme"`.
    pub key: String,
    /// True, false, a whole number or a text. Null once erased.
    pub value: Option<Json<serde_json::Value>>,
}

async fn account(ctx: &Context<'_>, account: Uuid) -> Result<Account> {
    parts(ctx)?.identity.account(AccountId(account)).await.map_err(|e| unreadable(&e))
}

pub(super) async fn profile_of(ctx: &Context<'_>, id: Uuid) -> Result<Option<MyProfile>> {
    Ok(account(ctx, id).await?.profile().map(|profile| {
        let details = &profile.details;
        MyProfile {
            name: profile.name.value().map(|name| name.as_str().to_owned()),
            avatar_url: details.avatar_url.as_ref().and_then(|of| of.value()).map(|of| of.as_str().to_owned()),
            locale: details.locale.as_ref().and_then(|of| of.value()).map(|of| of.as_str().to_owned()),
            time_zone: details.time_zone.as_ref().and_then(|of| of.value()).map(|of| of.as_str().to_owned()),
        }
    }))
}

pub(super) async fn preferences_of(ctx: &Context<'_>, id: Uuid) -> Result<Vec<MyPreference>> {
    let account = account(ctx, id).await?;
    let preferences = account.profile().into_iter().flat_map(|profile| &profile.preferences);
    let preference =
        |(key, value): (&daybook_domain::platform::tenant::SettingKey, &daybook_domain::Personal<_>)| MyPreference {
            key: key.as_str().to_owned(),
            value: value.value().and_then(|value| serde_json::to_value(value).ok()).map(Json),
        };
    Ok(preferences.map(preference).collect())
}

/// What to change of your profile. What is left out stays.
#[derive(InputObject)]
pub struct UpdateMyProfileInput {
    /// 1–200 characters, e.g. `"Ada Lovelace"`.
    pub name: Option<String>,
    /// An address of the scheme https, e.g. `"https://example.com/ada.png"`. Null removes it.
    pub avatar_url: MaybeUndefined<String>,
    /// Language and perhaps region, e.g. `"de-AT"`. Null removes it.
    pub locale: MaybeUndefined<String>,
    /// One of the IANA data base, e.g. `"Europe/Vienna"`. Null removes it.
    pub time_zone: MaybeUndefined<String>,
    /// Change only if your account still has this version; `CONFLICT` otherwise.
    pub expected_version: Option<BigInt>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
    pub client_mutation_id: Option<Uuid>,
}

/// A preference to set or to remove.
#[derive(InputObject)]
pub struct SetMyPreferenceInput {
    /// A small letter, then at most 63 of a-z, 0-9, _ and ., e.g. `"theme"`.
    pub key: String,
    /// True, false, a whole number or a text of at most 500 characters. Null or absent removes it.
    pub value: Option<Json<serde_json::Value>>,
    /// Change only if your account still has this version; `CONFLICT` otherwise.
    pub expected_version: Option<BigInt>,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
    pub client_mutation_id: Option<Uuid>,
}

/// What changing your profile or a preference led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct MyProfilePayload {
    #[graphql(flatten)]
    receipt: Receipt,
}

#[ComplexObject]
impl MyProfilePayload {
    /// Your profile after it. Null when the business refused.
    async fn profile(&self, ctx: &Context<'_>) -> Result<Option<MyProfile>> {
        match self.receipt.position {
            Some(_) => profile_of(ctx, credential(ctx)?.actor.id).await,
            None => Ok(None),
        }
    }

    /// Your preferences after it, by key. None when the business refused.
    async fn preferences(&self, ctx: &Context<'_>) -> Result<Vec<MyPreference>> {
        match self.receipt.position {
            Some(_) => preferences_of(ctx, credential(ctx)?.actor.id).await,
            None => Ok(Vec::new()),
        }
    }
}

/// `null` removes, what is left out stays.
fn detail<T>(
    sent: &MaybeUndefined<String>,
    of: Detail,
    unset: &mut std::collections::BTreeSet<Detail>,
    parse: impl Fn(&str) -> Result<T, InvalidValue>,
    faults: &mut Vec<UserError>,
) -> Option<T> {
    match sent {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => {
            unset.insert(of);
            None
        }
        MaybeUndefined::Value(text) => parse(text).map_err(|invalid| faults.push(invalid.into())).ok(),
    }
}

fn change(input: &UpdateMyProfileInput) -> Result<ProfileChange, Vec<UserError>> {
    let (mut unset, mut faults) = (std::collections::BTreeSet::new(), Vec::new());
    let name = input.name.as_deref().map(Name::parse).transpose();
    let name = name.map_err(|invalid| faults.push(invalid.into())).ok().flatten();
    let avatar_url = detail(&input.avatar_url, Detail::AvatarUrl, &mut unset, AvatarUrl::parse, &mut faults);
    let locale = detail(&input.locale, Detail::Locale, &mut unset, Locale::parse, &mut faults);
    let time_zone = detail(&input.time_zone, Detail::TimeZone, &mut unset, ZoneName::parse, &mut faults);
    match faults.is_empty() {
        true => Ok(ProfileChange { name, avatar_url, locale, time_zone, unset }),
        false => Err(faults),
    }
}

fn refused(faults: Vec<UserError>) -> MyProfilePayload {
    MyProfilePayload { receipt: Receipt::refused_all(faults) }
}

fn payload(ctx: &Context<'_>, done: Result<Executed<Account>, LoginError>) -> Result<MyProfilePayload> {
    let id = credential(ctx)?.actor.id;
    let receipt = match done {
        Ok(executed) => receipt(ctx, id, Ok::<_, ExecuteError<daybook_domain::platform::AccountError>>(executed))?,
        Err(LoginError::Account(refused)) => receipt::<Account, _>(ctx, id, Err(refused))?,
        Err(failure) => Receipt::refused(told(ctx, failure)?),
    };
    Ok(MyProfilePayload { receipt })
}

#[derive(Default)]
pub struct ProfileMutation;

#[Object]
impl ProfileMutation {
    /// Changes what you say of yourself. It is your own: personal data, encrypted under your key.
    async fn update_my_profile(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What to change.")] input: UpdateMyProfileInput,
    ) -> Result<MyProfilePayload> {
        let change = match change(&input) {
            Ok(change) => change,
            Err(faults) => return Ok(refused(faults)),
        };
        let call = call(ctx, input.client_mutation_id, input.expected_version)?;
        payload(ctx, parts(ctx)?.identity.change_profile(credential(ctx)?, change, call).await)
    }

    /// Sets or removes a preference of yours; at most 50. Nobody else reads them.
    async fn set_my_preference(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which, and how.")] input: SetMyPreferenceInput,
    ) -> Result<MyProfilePayload> {
        let value = input.value.as_ref().map(|Json(value)| value).filter(|value| !value.is_null());
        let parsed = parse_key(&input.key).and_then(|key| Ok((key, value.map(parse_preference).transpose()?)));
        let (key, value) = match parsed {
            Ok(parsed) => parsed,
            Err(invalid) => return Ok(refused(vec![invalid.into()])),
        };
        let call = call(ctx, input.client_mutation_id, input.expected_version)?;
        payload(ctx, parts(ctx)?.identity.set_preference(credential(ctx)?, key, value, call).await)
    }
}
