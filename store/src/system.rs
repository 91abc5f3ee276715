//! Time, ids and randomness, as arguments. Nothing below the binary asks the operating system
//! itself; a simulation passes its own.

use chrono::{DateTime, Utc};
use std::sync::Arc;
use uuid::Uuid;

/// Microseconds since the Unix epoch, UTC. The journal's resolution: PostgreSQL's.
pub type Micros = i64;

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Wall clock, µs since the Unix epoch.
    pub wall_us: Micros,
    /// A clock that never jumps and counts through a suspend, µs since an arbitrary start.
    pub mono_us: Micros,
}

pub trait System: Send + Sync + 'static {
    fn now(&self) -> Now;
    fn random(&self, bytes: &mut [u8]);

    /// The wall clock as a timestamp.
    fn utc(&self) -> DateTime<Utc> {
        utc(self.now().wall_us)
    }

    /// A UUIDv7 of the present millisecond.
    fn uuid_v7(&self) -> Uuid {
        let mut random = [0u8; 10];
        self.random(&mut random);
        let ms = u64::try_from(self.now().wall_us / 1_000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
    }

    /// A random UUIDv4.
    fn uuid_v4(&self) -> Uuid {
        let mut random = [0u8; 16];
        self.random(&mut random);
        uuid::Builder::from_random_bytes(random).into_uuid()
    }
}

/// How everything takes it: shared, behind one pointer.
pub type SharedSystem = Arc<dyn System>;

pub fn utc(us: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The operating system's clocks and randomness.
pub struct Real;

impl System for Real {
    // The one place where the clock is asked.
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Now {
        let wall = Utc::now();
        // Boot time, not monotonic: the latter stands still while a laptop sleeps, and waking up
        // would look like a jump of the wall clock.
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Now { wall_us: wall.timestamp_micros(), mono_us: boot.tv_sec * 1_000_000 + boot.tv_nsec / 1_000 }
    }

    fn random(&self, bytes: &mut [u8]) {
        // Without randomness no key and no id is safe; there is nothing sensible to do but stop.
        getrandom::fill(bytes).expect("the operating system gives no random bytes");
    }
}
