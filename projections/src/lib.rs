//! What it looks like: events folded into rows, and the queries on those rows.
//!
//! Everything here can be thrown away and made again from the journal. Refuses to decide anything:
//! what happened is the journal's, what may happen the domain's. Refuses to be read outside a
//! transaction that names whose rows it reads.

pub mod engine;
pub mod platform;
pub mod read;

pub use engine::{Model, Parts, Projections, ReadModel};
pub use platform::tenants::Tenants;
pub use read::{ReadError, ReadSession, Reader, Scope};

/// Every read model. A new one is a file and a line here.
pub fn read_models() -> Vec<Model> {
    vec![Model::of::<Tenants>()]
}
