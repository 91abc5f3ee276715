//! Accounts, the login identities of people: the platform's alone.

use crate::graphql::audit::door::{denied, sees};
use crate::graphql::filters::{DateTimeFilter, IdFilter, TextFilter, enum_filter, filter, filter_input};
use crate::graphql::paging::{OrderDirection, PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, at_least, call, credential, parts, permit, receipt};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::connection::Connection;
use async_graphql::{ComplexObject, Context, Enum, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_app::authorize;
use daybook_domain::personal::Personal;
use daybook_domain::platform::{Account as AccountAggregate, AccountCommand, PlatformRole};
use daybook_domain::value::{EmailAddress, Name, Reason};
use daybook_domain::{Action, InvalidValue, PLATFORM_TENANT, SubjectId};
use daybook_projections::engine::Lanes;
use daybook_projections::platform::accounts::{self, AccountField, AccountOrderBy};
use daybook_projections::read::filter::Filter;
use daybook_projections::{Accounts, ReadModel, Scope};
use uuid::Uuid;

pub(super) use daybook_projections::platform::accounts::AccountRow;

const READ_MODELS: &[&str] = &[Accounts::NAME];
const SCOPE: Scope = Scope::Tenant(PLATFORM_TENANT);

/// Whether an account may be used.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::platform::accounts::AccountStatus")]
pub enum AccountStatus {
    /// May be used.
    Active,
    /// Until it is reactivated.
    Deactivated,
}

/// A person's login identity, the same in every tenant.
#[derive(SimpleObject, Clone)]
pub struct Account {
    /// Also the id by which it becomes a member.
    pub id: Uuid,
    /// E.g. `"Ada Lovelace"`. Null once erased.
    pub name: Option<String>,
    /// Unique on the platform, e.g. `"ada@example.com"`. Null once erased.
    pub email: Option<String>,
    /// True when the person's data was erased.
    pub erased: bool,
    /// Whether it may be used.
    pub status: AccountStatus,
    /// Why it is deactivated.
    pub reason: Option<String>,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    /// When it was registered.
    pub registered_at: DateTime<Utc>,
    /// When it changed last.
    pub changed_at: DateTime<Utc>,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        Account {
            id: row.account_id,
            name: row.name,
            email: row.email,
            erased: row.name_erased || row.email_erased,
            status: row.status.into(),
            reason: row.deactivated_reason,
            version: BigInt(row.version),
            registered_at: row.registered_at,
            changed_at: row.changed_at,
        }
    }
}

/// What to sort accounts by.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AccountOrderField {
    /// When they were registered.
    #[default]
    RegisteredAt,
    /// Upper and lower case alike.
    Name,
    /// Upper and lower case alike.
    Email,
}

/// How to sort accounts.
#[derive(InputObject, Clone, Copy, Default)]
pub struct AccountOrder {
    /// What to sort by.
    #[graphql(default)]
    pub field: AccountOrderField,
    /// Which way.
    #[graphql(default)]
    pub direction: OrderDirection,
}

enum_filter! {
    /// A condition on the status of an account, e.g. `{ eq: ACTIVE }`. Every operator that is given must hold.
    AccountStatusFilter of AccountStatus as daybook_projections::platform::accounts::AccountStatus,
    "`ACTIVE`.", "`[ACTIVE]`."
}

filter_input! {
    /// Which accounts; everything that is given must hold. E.g. `{ email: { startsWith: "ada@" }, status: { eq: ACTIVE } }`.
    AccountFilter on AccountField {
        /// The id, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        id: IdFilter => AccountField::Id,
        /// The person's name, upper and lower case alike, e.g. `{ startsWith: "ada" }`. Null once erased.
        name: TextFilter => AccountField::Name,
        /// The e-mail address, upper and lower case alike, e.g. `{ eq: "ada@example.com" }`. Null once erased.
        email: TextFilter => AccountField::Email,
        /// The status, e.g. `{ eq: DEACTIVATED }`.
        status: AccountStatusFilter => AccountField::Status,
        /// When it was registered, e.g. `{ gte: "2025-01-01T00:00:00Z" }`.
        registered_at: DateTimeFilter => AccountField::RegisteredAt,
    }
}

/// What a mutation of an account led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct AccountPayload {
    #[graphql(flatten)]
    pub(super) receipt: Receipt,
}

