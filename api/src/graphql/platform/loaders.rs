//! Rows that others point to, read together: one statement per kind and tenant, however many rows point to them.

use super::accounts::AccountRow;
use super::members::MemberRow;
use super::modules::ModuleRow;
use crate::graphql::reads::failed;
use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::{Context, Error, Result};
use daybook_domain::{PLATFORM_TENANT, TenantId};
use daybook_projections::platform::module_switches::{self, SwitchRow};
use daybook_projections::platform::module_versions::{self, VersionRow};
use daybook_projections::platform::{accounts, members, modules};
use daybook_projections::{Reader, Scope};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// Rows read at once.
const BATCH_MAX: usize = 500;

/// Loads rows that somebody was permitted to see the way to. Nothing is kept between requests.
pub struct Rows {
    reader: Reader,
}

/// A membership of a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberKey(pub TenantId, pub Uuid);

/// A module of a tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleKey(pub TenantId, pub Uuid);

/// Whether a module is switched off for a member of a tenant: the membership, then the module.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberSwitchKey(pub TenantId, pub Uuid, pub Uuid);

/// Whether the platform has switched modules of a key off.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PlatformSwitchKey(pub String);

/// The latest versions of a module of a tenant, at most so many.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionsKey(pub TenantId, pub Uuid, pub u16);

/// The account behind a membership.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PersonKey(pub Uuid);

impl Rows {
    /// For the data of a schema.
    pub(crate) fn loader(reader: Reader) -> DataLoader<Rows> {
        DataLoader::new(Rows { reader }, tokio::spawn).max_batch_size(BATCH_MAX)
    }
}

/// A row through the request's loader.
pub(super) async fn load<K>(ctx: &Context<'_>, key: K) -> Result<Option<<Rows as Loader<K>>::Value>>
where
    K: Send + Sync + std::hash::Hash + Eq + Clone + 'static,
    Rows: Loader<K, Error = Error>,
{
    ctx.data::<DataLoader<Rows>>()?.load_one(key).await
}

fn by_tenant(keys: impl Iterator<Item = (TenantId, Uuid)>) -> BTreeMap<TenantId, Vec<Uuid>> {
    let mut tenants: BTreeMap<TenantId, Vec<Uuid>> = BTreeMap::new();
    keys.for_each(|(tenant, id)| tenants.entry(tenant).or_default().push(id));
    tenants
}

impl Loader<MemberKey> for Rows {
    type Value = MemberRow;
    type Error = Error;

    async fn load(&self, keys: &[MemberKey]) -> Result<HashMap<MemberKey, MemberRow>> {
        let mut found = HashMap::new();
        for (tenant, ids) in by_tenant(keys.iter().map(|key| (key.0, key.1))) {
            let session = self.reader.begin(Scope::Tenant(tenant)).await.map_err(failed)?;
            let rows = members::by_ids(&session, tenant, &ids).await.map_err(failed)?;
            session.finish().await.map_err(failed)?;
            found.extend(rows.into_iter().map(|row| (MemberKey(tenant, row.membership_id), row)));
        }
        Ok(found)
    }
}

impl Loader<ModuleKey> for Rows {
    type Value = ModuleRow;
    type Error = Error;

    async fn load(&self, keys: &[ModuleKey]) -> Result<HashMap<ModuleKey, ModuleRow>> {
        let mut found = HashMap::new();
        for (tenant, ids) in by_tenant(keys.iter().map(|key| (key.0, key.1))) {
            let session = self.reader.begin(Scope::Tenant(tenant)).await.map_err(failed)?;
            let rows = modules::by_ids(&session, tenant, &ids).await.map_err(failed)?;
            session.finish().await.map_err(failed)?;
            found.extend(rows.into_iter().map(|row| (ModuleKey(tenant, row.module_id), row)));
        }
        Ok(found)
    }
}

impl Loader<MemberSwitchKey> for Rows {
    type Value = SwitchRow;
    type Error = Error;

    async fn load(&self, keys: &[MemberSwitchKey]) -> Result<HashMap<MemberSwitchKey, SwitchRow>> {
        let mut tenants: BTreeMap<TenantId, Vec<(Uuid, Uuid)>> = BTreeMap::new();
        keys.iter().for_each(|MemberSwitchKey(of, member, id)| tenants.entry(*of).or_default().push((*member, *id)));
        let mut found = HashMap::new();
        for (tenant, pairs) in tenants {
            let session = self.reader.begin(Scope::Tenant(tenant)).await.map_err(failed)?;
            let rows = module_switches::of_members(&session, tenant, &pairs).await.map_err(failed)?;
            session.finish().await.map_err(failed)?;
            found.extend(rows.into_iter().filter_map(|row| {
                let key = MemberSwitchKey(tenant, row.membership_id?, row.module_id?);
                Some((key, row))
            }));
        }
        Ok(found)
    }
}

impl Loader<PlatformSwitchKey> for Rows {
    type Value = SwitchRow;
    type Error = Error;

    async fn load(&self, keys: &[PlatformSwitchKey]) -> Result<HashMap<PlatformSwitchKey, SwitchRow>> {
        let keys: Vec<String> = keys.iter().map(|key| key.0.clone()).collect();
        let session = self.reader.begin(Scope::Tenant(PLATFORM_TENANT)).await.map_err(failed)?;
        let rows = module_switches::of_keys(&session, &keys).await.map_err(failed)?;
        session.finish().await.map_err(failed)?;
        Ok(rows.into_iter().filter_map(|row| Some((PlatformSwitchKey(row.module_key.clone()?), row))).collect())
    }
}

impl Loader<VersionsKey> for Rows {
    type Value = Vec<VersionRow>;
    type Error = Error;

    async fn load(&self, keys: &[VersionsKey]) -> Result<HashMap<VersionsKey, Vec<VersionRow>>> {
        let mut lists: BTreeMap<(TenantId, u16), Vec<Uuid>> = BTreeMap::new();
        keys.iter().for_each(|VersionsKey(tenant, id, first)| lists.entry((*tenant, *first)).or_default().push(*id));
        let mut found: HashMap<VersionsKey, Vec<VersionRow>> = HashMap::new();
        for ((tenant, first), ids) in lists {
            let session = self.reader.begin(Scope::Tenant(tenant)).await.map_err(failed)?;
            let rows = module_versions::latest(&session, tenant, &ids, first).await.map_err(failed)?;
            session.finish().await.map_err(failed)?;
            for row in rows {
                found.entry(VersionsKey(tenant, row.module_id, first)).or_default().push(row);
            }
        }
        Ok(found)
    }
}

impl Loader<PersonKey> for Rows {
    type Value = AccountRow;
    type Error = Error;

    async fn load(&self, keys: &[PersonKey]) -> Result<HashMap<PersonKey, AccountRow>> {
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let session = self.reader.begin(Scope::Tenant(PLATFORM_TENANT)).await.map_err(failed)?;
        let rows = accounts::by_ids(&session, &ids).await.map_err(failed)?;
        session.finish().await.map_err(failed)?;
        Ok(rows.into_iter().map(|row| (PersonKey(row.account_id), row)).collect())
    }
}
