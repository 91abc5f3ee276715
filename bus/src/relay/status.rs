//! What the relay tells of itself, for health and metrics.

use tokio::sync::watch;

/// What the relay does now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RelayState {
    /// Another node relays, or this one is only starting or stopping.
    #[default]
    Waiting,
    /// Connected; everything new leaves at once.
    Relaying,
    /// Nothing leaves. The journal goes on, and nothing is lost: degraded, not unready.
    Away { reason: String },
}

/// How the relay stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RelayStatus {
    pub state: RelayState,
    /// Messages acknowledged since the start of this process.
    pub published: u64,
    /// Messages found in the stream already, after a break, and not sent again.
    pub found: u64,
    /// Sessions that ended with an error since the start of this process.
    pub failures: u64,
    /// Journal position up to which everything is acknowledged; 0 before the first session.
    pub position: u64,
    /// Durable events behind which the relay is.
    pub lag: u64,
}

impl RelayStatus {
    pub fn is_connected(&self) -> bool {
        self.state == RelayState::Relaying
    }

    /// Why the relay is degraded, if it is.
    pub fn trouble(&self) -> Option<&str> {
        match &self.state {
            RelayState::Away { reason } => Some(reason),
            RelayState::Waiting | RelayState::Relaying => None,
        }
    }
}

#[derive(Clone, Default)]
struct Notes {
    status: RelayStatus,
    /// Something was acknowledged since it was last asked.
    progress: bool,
}

/// Where the relay writes it.
pub(super) struct Board {
    notes: watch::Sender<Notes>,
}

impl Default for Board {
    fn default() -> Self {
        Board { notes: watch::channel(Notes::default()).0 }
    }
}

impl Board {
    pub(super) fn status(&self, durable: u64) -> RelayStatus {
        let mut status = self.notes.borrow().status.clone();
        status.lag = durable.saturating_sub(status.position);
        status
    }

    pub(super) async fn reached(&self, position: u64) {
        // The sender lives as long as this board.
        let _ = self.notes.subscribe().wait_for(|notes| notes.status.position >= position).await;
    }

    pub(super) fn waiting(&self) {
        self.notes.send_modify(|notes| notes.status.state = RelayState::Waiting);
    }

    /// Whether that is news.
    pub(super) fn away(&self, reason: &str) -> bool {
        let state = RelayState::Away { reason: reason.to_owned() };
        let mut news = false;
        self.notes.send_modify(|notes| {
            notes.status.failures += 1;
            news = notes.status.state != state;
            notes.status.state = state;
        });
        news
    }

    pub(super) fn relaying(&self, position: u64) {
        self.notes.send_modify(|notes| {
            notes.status.state = RelayState::Relaying;
            notes.status.position = position;
        });
    }

    pub(super) fn acknowledged(&self, position: u64, published: u64, found: u64) {
        self.notes.send_modify(|notes| {
            notes.status.position = position;
            notes.status.published += published;
            notes.status.found += found;
            notes.progress = true;
        });
    }

    pub(super) fn take_progress(&self) -> bool {
        let mut progress = false;
        self.notes.send_if_modified(|notes| {
            progress = std::mem::take(&mut notes.progress);
            false
        });
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_news_only_once() {
        let board = Board::default();
        assert!(board.away("gone"));
        assert!(!board.away("gone"));
        assert!(board.away("still gone, otherwise"));
        board.relaying(3);
        assert!(board.away("gone"));
        assert_eq!(board.status(10).failures, 4);
        assert_eq!(board.status(10).lag, 7);
        assert_eq!(board.status(10).trouble(), Some("gone"));
    }
}