#[ComplexObject]
impl AccountPayload {
    /// The account after the change. Null when the business refused, or when the caller may not read it.
    async fn account(&self, ctx: &Context<'_>) -> Result<Option<Account>> {
        match self.receipt.shown(ctx, Action::AccountRead, READ_MODELS).await? {
            Some(written) => one(ctx, written.id).await,
            None => Ok(None),
        }
    }
}

async fn one(ctx: &Context<'_>, id: Uuid) -> Result<Option<Account>> {
    let reader = parts(ctx)?.reads.reader();
    let row = reader.transaction(SCOPE, async |session| accounts::account(session, id).await).await;
    Ok(row.map_err(failed)?.map(Account::from))
}

/// The account to register.
#[derive(InputObject)]
pub struct RegisterAccountInput {
    /// 1–200 characters, e.g. `"Ada Lovelace"`.
    pub name: String,
    /// Unique on the platform, e.g. `"ada@example.com"`.
    pub email: String,
    /// Id of this command, chosen by you: a repeat with the same id gives the same answer and no second account.
    pub client_mutation_id: Option<Uuid>,
}

macro_rules! account_inputs {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(InputObject)]
        pub struct $name {
            /// Id of the account.
            pub id: Uuid,
            $($(#[$field_doc])* pub $field: $type,)*
            /// Change only if the account still has this version; `CONFLICT` otherwise.
            pub expected_version: Option<BigInt>,
            /// Id of this command, chosen by you: a repeat with the same id gives the same answer.
            pub client_mutation_id: Option<Uuid>,
        }

        impl $name {
            fn target(&self) -> Target {
                Target { id: self.id, expected_version: self.expected_version, command_id: self.client_mutation_id }
            }
        }
    )+};
}

account_inputs! {
    /// An account and its new name.
    RenameAccountInput {
        /// 1–200 characters, e.g. `"Ada King"`.
        name: String,
    }
    /// An account and its new e-mail address.
    ChangeAccountEmailInput {
        /// E.g. `"ada@example.com"`. The address of before is free again.
        email: String,
    }
    /// An account to deactivate.
    DeactivateAccountInput {
        /// 1–500 characters.
        reason: String,
    }
    /// An account to reactivate.
    ReactivateAccountInput {}
    /// An account to make an administrator of the platform.
    GrantPlatformAdminInput {}
    /// An account that is to be no administrator of the platform any more.
    RevokePlatformAdminInput {}
}

struct Target {
    id: Uuid,
    expected_version: Option<BigInt>,
    command_id: Option<Uuid>,
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<AccountCommand, InvalidValue>,
) -> Result<AccountPayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(AccountPayload { receipt: Receipt::refused(invalid) }),
    };
    let authorized =
        authorize(credential(ctx)?, PLATFORM_TENANT, command).map_err(|d| denied(ctx, &d, PLATFORM_TENANT))?;
    let call = call(ctx, target.command_id, target.expected_version)?;
    let executed = parts(ctx)?.executor.execute::<AccountAggregate>(authorized, target.id, call).await;
    Ok(AccountPayload { receipt: receipt(ctx, target.id, executed)? })
}

/// The account's own field: it is the subject of its personal data.
fn own<T>(id: Uuid, value: T) -> Personal<T> {
    Personal::known(SubjectId(id), value)
}

#[derive(Default)]
pub struct AccountMutation;

