//! The lease row: who may try to write, and whose backend has to be gone before.

use crate::database::{Lease, Record};
use crate::server::ConnId;
use crate::world::{Planted, World, trace};
use daybook_store::journal::machine::{Backend, SessionInput};

impl World {
    pub(crate) fn take_lease(&mut self, conn: ConnId, node: usize) -> SessionInput {
        let (lease, clock) = (self.db.tables.lease.clone(), self.database_clock());
        if lease.holder != Some(node) && lease.expires_us >= clock {
            self.count("lease_held");
            return SessionInput::LeaseHeld { retry_in_us: lease.expires_us - clock };
        }
        let epoch = lease.epoch + 1;
        self.count(if lease.holder == Some(node) { "lease_taken_again" } else { "lease_taken_over" });
        trace!(self, "server: node {node} takes the lease, epoch {epoch}");
        if let Some(conn) = self.server.conns.get_mut(&conn) {
            conn.epoch = epoch;
        }
        // The old backend stays named until it is known to be gone: the next taker may not rely on
        // this one's having seen to it.
        let forgets = self.settings.planted == Some(Planted::LeaseForgets);
        let backend = if forgets { Some(self.writer_backend(conn)) } else { lease.backend.clone() };
        self.db.commit_durably(Record::Lease(Lease {
            epoch,
            holder: Some(node),
            backend,
            expires_us: clock + self.config.lease_ttl_us,
        }));
        if self.server.lost_grants > 0 {
            self.server.lost_grants -= 1;
            self.lose(conn);
        }
        SessionInput::LeaseGranted { epoch, previous: lease.backend }
    }

    pub(crate) fn holds_lease(&self, control: ConnId) -> bool {
        let (lease, conn) = (&self.db.tables.lease, &self.server.conns[&control]);
        lease.holder == Some(conn.node) && lease.epoch == conn.epoch
    }

    /// The backend of the writer's connection in the session of a control connection: opened just before it.
    pub(crate) fn writer_backend(&self, control: ConnId) -> Backend {
        self.server.conns[&(control - 1)].backend.clone()
    }
}
