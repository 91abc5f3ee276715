//! What was told holds across a crash of the server: a set of lanes leaves the next one what it must show again, and readers
//! wait for that. `docs/decisions/0010-lives.md` has the proof.

use super::{LaneSet, LaneState, Lanes, Progress, chosen};
use crate::engine::life::Life;
use std::time::Duration;
use tokio::time::Instant;

/// How long readers wait, all in all, for what a crash took back.
const AGAIN_MAX: Duration = Duration::from_secs(5);

impl LaneSet {
    /// What the set that takes this one's place in a lane must have reached before it vouches for anything.
    pub(super) fn leaves(&self, lane: u16, version: u32, life: Option<Life>) -> u64 {
        // In the same life nothing is gone. Of another one only commits are, and the checkpoint is where they are: what a lane
        // has passed since changed nothing.
        let floor = |lane: u16| {
            let floor = self.lanes[usize::from(lane)].borrow().floor;
            if life.is_some() && life == self.life { floor } else { floor.max(self.stored(lane)) }
        };
        // Another version may have other lanes.
        if version == self.version { floor(lane) } else { (0..self.count()).map(floor).max().unwrap_or(0) }
    }

    /// Waits until a reader finds itself in another life of the server.
    pub(in crate::engine) async fn is_doubted(&self) {
        self.doubt.notified().await;
    }
}

impl Progress {
    /// Waits until a reader finds the lanes of a read model to be of another life of the server.
    pub(in crate::engine) async fn is_doubted(&self, name: &'static str) {
        let set = self.model(name).lanes.borrow().clone();
        set.is_doubted().await;
    }

    /// In which life of the server these lanes of each read model show everything that was told of them here; none
    /// where they do not, yet. A snapshot that is taken in that life after this shows it as well.
    pub(crate) fn lives(&self, lanes: Lanes) -> Vec<(&'static str, Option<Life>)> {
        let told = self.models.iter().map(|(name, model)| (*name, model.lanes.borrow().clone()));
        told.filter(|(_, set)| set.version > 0)
            .map(|(name, set)| (name, set.life.filter(|_| chosen(&set, lanes).all(|lane| shows_all(&lane.borrow())))))
            .collect()
    }

    /// Waits until it is worth looking again, for who has found these read models wanting in a snapshot of some life. `false`:
    /// it takes too long, for everybody who asks.
    pub(crate) async fn again(&self, names: &[&'static str], lanes: Lanes, life: Option<Life>) -> bool {
        for name in names {
            if !self.one_again(name, lanes, life).await {
                return false;
            }
        }
        true
    }

    async fn one_again(&self, name: &'static str, lanes: Lanes, life: Option<Life>) -> bool {
        let mut current = self.model(name).lanes.subscribe();
        let set = current.borrow_and_update().clone();
        let deadline = *set.doubted.get_or_init(Instant::now) + AGAIN_MAX;
        if Instant::now() >= deadline {
            return false;
        }
        let again = async {
            if set.life.is_none() || set.life != life {
                set.doubt.notify_one();
                let _ = current.changed().await;
                return;
            }
            for lane in chosen(&set, lanes) {
                let mut lane = lane.subscribe();
                tokio::select! {
                    _ = lane.wait_for(shows_all) => {}
                    _ = current.changed() => return,
                }
            }
        };
        tokio::time::timeout_at(deadline, again).await.is_ok()
    }
}

fn shows_all(lane: &LaneState) -> bool {
    lane.position >= lane.floor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(name: u128) -> Option<Life> {
        Some(Life::named(name))
    }

    fn lives(progress: &Progress) -> Vec<Option<Life>> {
        progress.lives(Lanes::All).into_iter().map(|(_, life)| life).collect()
    }

    #[test]
    fn a_set_of_the_next_life_vouches_for_nothing_before_it_shows_what_was_told() {
        let progress = Progress::new(["tally"].into_iter());
        assert_eq!(lives(&progress), [], "nothing was told");
        let set = progress.begin("tally", 1, life(1), &[5, 7], Vec::new());
        assert_eq!(lives(&progress), [life(1)]);
        set.set_stored(0, 9);
        set.set_position(0, 9);
        // Of no interest to the lane, so of none to its rows.
        assert!(set.advance_from(1, 7, 12));
        // The same life, read again: nothing can be gone.
        progress.begin("tally", 1, life(1), &[9, 7], Vec::new());
        assert_eq!(lives(&progress), [life(1)]);
        // The next one has lost the last commit of a lane.
        let set = progress.begin("tally", 1, life(2), &[8, 7], Vec::new());
        assert_eq!(lives(&progress), [None]);
        // Another crash, before it is there again.
        progress.begin("tally", 1, life(3), &[8, 7], Vec::new());
        set.set_position(0, 9);
        assert_eq!(lives(&progress), [None]);
        // Another version, with other lanes: all of them wait for what any has told.
        let set = progress.begin("tally", 2, life(3), &[8, 8, 9], Vec::new());
        set.set_position(0, 9);
        assert_eq!(lives(&progress), [None]);
        set.set_position(1, 10);
        assert_eq!(lives(&progress), [life(3)]);
    }

    #[test]
    fn where_a_life_has_no_name_nothing_is_vouched_for() {
        let progress = Progress::new(["tally"].into_iter());
        progress.begin("tally", 1, None, &[5], Vec::new());
        progress.begin("tally", 1, None, &[5], Vec::new());
        assert_eq!(lives(&progress), [None]);
    }
}