#[Object]
impl AccountMutation {
    /// Registers an account. Needs the permission `account.register`, which is the platform's alone.
    async fn register_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account to register.")] input: RegisterAccountInput,
    ) -> Result<AccountPayload> {
        // The id follows from the command, so a repeat is about the same account.
        let command_id = input.client_mutation_id.map_or_else(|| parts(ctx).map(|p| p.system.uuid_v7()), Ok)?;
        let id = Uuid::new_v5(&credential(ctx)?.actor.id, command_id.as_bytes());
        let command = || -> Result<AccountCommand, InvalidValue> {
            let (email, name) = (EmailAddress::parse(&input.email)?, Name::parse(&input.name)?);
            Ok(AccountCommand::Register { email: own(id, email), name: own(id, name) })
        };
        let target = Target { id, expected_version: None, command_id: input.client_mutation_id };
        carry_out(ctx, target, command()).await
    }

    /// Gives a person another name. The platform's alone.
    async fn rename_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account and its new name.")] input: RenameAccountInput,
    ) -> Result<AccountPayload> {
        let command = Name::parse(&input.name).map(|name| AccountCommand::Rename { name: own(input.id, name) });
        carry_out(ctx, input.target(), command).await
    }

    /// Gives a person another e-mail address. The platform's alone.
    async fn change_account_email(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account and its new address.")] input: ChangeAccountEmailInput,
    ) -> Result<AccountPayload> {
        let email = EmailAddress::parse(&input.email);
        let command = email.map(|email| AccountCommand::ChangeEmail { email: own(input.id, email) });
        carry_out(ctx, input.target(), command).await
    }

    /// Stops an account from being used until it is reactivated. The platform's alone.
    async fn deactivate_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account and why.")] input: DeactivateAccountInput,
    ) -> Result<AccountPayload> {
        let command = Reason::parse(&input.reason).map(|reason| AccountCommand::Deactivate { reason });
        carry_out(ctx, input.target(), command).await
    }

    /// Lets a deactivated account be used again. The platform's alone.
    async fn reactivate_account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account.")] input: ReactivateAccountInput,
    ) -> Result<AccountPayload> {
        carry_out(ctx, input.target(), Ok(AccountCommand::Reactivate)).await
    }

    /// Makes somebody an administrator of the whole platform. The platform's alone.
    async fn grant_platform_admin(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account.")] input: GrantPlatformAdminInput,
    ) -> Result<AccountPayload> {
        let command = AccountCommand::GrantPlatformRole { role: PlatformRole::PlatformAdmin };
        carry_out(ctx, input.target(), Ok(command)).await
    }

    /// Takes that away again; it counts at once. The platform's alone.
    async fn revoke_platform_admin(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account.")] input: RevokePlatformAdminInput,
    ) -> Result<AccountPayload> {
        let command = AccountCommand::RevokePlatformRole { role: PlatformRole::PlatformAdmin };
        carry_out(ctx, input.target(), Ok(command)).await
    }
}

#[derive(Default)]
pub struct AccountQuery;

#[Object]
impl AccountQuery {
    /// One account. Null when there is none with this id, or none that you may read.
    async fn account(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the account.")] id: Uuid,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Option<Account>> {
        if !sees(ctx, Action::AccountRead, PLATFORM_TENANT)? {
            return Ok(None);
        }
        self::at_least(ctx, READ_MODELS, Lanes::Of(PLATFORM_TENANT), at_least).await?;
        one(ctx, id).await
    }

    /// All accounts, a page at a time. Needs the permission `account.list`, which is the platform's alone.
    #[allow(clippy::too_many_arguments)]
    async fn accounts(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which accounts; all unless told.")] filter: Option<AccountFilter>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "What to sort by; the id decides between equals.", default)] order_by: AccountOrder,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Account, AccountCount>> {
        permit(ctx, Action::AccountList, PLATFORM_TENANT)?;
        let opaque = &parts(ctx)?.opaque;
        let list = format!("accounts v1 {:?} {:?}", order_by.field, order_by.direction);
        let page = PageArgs::new(first, after, last, before)?.page(opaque, &list)?;
        let (by, direction) = (order_by.field.into(), order_by.direction.into());
        let filter = self::filter(filter)?;
        self::at_least(ctx, READ_MODELS, Lanes::Of(PLATFORM_TENANT), at_least).await?;
        let reader = parts(ctx)?.reads.reader();
        let slice = reader
            .transaction(SCOPE, async |session| accounts::page(session, &filter, by, direction, &page).await)
            .await
            .map_err(failed)?;
        connection(opaque, &list, slice, AccountCount(filter), |row| row.cursor(by), Account::from)
    }
}

impl From<AccountOrderField> for AccountOrderBy {
    fn from(field: AccountOrderField) -> Self {
        match field {
            AccountOrderField::RegisteredAt => AccountOrderBy::RegisteredAt,
            AccountOrderField::Name => AccountOrderBy::Name,
            AccountOrderField::Email => AccountOrderBy::Email,
        }
    }
}

/// Counted only when asked for.
pub struct AccountCount(Filter<AccountField>);

#[Object]
impl AccountCount {
    /// How many accounts there are on all pages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<BigInt> {
        let reader = parts(ctx)?.reads.reader();
        let count = reader.transaction(SCOPE, async |session| accounts::count(session, &self.0).await).await;
        Ok(BigInt::from(count.map_err(failed)?))
    }
}
