//! What it looks like: events folded into rows, and the queries on those rows.
//!
//! Everything here can be thrown away and made again from the journal. Refuses to decide anything:
//! what happened is the journal's, what may happen the domain's. Refuses to be read outside a
//! transaction that names whose rows it reads.

pub mod audit;
pub mod energy;
pub mod engine;
pub mod platform;
pub mod read;
pub mod replay;

pub use audit::Audit;
pub use energy::devices::Devices;
pub use energy::readings::ReadingsSeries;
pub use engine::{Model, Parts, Projections, ReadModel, SeriesModel};
pub use platform::account_tenants::AccountTenants;
pub use platform::accounts::Accounts;
pub use platform::consents::Consents;
pub use platform::grants::Grants;
pub use platform::members::Members;
pub use platform::module_switches::ModuleSwitches;
pub use platform::module_versions::ModuleVersions;
pub use platform::modules::Modules;
pub use platform::roles::Roles;
pub use platform::services::Services;
pub use platform::sessions::Sessions;
pub use platform::tenants::Tenants;
pub use read::{ReadError, ReadSession, Reader, Scope};

/// Every read model. A new one is a file and a line here.
pub fn read_models() -> Vec<Model> {
    vec![
        Model::of::<Tenants>(),
        Model::of::<Accounts>(),
        Model::of::<Members>(),
        Model::of::<AccountTenants>(),
        Model::of::<Sessions>(),
        Model::of::<Services>(),
        Model::of::<Modules>(),
        Model::of::<ModuleVersions>(),
        Model::of::<ModuleSwitches>(),
        Model::of::<Grants>(),
        Model::of::<Roles>(),
        Model::of::<Consents>(),
        Model::of::<Devices>(),
        Model::series::<ReadingsSeries>(),
        Model::series::<Audit>(),
    ]
}
