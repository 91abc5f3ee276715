//! Signs what has become durable, a little after it has.
//!
//! A tree that is signed always continues the one signed before: the journal's goes on from the edge in
//! its own checkpoint, a tenant's from an edge in the database whose root is the signed one. Where the
//! database no longer has that root, nothing is signed for the tenant, and the old checkpoint stays as
//! evidence of what was there.

use super::{CheckpointFileError, CheckpointStore, Log};
use crate::database::{DatabaseError, Pool};
use crate::journal::Durable;
use crate::journal::follow::Hole;
use crate::journal::recorded::{signed, unsigned};
use daybook_domain::TenantId;
use daybook_tlog::{Hash, KeyError, RightEdge, Signer, Verifier};
use futures_util::TryStreamExt;
use lru::LruCache;
use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Bounds of one round.
#[derive(Clone, Debug)]
pub struct CheckpointerOptions {
    pub positions_max: u64,
    pub tenants_max: usize,
    /// Trees of tenants kept in memory; others are looked up.
    pub edges_max: NonZeroUsize,
}

impl Default for CheckpointerOptions {
    fn default() -> Self {
        let edges_max = const { NonZeroUsize::new(10_000).unwrap() };
        CheckpointerOptions { positions_max: 50_000, tenants_max: 500, edges_max }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointerError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    File(#[from] CheckpointFileError),
    #[error(transparent)]
    Hole(#[from] Hole),
    #[error("a leaf hash in the journal has {0} bytes instead of 32: run `daybook verify`")]
    Leaf(usize),
    #[error("the journal ends at position {found}, but up to {expected} it is signed: run `daybook verify`")]
    Shorter { expected: u64, found: u64 },
    #[error("the task that writes checkpoints was ended")]
    Ended,
}

/// What one round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Everything up to here is signed, except for the refused tenants.
    pub position: u64,
    /// Tenants with a new checkpoint.
    pub signed: usize,
    /// Tenants whose journal does not continue their checkpoint.
    pub refused: Vec<TenantId>,
    /// There is more to sign now.
    pub more: bool,
}

/// Signs the trees of tenants that changed, and the journal's.
pub struct Checkpointer {
    store: CheckpointStore,
    signer: Arc<Signer>,
    verifier: Verifier,
    pool: Pool,
    options: CheckpointerOptions,
    /// Read from its file before the first round.
    journal: Option<RightEdge>,
    edges: LruCache<TenantId, RightEdge>,
    /// Said once, not every interval.
    complaint: Option<String>,
}

/// What a round has read.
struct News {
    /// Tenant positions and leaf hashes.
    leaves: HashMap<TenantId, Vec<(u64, Hash)>>,
    /// The tenants, as they appear.
    order: Vec<TenantId>,
    /// The journal's tree at milestones on the way.
    milestones: Vec<RightEdge>,
}

const LEAVES: &str = "select e.position, e.tenant_id, e.tenant_position, e.leaf_hash from journal.events e
 where e.position > $1 and e.position <= $2 order by e.position";
const HEAD: &str =
    "select size, edge from journal.tenant_heads where tenant_id = $1 and size <= $2 order by size desc limit 1";
const TENANT_LEAVES: &str = "select e.tenant_position, e.leaf_hash from journal.events e
 where e.tenant_id = $1 and e.tenant_position > $2 and e.tenant_position <= $3 order by e.tenant_position";

impl Checkpointer {
    /// `pool`: sessions of the projector; one is used at a time.
    ///
    /// # Errors
    /// When the signer's name cannot stand in a note.
    pub fn new(
        store: CheckpointStore,
        signer: &Signer,
        pool: Pool,
        options: CheckpointerOptions,
    ) -> Result<Self, KeyError> {
        let edges = LruCache::new(options.edges_max);
        let signer = Arc::new(signer.renamed(signer.name())?);
        let verifier = signer.verifier();
        Ok(Checkpointer { store, signer, verifier, pool, options, journal: None, edges, complaint: None })
    }

    /// Signs what becomes durable, at most once per `interval`, until `stop` is ready or the writer has
    /// ended; then once more. Errors are logged, and tried again after the interval.
    pub async fn run(
        mut self,
        mut durable: watch::Receiver<Durable>,
        interval: Duration,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let mut stopping = false;
        loop {
            let signed = self.journal.as_ref().map_or(0, RightEdge::size);
            if !stopping {
                tokio::select! {
                    () = &mut stop => stopping = true,
                    more = durable.wait_for(|d| d.position > 0 && d.position != signed) => stopping = more.is_err(),
                }
            }
            self.catch_up(&durable).await;
            if stopping {
                return;
            }
            tokio::select! {
                () = &mut stop => stopping = true,
                () = tokio::time::sleep(interval) => {}
                // Never true: it ends with the writer.
                _ = durable.wait_for(|_| false) => stopping = true,
            }
        }
    }

    async fn catch_up(&mut self, durable: &watch::Receiver<Durable>) {
        loop {
            let up_to = durable.borrow().position;
            match self.run_once(up_to).await {
                Ok(round) => {
                    for tenant in &round.refused {
                        tracing::error!(tenant.id = %tenant.0, "the journal does not continue the tenant's checkpoint; nothing is signed for it: run `daybook verify`");
                    }
                    self.complaint = None;
                    if !round.more {
                        return;
                    }
                }
                Err(CheckpointerError::Database(error)) if error.is_connection() => {
                    tracing::debug!(%error, "checkpoints wait for the database");
                    return;
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    let complaint = format!("{error} {cause}");
                    if self.complaint.as_ref() != Some(&complaint) {
                        tracing::error!(%error, cause, "checkpoints are not signed");
                        self.complaint = Some(complaint);
                    }
                    return;
                }
            }
        }
    }

    /// Signs once what is new up to `durable`, within the bounds of a round.
    ///
    /// # Errors
    /// When the database or the directory cannot be used, or the journal is not what was signed; the
    /// same call may be repeated.
    pub async fn run_once(&mut self, durable: u64) -> Result<Round, CheckpointerError> {
        let mut journal = match &self.journal {
            Some(edge) => edge.clone(),
            None => {
                let (store, verifier) = (self.store.clone(), self.verifier.clone());
                let read = move || store.journal_edge(&verifier);
                tokio::task::spawn_blocking(read).await.map_err(|_| CheckpointerError::Ended)??
            }
        };
        let before = journal.size();
        if durable <= before {
            let shorter = durable > 0 && durable < before;
            self.journal = Some(journal);
            return match shorter {
                true => Err(CheckpointerError::Shorter { expected: before, found: durable }),
                false => Ok(Round { position: before, ..Round::default() }),
            };
        }
        let up_to = durable.min(before + self.options.positions_max);
        let News { leaves, order, milestones } = self.read_leaves(&mut journal, up_to).await?;
        let mut refused = Vec::new();
        let mut trees = Vec::with_capacity(order.len() + 1);
        for tenant in order {
            let new = &leaves[&tenant];
            match self.extended(tenant, new).await? {
                Some(edge) => trees.push((Log::Tenant(tenant), edge)),
                None => refused.push(tenant),
            }
        }
        let signed = trees.len();
        // Last: it says that everything up to its size is signed.
        trees.push((Log::Journal, journal.clone()));
        let (store, signer) = (self.store.clone(), self.signer.clone());
        let write = move || {
            let (tenants, journal) = trees.split_at(signed);
            store.put(tenants, &signer)?;
            store.put_milestones(&milestones, &signer)?;
            store.put(journal, &signer)?;
            Ok::<_, CheckpointFileError>(trees)
        };
        let trees = tokio::task::spawn_blocking(write).await.map_err(|_| CheckpointerError::Ended)??;
        for (log, edge) in trees {
            if let Log::Tenant(tenant) = log {
                self.edges.put(tenant, edge);
            }
        }
        let position = journal.size();
        self.journal = Some(journal);
        Ok(Round { position, signed, refused, more: position < durable })
    }

    /// Extends the journal's tree up to a position, or to the first event of one tenant too many.
    async fn read_leaves(&self, journal: &mut RightEdge, up_to: u64) -> Result<News, CheckpointerError> {
        let query = |e| CheckpointerError::Database(DatabaseError::Query(e));
        let session = self.pool.get().await?;
        let statement = session.prepare_cached(LEAVES).await.map_err(query)?;
        let parameters: [&(dyn ToSql + Sync); 2] = [&signed(journal.size()), &signed(up_to)];
        let rows = session.query_raw(&statement, parameters).await.map_err(query)?;
        tokio::pin!(rows);
        let mut leaves: HashMap<TenantId, Vec<(u64, Hash)>> = HashMap::new();
        let (mut order, mut milestones) = (Vec::new(), Vec::new());
        let mut full = false;
        while let Some(row) = rows.try_next().await.map_err(query)? {
            let (position, tenant) = (unsigned(row.get(0)), TenantId(row.get::<_, Uuid>(1)));
            full = full || (order.len() >= self.options.tenants_max.max(1) && !leaves.contains_key(&tenant));
            // The rest is read to its end and dropped, so that the session can be used again.
            if full {
                continue;
            }
            if position != journal.size() + 1 {
                return Err(Hole { expected: journal.size() + 1, found: position }.into());
            }
            let leaf = hash(row.get(3))?;
            journal.push(leaf);
            if journal.size().is_multiple_of(self.store.milestone_every()) {
                milestones.push(journal.clone());
            }
            let of_tenant = leaves.entry(tenant).or_insert_with(|| {
                order.push(tenant);
                Vec::new()
            });
            of_tenant.push((unsigned(row.get(2)), leaf));
        }
        if !full && journal.size() < up_to {
            return Err(CheckpointerError::Shorter { expected: up_to, found: journal.size() });
        }
        Ok(News { leaves, order, milestones })
    }

    /// The tenant's tree with new leaves; `None` when the journal does not continue what was signed.
    async fn extended(
        &mut self,
        tenant: TenantId,
        new: &[(u64, Hash)],
    ) -> Result<Option<RightEdge>, CheckpointerError> {
        let Some((first, _)) = new.first() else { return Ok(None) };
        let mut edge = match self.edges.get(&tenant) {
            Some(edge) => edge.clone(),
            None => {
                let (store, verifier) = (self.store.clone(), self.verifier.clone());
                let open = move || store.open(Log::Tenant(tenant), &verifier);
                let kept = tokio::task::spawn_blocking(open).await.map_err(|_| CheckpointerError::Ended)??;
                // Without a checkpoint there is nothing to continue: what is there now is the first evidence.
                let size = kept.as_ref().map_or(first.saturating_sub(1), |k| k.size);
                let edge = self.edge_at(tenant, size).await?;
                if edge.size() != size || kept.is_some_and(|k| k.root != edge.root()) {
                    return Ok(None);
                }
                edge
            }
        };
        if edge.size() + 1 < *first {
            self.push_leaves(&mut edge, tenant, first - 1).await?;
        }
        for (tenant_position, leaf) in new {
            // What is not above the size was signed before the journal's checkpoint could be.
            if *tenant_position == edge.size() + 1 {
                edge.push(*leaf);
            } else if *tenant_position > edge.size() {
                return Ok(None);
            }
        }
        Ok(Some(edge))
    }

    /// The tenant's tree of `size` leaves, or of fewer if the journal has not so many.
    async fn edge_at(&self, tenant: TenantId, size: u64) -> Result<RightEdge, CheckpointerError> {
        let rows = self.pool.query(HEAD, &[&tenant.0, &signed(size)]).await?;
        // A damaged head is no base; the leaves are.
        let head = rows.first().and_then(|row| RightEdge::from_bytes(unsigned(row.get(0)), row.get(1)).ok());
        let mut edge = head.unwrap_or_else(RightEdge::empty);
        self.push_leaves(&mut edge, tenant, size).await?;
        Ok(edge)
    }

    async fn push_leaves(&self, edge: &mut RightEdge, tenant: TenantId, up_to: u64) -> Result<(), CheckpointerError> {
        let page = self.options.positions_max.max(1);
        while edge.size() < up_to {
            let (after, to) = (edge.size(), up_to.min(edge.size() + page));
            let rows = self.pool.query(TENANT_LEAVES, &[&tenant.0, &signed(after), &signed(to)]).await?;
            for row in &rows {
                if unsigned(row.get(0)) != edge.size() + 1 {
                    return Ok(());
                }
                edge.push(hash(row.get(1))?);
            }
            if edge.size() < to {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn hash(bytes: &[u8]) -> Result<Hash, CheckpointerError> {
    bytes.try_into().map_err(|_| CheckpointerError::Leaf(bytes.len()))
}
